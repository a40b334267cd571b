/**
 * Hibernating: a snapshot is taken, read back by us, and only then the machine is destroyed, by the ordinary way; it sleeps when the
 * provider said not-found. Until the snapshot is verified nothing is lost by giving up: the instance stays ready, and says why. Whether
 * it sleeps is not decided here, and waking is provision-instance.ts's.
 */
import { judgeIdle } from '../../domain/idle.ts';
import { MusterError, type ErrorCode } from '../../domain/error-table.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { stayAwake } from '../../db/accept-hibernate.ts';
import { beginSnapshot, cancelSnapshot } from '../../db/accept-snapshot.ts';
import { listAttemptsById, listAttemptsOfInstances, lockAttemptStatus, type AttemptRow } from '../../db/attempts.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import {
  findHibernationOf,
  markAsleep,
  markReleasing,
  setSnapshot,
  type HibernationRow,
} from '../../db/hibernations.ts';
import { readIdleInput } from '../../db/idle-instances.ts';
import { lockInstance, setInstanceStatus, updateInstance, type InstanceRow } from '../../db/instances.ts';
import { findNodeOfAttempt } from '../../db/nodes.ts';
import { appendEvents, findOperation, finishOperation, withClaim } from '../../db/operations.ts';
import { findSnapshot, lockSnapshot, type SnapshotRow } from '../../db/snapshots.ts';
import { countLeaving } from '../../db/sleeping-pods.ts';
import { lockWorkspace, setWriter } from '../../db/workspaces.ts';
import type { StepContext, StepResult } from './step.ts';

/** Whoever ends what is waited for wakes the operation; this bounds a lost wake. */
const RECHECK_MS = 15_000;
/** How long a node may be silent before its snapshot is given up: then it is a case for failover, which must find it awake. */
const MAX_SILENCE_MS = 2 * 60_000;
/** A snapshot that cannot begin now, because another one is under way, is tried again for so long. */
const BEGIN_PATIENCE_MS = 30 * 60_000;
/** Longer than the grace that containers are given. */
const PODS_PATIENCE_MS = 3 * 60_000;
const PODS_RECHECK_MS = 1_000;
const APPLY_PATIENCE_MS = 10_000;

interface Failure {
  code: string;
  detail: string;
}

export async function hibernateInstance(context: StepContext): Promise<StepResult> {
  context.crashPoint('hibernate_claimed');
  const sleep = await findHibernationOf(context.db, context.operation.id);
  if (!sleep) return { kind: 'fail', error: { code: 'not_found', detail: 'the hibernation has no record' } };
  switch (sleep.status) {
    case 'copying':
      return copy(context, sleep);
    case 'releasing':
      return release(context, sleep);
    case 'ended':
      return end(context, 'canceled', { code: 'canceled', detail: 'its instance is destroyed' });
    case 'failed':
      return end(context, sleep.failure_code === 'canceled' ? 'canceled' : 'failed', {
        code: sleep.failure_code ?? 'snapshot_failed',
        detail: sleep.failure_detail ?? 'it stayed awake',
      });
    default:
      return { kind: 'done', note: 'hibernated' };
  }
}

/** Until the snapshot is verified. */
async function copy(context: StepContext, sleep: HibernationRow): Promise<StepResult> {
  const canceled = await findCancel(context);
  if (canceled !== null) return stay(context, sleep, { code: 'canceled', detail: canceled });
  if (context.cancel.aborted) return { kind: 'release' };
  if (sleep.snapshot_id === null) return begin(context, sleep);
  const snapshot = await findSnapshot(context.db, null, sleep.snapshot_id);
  if (!snapshot || ['failed', 'deleting', 'deleted'].includes(snapshot.status))
    return stay(context, sleep, failureOf(snapshot));
  if (snapshot.status === 'verified') return giveUpMachine(context, sleep);
  const node = await findNodeOfAttempt(context.db, sleep.attempt_id);
  const silentMs = context.now().getTime() - (node?.heartbeat_at?.getTime() ?? 0);
  if (snapshot.status === 'taking' && (!node || silentMs > MAX_SILENCE_MS))
    return stay(context, sleep, { code: 'snapshot_failed', detail: 'its node was silent while its files were copied' });
  return wait(context, `its snapshot is ${snapshot.status}`);
}

