/**
 * Declaring the winner of an instance: its first attempt that is recorded ready, in the transaction that records it, so that its rivals
 * are handed to their destroys at once, whatever the operation that bought them is still doing.
 */
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { isBuyingForOthers, lockRivals } from '../../db/attempts.ts';
import type { Tx } from '../../db/database.ts';
import { lockInstance, setInstanceStatus } from '../../db/instances.ts';
import { appendEvents, interruptOperation } from '../../db/operations.ts';
import type { Queue } from '../../db/queue.ts';
import { claimFirstWriter } from '../../db/workspaces.ts';

/**
 * Returns how many rivals lost; null where the instance has a winner already or is ending. The caller holds the row of the instance's
 * operation: operation, instance, attempts is the order of locks.
 */
export async function declareWinner(
  tx: Tx,
  queue: Queue,
  { instanceId, attemptId }: { instanceId: string; attemptId: string },
): Promise<{ losers: number } | null> {
  const instance = await lockInstance(tx, instanceId);
  if (!instance || instance.winner_attempt_id !== null) return null;
  // With files to come back it has its machine now, and is ready when they are there (operations/restore-winner.ts).
  const isRestored = instance.restore_snapshot_id === null;
  const phase = isRestored ? ('active' as const) : ('restoring' as const);
  const change = { phase, note: null, winnerAttemptId: attemptId };
  if (!(await setInstanceStatus(tx, instanceId, isRestored ? 'ready' : 'booting', change))) return null;
  if (isRestored) await claimFirstWriter(tx, instanceId, attemptId);
  const status = isRestored ? 'ready' : instance.status;
  await appendEvents(tx, instance.operation_id, [{ type: 'instance', data: { instanceId, status, phase, attemptId } }]);
  const rivals = await lockRivals(tx, instanceId, attemptId);
  const failure = { code: 'canceled', detail: `lost the race: ${attemptId} was ready first` };
  for (const rival of rivals) {
    await acceptAttemptDestroy(tx, queue, rival, { failure, by: instance.operation_id });
  }
  // An engine run that buys for losers alone only holds the stack that their destroys wait for.
  const isBuying = rivals.some(({ status }) => status === 'reserved' || status === 'buying');
  if (isBuying && !(await isBuyingForOthers(tx, instance.operation_id, instanceId))) {
    await interruptOperation(tx, instance.operation_id);
  }
  return { losers: rivals.length };
}
