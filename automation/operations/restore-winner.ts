/**
 * Restoring: an instance that gets back what it had is ready only when its new machine has the files of its snapshot and has checked them.
 * A machine on which that fails is given up for the next one; the instance is never handed out empty. Buying is provision-instance.ts's.
 */
import { MusterError, type ErrorCode } from '../../domain/error-table.ts';
import { isProvisioning } from '../../domain/instance.ts';
import { isFinished } from '../../domain/operation.ts';
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { beginRestore } from '../../db/accept-snapshot.ts';
import { listAttemptsById } from '../../db/attempts.ts';
import { retryWhileAway } from '../../db/database.ts';
import { isRestoreHeld } from '../../db/failover-machines.ts';
import { wakeFailover } from '../../db/failovers.ts';
import { findOpenHibernation, markWoken } from '../../db/hibernations.ts';
import { lockInstance, setInstanceStatus, updateInstance, type InstanceRow } from '../../db/instances.ts';
import { findNodeOfAttempt } from '../../db/nodes.ts';
import { appendEvents, findOperation, withClaim } from '../../db/operations.ts';
import { findWorkspace, setWriter } from '../../db/workspaces.ts';
import type { StackView } from './run-update.ts';
import type { StepContext } from './step.ts';

/** The restore wakes the operation when it ends; this bounds a lost wake and shows progress. */
export const RESTORE_RECHECK_MS = 15_000;
/** On so many machines in a row it is the snapshot or the store, and another machine only costs. */
export const MAX_RESTORE_FAILURES = 3;
const APPLY_PATIENCE_MS = 10_000;

export interface Restoring {
  /** Rows were changed: look at them again. */
  isChanged: boolean;
  /** What is waited for; null: nothing. */
  note: string | null;
  /** Those that no machine could be restored for: the operation says what becomes of them. */
  hopeless: { instanceId: string; reason: string }[];
}

/** Brings every winner of the operation that lacks its files one step further. */
export async function restoreWinners(context: StepContext, view: StackView): Promise<Restoring> {
  const restoring: Restoring = { isChanged: false, note: null, hopeless: [] };
  for (const instance of view.instances) {
    if (instance.operation_id !== context.operation.id) continue;
    const reason = findHopelessness(instance, view);
    if (reason !== null) restoring.hopeless.push({ instanceId: instance.id, reason });
    if (!awaitsFiles(instance)) continue;
    const restore =
      instance.restore_operation_id && (await findOperation(context.db, null, instance.restore_operation_id));
    if (!restore && (await isRestoreHeld(context.db, instance.id)))
      restoring.note = 'the standby that serves gives what it has first';
    else if (!restore) restoring.isChanged = (await beginFor(context, instance)) || restoring.isChanged;
    else if (isFinished(restore.status)) {
      restoring.isChanged = true;
      if (restore.status === 'succeeded') await becomeReady(context, instance);
      else await giveUp(context, instance, restore.error_detail ?? `the restore was ${restore.status}`);
    } else
      restoring.note = restore.note === null ? 'its files are restored' : `its files are restored: ${restore.note}`;
  }
  return restoring;
}

function awaitsFiles(instance: InstanceRow): boolean {
  return (
    instance.restore_snapshot_id !== null &&
    instance.winner_attempt_id !== null &&
    (instance.status === 'booting' || instance.status === 'waking')
  );
}

async function beginFor(context: StepContext, instance: InstanceRow): Promise<boolean> {
  const node = await findNodeOfAttempt(context.db, instance.winner_attempt_id as string);
  if (!node) {
    const detail = 'its machine carries no agent that could restore its files';
    await giveUp(context, instance, detail);
    return true;
  }
  try {
    await apply(context, async (tx) => {
      const now = await lockInstance(tx, instance.id);
      if (!now || !isSameRestore(now, instance) || (await isRestoreHeld(tx, instance.id))) return;
      const restoreOperationId = await beginRestore(tx, context.queue, {
        snapshotId: instance.restore_snapshot_id as string,
        nodeId: node.id,
        operationId: context.operation.id,
      });
      await updateInstance(tx, instance.id, { phase: 'restoring', note: 'its files are restored', restoreOperationId });
    });
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    await giveUp(context, instance, error.detail);
    return true;
  }
  context.crashPoint('restore_ordered');
  return true;
}