async function begin(context: StepContext, sleep: HibernationRow): Promise<StepResult> {
  const node = await findNodeOfAttempt(context.db, sleep.attempt_id);
  if (!node)
    return stay(context, sleep, {
      code: 'snapshot_store_unreachable',
      detail: 'its machine carries no agent any more',
    });
  const pods = await countLeaving(context.db, node.id);
  if (pods > 0) return awaitPods(context, sleep, pods);
  try {
    await apply(context, async (tx) => {
      if (!(await lockSleeping(tx, sleep))) return;
      const snapshotId = await beginSnapshot(tx, context.queue, {
        instanceId: sleep.instance_id,
        nodeId: node.id,
        cause: 'hibernate',
        operationId: context.operation.id,
      });
      await setSnapshot(tx, sleep.id, snapshotId);
      await updateInstance(tx, sleep.instance_id, {
        note: 'its files are copied and read back before it is destroyed',
      });
    });
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    const isPatient = context.now().getTime() - sleep.began_at.getTime() < BEGIN_PATIENCE_MS;
    if (error.code === 'conflict' && isPatient) return wait(context, error.detail);
    return stay(context, sleep, { code: error.code, detail: error.detail });
  }
  context.crashPoint('snapshot_ordered');
  return wait(context, 'its snapshot is taken');
}

/** What they write after the snapshot would be lost: it begins when they have ended. */
async function awaitPods(context: StepContext, sleep: HibernationRow, pods: number): Promise<StepResult> {
  const now = context.now().getTime();
  const what = `${pods} ${pods === 1 ? 'pod has' : 'pods have'} not ended`;
  if (now - sleep.began_at.getTime() > PODS_PATIENCE_MS)
    return stay(context, sleep, { code: 'snapshot_failed', detail: `${what} in time` });
  return { kind: 'wait', until: new Date(now + PODS_RECHECK_MS), note: `${what} yet` };
}

/** The one place where a machine that holds files is given up: everything that must be so is looked at again under the locks. */
async function giveUpMachine(context: StepContext, sleep: HibernationRow): Promise<StepResult> {
  const outcome = await apply(context, async (tx): Promise<'released' | 'gone' | Failure> => {
    const instance = await lockSleeping(tx, sleep);
    if (!instance) return 'gone';
    const objection = (await findObjection(tx, sleep)) ?? (await findActivity(tx, sleep, instance));
    if (objection !== null) return objection;
    const [attempt] = await listAttemptsById(tx, [sleep.attempt_id]);
    if (!attempt) return { code: 'internal', detail: 'its machine has no record' };
    await setWriter(tx, sleep.instance_id, null);
    await markReleasing(tx, sleep.id);
    await setInstanceStatus(tx, sleep.instance_id, 'hibernating', {
      phase: 'releasing',
      note: 'its files are safe; its machine is destroyed',
      winnerAttemptId: null,
      restoreSnapshotId: sleep.snapshot_id,
    });
    const failure = { code: 'hibernated', detail: `${sleep.instance_id} hibernates` };
    await acceptAttemptDestroy(tx, context.queue, attempt, { failure, by: context.operation.id });
    await appendEvents(tx, context.operation.id, [
      {
        type: 'instance',
        data: {
          instanceId: sleep.instance_id,
          status: 'hibernating',
          phase: 'releasing',
          snapshotId: sleep.snapshot_id,
        },
      },
    ]);
    return 'released';
  });
  if (outcome === 'gone') return wait(context, 'its instance is no longer what it was');
  if (outcome !== 'released') return stay(context, sleep, outcome);
  context.crashPoint('hibernate_released');
  return wait(context, 'its machine is destroyed');
}

/** The snapshot must be the one that was asked for: verified, of this machine as the writer, and begun after the hibernation was. */
async function findObjection(tx: Tx, sleep: HibernationRow): Promise<Failure | null> {
  const workspace = await lockWorkspace(tx, sleep.instance_id);
  const snapshot = await lockSnapshot(tx, sleep.snapshot_id as string);
  const node = await findNodeOfAttempt(tx, sleep.attempt_id);
  const detail = !workspace
    ? 'it has no workspace any more'
    : snapshot?.status !== 'verified'
      ? describeSnapshot(snapshot)
      : snapshot.instance_id !== sleep.instance_id || snapshot.node_id !== node?.id
        ? 'the snapshot is of another machine'
        : workspace.writer_attempt_id !== sleep.attempt_id || snapshot.epoch !== workspace.epoch
          ? 'another machine has written its workspace since'
          : snapshot.created_at < sleep.began_at
            ? 'the snapshot is older than the hibernation'
            : null;
  return detail === null ? null : { code: 'snapshot_failed', detail };
}

