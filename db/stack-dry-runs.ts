/** Stacks of dry runs (db/stacks.ts `shelveStack`) that nobody can carry out any more: which they are, and forgetting them. */
import { sql } from 'kysely';
import { PLAN_VALID_MS } from '../domain/stack.ts';
import type { Executor, Tx } from './database.ts';
import { acceptOperation } from './operations.ts';
import type { Queue } from './queue.ts';

/** Whose plans have all expired, or that never had one in as long as one holds. */
function forgettable(executor: Executor) {
  return executor
    .selectFrom('stacks')
    .select(['id', 'org_id'])
    .where('title', 'is not', null)
    .where('status', '=', 'created')
    .where('removed_at', '<', sql<Date>`now() - ${PLAN_VALID_MS} * interval '1 millisecond'`)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('stack_plans')
            .select('id')
            .whereRef('stack_plans.stack_id', '=', 'stacks.id')
            .where('expires_at', '>=', sql<Date>`now()`),
        ),
      ),
    );
}

export async function isForgettable(executor: Executor, stackId: string): Promise<boolean> {
  return (await forgettable(executor).where('id', '=', stackId).executeTakeFirst()) !== undefined;
}

/** Asks for an operation for each, because the engine's state is with the workers. Idempotent. @returns how many are asked for */
export async function acceptForgetting(tx: Tx, queue: Queue, limit: number): Promise<number> {
  const stacks = await forgettable(tx).orderBy('removed_at').limit(limit).execute();
  for (const { id, org_id: orgId } of stacks) {
    await acceptOperation(tx, queue, {
      orgId,
      kind: 'forget_dry_run',
      targetKind: 'stack',
      targetId: id,
      stackId: id,
      deterministicKey: `forget_dry_run:${id}`,
      createdBy: 'prune',
    });
  }
  return stacks.length;
}

/** Its operations stay and name it still. */
export async function deleteDryRun(tx: Tx, stackId: string): Promise<void> {
  await tx.updateTable('operations').set({ stack_id: null }).where('stack_id', '=', stackId).execute();
  await tx.deleteFrom('stack_plans').where('stack_id', '=', stackId).execute();
  await tx.deleteFrom('stacks').where('id', '=', stackId).execute();
}
