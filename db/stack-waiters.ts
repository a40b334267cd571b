/** Operations that wait for their stack while a person's update holds it: they go on the moment that it ends. */
import { sql } from 'kysely';
import type { Executor, Tx } from './database.ts';

/** NOTIFY channel: payload is the stack's id. */
export const STACK_FREED_CHANNEL = 'stack_freed';

/** A wait that was for something else ends early too, which is harmless. */
export async function wakeStackWaiters(tx: Tx, stackId: string): Promise<void> {
  await tx
    .updateTable('operations')
    .set({
      woken_at: sql`clock_timestamp()`,
      wait_until: sql`case when wait_until is null then null else now() end`,
    })
    .where('stack_id', '=', stackId)
    .where('status', 'in', ['queued', 'running'])
    .execute();
  await sql`select pg_notify(${STACK_FREED_CHANNEL}, ${stackId})`.execute(tx);
}

/** Those that anybody may take now, oldest first. */
export async function listStackWaiters(executor: Executor, stackId: string): Promise<string[]> {
  const rows = await executor
    .selectFrom('operations')
    .select('id')
    .where('stack_id', '=', stackId)
    .where('status', 'in', ['queued', 'running'])
    .where((eb) => eb.or([eb('lease_expires_at', 'is', null), eb('lease_expires_at', '<=', sql<Date>`now()`)]))
    .where('wait_until', '<=', sql<Date>`now()`)
    .orderBy('created_at')
    .execute();
  return rows.map(({ id }) => id);
}
