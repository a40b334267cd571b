/** Stacks: one per purchase. The engine's state belongs to its backend; this row is what operations and people point at. */
import { sql } from 'kysely';
import type { Executor } from './database.ts';

/** Throws where there is none: a stack's row outlives its instances. */
export async function findStackName(executor: Executor, stackId: string): Promise<string> {
  const row = await executor.selectFrom('stacks').select('name').where('id', '=', stackId).executeTakeFirstOrThrow();
  return row.name;
}

export async function markStackRemoved(executor: Executor, stackId: string): Promise<void> {
  await executor
    .updateTable('stacks')
    .set({ removed_at: sql`coalesce(removed_at, now())` })
    .where('id', '=', stackId)
    .execute();
}