/** From here on its new machine writes its snapshots, and nobody else does. */
async function becomeReady(context: StepContext, instance: InstanceRow): Promise<void> {
  await apply(context, async (tx) => {
    const now = await lockInstance(tx, instance.id);
    if (!now || !isSameRestore(now, instance)) return;
    const attemptId = instance.winner_attempt_id as string;
    const change = { phase: 'active' as const, note: null, restoreSnapshotId: null, restoreOperationId: null };
    if (!(await setInstanceStatus(tx, instance.id, 'ready', change))) return;
    if (await findWorkspace(tx, instance.id)) await setWriter(tx, instance.id, { attemptId });
    const sleep = await findOpenHibernation(tx, instance.id);
    if (sleep) await markWoken(tx, sleep.id);
    await appendEvents(tx, context.operation.id, [
      {
        type: 'instance',
        data: { instanceId: instance.id, status: 'ready', attemptId, restored: instance.restore_snapshot_id },
      },
    ]);
  });
  context.crashPoint('restore_applied');
  await retryWhileAway(() => wakeFailover(context.db, context.queue, instance.id), APPLY_PATIENCE_MS);
}

/** Why no further machine is tried; null: one may be. */
function findHopelessness(instance: InstanceRow, view: StackView): string | null {
  if (instance.restore_snapshot_id === null || instance.winner_attempt_id !== null) return null;
  if (!isProvisioning(instance.status)) return null;
  const since = instance.replaced_at ?? instance.created_at;
  const failed = view.attempts.filter(
    (one) => one.instance_id === instance.id && one.failure_code === 'restore_failed' && one.created_at >= since,
  );
  if (failed.length < MAX_RESTORE_FAILURES) return null;
  return `its files could not be restored on ${failed.length} machines. The last: ${failed.at(-1)?.failure_detail}`;
}

/** This machine is given up; the instance looks for its next one. */
async function giveUp(context: StepContext, instance: InstanceRow, reason: string): Promise<void> {
  const detail = `its files could not be restored: ${reason}`;
  await apply(context, async (tx) => {
    const now = await lockInstance(tx, instance.id);
    if (!now || !isSameRestore(now, instance)) return;
    const [attempt] = await listAttemptsById(tx, [instance.winner_attempt_id as string]);
    await setInstanceStatus(tx, instance.id, 'creating', {
      phase: 'purchasing',
      note: detail,
      winnerAttemptId: null,
      restoreOperationId: null,
    });
    const failure = { code: 'restore_failed' satisfies ErrorCode, detail };
    if (attempt) await acceptAttemptDestroy(tx, context.queue, attempt, { failure, by: context.operation.id });
    await appendEvents(tx, context.operation.id, [
      { type: 'progress', data: { instanceId: instance.id, severity: 'warning', message: detail } },
    ]);
  });
  context.crashPoint('restore_given_up');
}

function isSameRestore(now: InstanceRow, seen: InstanceRow): boolean {
  return (
    awaitsFiles(now) &&
    now.operation_id === seen.operation_id &&
    now.winner_attempt_id === seen.winner_attempt_id &&
    now.restore_snapshot_id === seen.restore_snapshot_id &&
    now.restore_operation_id === seen.restore_operation_id
  );
}

function apply<T>(context: StepContext, work: Parameters<typeof withClaim<T>>[2]): Promise<T> {
  return retryWhileAway(() => withClaim(context.db, context.claim, work), APPLY_PATIENCE_MS);
}