/** What is put to sleep because it was idle must have stayed so: what it wrote meanwhile is not in the snapshot. */
async function findActivity(tx: Tx, sleep: HibernationRow, instance: InstanceRow): Promise<Failure | null> {
  const wish = (instance.request as ProvisionRequest).hibernateWhenIdle;
  if (sleep.cause !== 'idle' || !wish) return null;
  const input = await readIdleInput(tx, sleep.attempt_id, {
    belowPercent: wish.belowPercent,
    sinceMs: sleep.began_at.getTime(),
  });
  const verdict = judgeIdle(input);
  return verdict.kind === 'idle' ? null : { code: 'canceled', detail: `it may work again: ${verdict.reason}` };
}

/** Until the provider says not-found for everything that was rented for it. */
async function release(context: StepContext, sleep: HibernationRow): Promise<StepResult> {
  if (context.kill.aborted) return { kind: 'release' };
  const attempts = await listAttemptsOfInstances(context.db, [sleep.instance_id]);
  const left = attempts.filter((attempt) => attempt.status !== 'gone');
  if (left.length > 0) {
    await keepDestroying(context, sleep, left);
    return wait(context, `${left.length} ${left.length === 1 ? 'machine is' : 'machines are'} being destroyed`);
  }
  await apply(context, async (tx) => {
    const instance = await lockInstance(tx, sleep.instance_id);
    if (instance?.status !== 'hibernating' || !(await markAsleep(tx, sleep.id, instance.expires_at))) return;
    await setInstanceStatus(tx, instance.id, 'hibernated', { phase: 'asleep', note: null, winnerAttemptId: null });
    await appendEvents(tx, context.operation.id, [
      { type: 'instance', data: { instanceId: instance.id, status: 'hibernated', snapshotId: sleep.snapshot_id } },
    ]);
  });
  context.crashPoint('hibernate_applied');
  return { kind: 'done', note: 'hibernated: nothing is rented, its snapshot stays' };
}

/** Each has its destroy under way; one that was lost with its operation gets another. */
async function keepDestroying(context: StepContext, sleep: HibernationRow, left: AttemptRow[]): Promise<void> {
  const failure = { code: 'hibernated', detail: `${sleep.instance_id} hibernates` };
  for (const attempt of left) {
    await apply(context, async (tx) => {
      const status = await lockAttemptStatus(tx, attempt.id);
      if (status === undefined || status === 'gone') return;
      await acceptAttemptDestroy(tx, context.queue, attempt, { failure, by: context.operation.id });
    });
  }
}

/** Nothing was destroyed. */
async function stay(context: StepContext, sleep: HibernationRow, failure: Failure): Promise<StepResult> {
  await apply(context, async (tx) => {
    const isAwake = await stayAwake(tx, sleep.instance_id, failure);
    if (isAwake && sleep.snapshot_id !== null)
      await cancelSnapshot(tx, context.queue, sleep.snapshot_id, failure.detail);
    // With it: the next hibernation is to have an operation of its own.
    await finish(context, tx, failure.code === 'canceled' ? 'canceled' : 'failed', failure);
  });
  return { kind: 'recorded' };
}

async function end(context: StepContext, status: 'failed' | 'canceled', error: Failure): Promise<StepResult> {
  await apply(context, (tx) => finish(context, tx, status, error));
  return { kind: 'recorded' };
}

function finish(context: StepContext, tx: Tx, status: 'failed' | 'canceled', error: Failure): Promise<void> {
  return finishOperation(tx, context.queue, context.operation.id, status, { error, note: error.detail });
}

async function lockSleeping(tx: Tx, sleep: HibernationRow): Promise<InstanceRow | null> {
  const instance = await lockInstance(tx, sleep.instance_id);
  return instance?.status === 'hibernating' && instance.winner_attempt_id === sleep.attempt_id ? instance : null;
}

async function findCancel(context: StepContext): Promise<string | null> {
  const row = await findOperation(context.db, null, context.operation.id);
  return row?.cancel_requested_at == null ? null : (row.cancel_reason ?? 'canceled');
}

function failureOf(snapshot: SnapshotRow | undefined): Failure {
  const isUnreachable = snapshot?.failure_code === 'store_unreachable';
  const code: ErrorCode = isUnreachable ? 'snapshot_store_unreachable' : 'snapshot_failed';
  return { code, detail: describeSnapshot(snapshot) };
}

function describeSnapshot(snapshot: SnapshotRow | undefined): string {
  if (!snapshot) return 'the snapshot is gone';
  return snapshot.failure_detail ?? `the snapshot is ${snapshot.status}`;
}

function wait(context: StepContext, note: string): StepResult {
  return { kind: 'wait', until: new Date(context.now().getTime() + RECHECK_MS), note };
}

function apply<T>(context: StepContext, work: Parameters<typeof withClaim<T>>[2]): Promise<T> {
  return retryWhileAway(() => withClaim(context.db, context.claim, work), APPLY_PATIENCE_MS);
}
