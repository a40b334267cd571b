/** A stack's state as the state service has it: read, and freed of a person's update. */
import { MusterError } from '../domain/error-table.ts';
import { JournalError } from '../domain/state/journal.ts';
import { AmbiguousAliasError } from '../domain/state/normalize.ts';
import { toStackState, type StackState } from '../domain/state/stack-state.ts';
import type { Actor } from '../db/audit.ts';
import type { Executor, Tx } from '../db/database.ts';
import type { StackRow } from '../db/stacks.ts';
import { findEngineStack } from '../db/state-stacks.ts';
import { readCurrentState } from '../db/state-updates.ts';
import { cancelPersonsUpdate } from '../db/update-history.ts';
import type { StackCanceledReply } from './contract/stacks.ts';
import { isoOrNull } from './reply-values.ts';
import { auditStack } from './stack-view.ts';

/** null: nothing was ever made of it, or nothing is left. Throws MusterError `conflict` where its journal cannot be replayed. */
export async function readHeldState(executor: Executor, { name }: StackRow): Promise<StackState | null> {
  const stack = await findEngineStack(executor, name);
  return stack ? toStackState((await replaying(() => readCurrentState(executor, stack))).deployment) : null;
}

/** null: no person's update holds it. Throws MusterError `conflict` where what that wrote makes no state. */
export async function cancelHolder(tx: Tx, row: StackRow, actor: Actor): Promise<StackCanceledReply['update']> {
  const update = await replaying(() => cancelPersonsUpdate(tx, row.name, `canceled by ${actor.id}`));
  if (!update) return null;
  await auditStack(tx, actor, row, 'stack.cancel', { update: update.id, of: update.requested_by });
  const { id, kind, requested_by: who, started_at: startedAt } = update;
  return { id, kind, who, startedAt: isoOrNull(startedAt) };
}

async function replaying<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof JournalError) && !(error instanceof AmbiguousAliasError)) throw error;
    const detail = `the journal of its last update cannot be replayed (${error.message}): look at what exists and import a state`;
    throw new MusterError('conflict', detail);
  }
}
