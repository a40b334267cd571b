/** The history of a stack of ours: its updates, of our operations and of persons' CLIs, also after it was destroyed. Previews are not in it. */
import { sql, type Selectable } from 'kysely';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';
import { findEngineStack, lockStateStack } from './state-stacks.ts';
import { endStateUpdate, findActiveUpdate, type StateUpdateRow } from './state-updates.ts';

export type HistoryRow = Selectable<Schema['state_updates']> & { who: string };

/** Newest first. */
export function listUpdatesOfStack(
  executor: Executor,
  stackId: string,
  page: { limit: number; before?: { createdAt: Date; id: string } },
): Promise<HistoryRow[]> {
  const { before } = page;
  return updatesOf(executor, stackId)
    .where('u.is_dry_run', '=', false)
    .where('u.kind', '<>', 'preview')
    .where('u.status', '<>', 'not_started')
    .$if(before !== undefined, (query) =>
      query.where(
        sql<boolean>`(u.created_at, u.id) < (${before?.createdAt ?? null}::timestamptz, ${before?.id ?? null})`,
      ),
    )
    .orderBy('u.created_at', 'desc')
    .orderBy('u.id', 'desc')
    .limit(page.limit)
    .execute();
}

/** A preview too. */
export function findUpdateOfStack(executor: Executor, stackId: string, id: string): Promise<HistoryRow | undefined> {
  return updatesOf(executor, stackId).where('u.id', '=', id).executeTakeFirst();
}

/** Who asked for it: of ours whoever asked for its operation. */
function updatesOf(executor: Executor, stackId: string) {
  return executor
    .selectFrom('state_updates as u')
    .leftJoin('operations as o', 'o.id', 'u.operation_id')
    .selectAll('u')
    .select(sql<string>`coalesce(o.created_by, u.requested_by)`.as('who'))
    .where('u.stack_id', '=', stackId);
}

/**
 * Ends the update of a person's CLI that holds the stack, with what it had written; it may write no more.
 * Throws JournalError where what it wrote makes no state. @returns undefined: no person's update holds it
 */
export async function cancelPersonsUpdate(
  tx: Tx,
  stackName: string,
  reason: string,
): Promise<StateUpdateRow | undefined> {
  const found = await findEngineStack(tx, stackName);
  const stack = found && (await lockStateStack(tx, found.uuid));
  const active = stack && (await findActiveUpdate(tx, stack));
  if (!active || active.run_id !== null) return undefined;
  await endStateUpdate(tx, stack, active, 'canceled', reason);
  return active;
}
