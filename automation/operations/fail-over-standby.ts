/**
 * The standby's part of a failover: it takes over, serves, gives what it has to the machine that replaces it, and goes back to rest. What
 * its machine does for that is automation/standby/take-over.ts's.
 */
import { MusterError } from '../../domain/error-table.ts';
import { beginSnapshot } from '../../db/accept-snapshot.ts';
import { appendAudit, SYSTEM } from '../../db/audit.ts';
import { setEndpoint } from '../../db/endpoints.ts';
import { lockFailover, updateFailover } from '../../db/failovers.ts';
import { lockInstance, updateInstance } from '../../db/instances.ts';
import { wakeOperation } from '../../db/operations.ts';
import { findSnapshot, latestVerified } from '../../db/snapshots.ts';
import { findStandby, type StandbyRow } from '../../db/standbys.ts';
import { setWriter } from '../../db/workspaces.ts';
import { demoteStandby, promoteStandby } from '../standby/take-over.ts';
import { applyTo, enter, wait, type Episode } from './fail-over-step.ts';
import type { StepContext, StepResult } from './step.ts';

const RECHECK_MS = 1_000;
/** A standby that is silent for so long gives nothing any more: what was verified before must do. */
const MAX_SILENCE_MS = 60_000;
/** For its last snapshot, tried again where one fails. */
const LAST_SNAPSHOT_PATIENCE_MS = 10 * 60_000;
/** From the beginning of one to that of the next: where the store is away each fails at once. */
const LAST_SNAPSHOT_RETRY_MS = 15_000;

/** null: it serves, or could not be promoted and another machine is to be restored directly. */
export async function promote(context: StepContext, { failover, instance }: Episode): Promise<StepResult | null> {
  const order = { standbyId: failover.standby_id as string, operationId: context.operation.id };
  const taken = await applyTo(context, async (tx) => {
    await lockInstance(tx, instance.id);
    const held = await lockFailover(tx, failover.id);
    if (held?.phase !== 'promoting') return null;
    const step = await promoteStandby(tx, context, order);
    if (step.kind === 'done') {
      await enter(context, tx, held, 'serving', {
        snapshot_id: step.snapshotId,
        recovery_point_at: step.recoveryPointAt,
        serving_at: context.now(),
        note: 'the standby serves',
      });
    } else if (step.kind === 'failed') {
      const note = `the standby did not take over: ${step.detail}`;
      await updateFailover(tx, held.id, { mode: 'replace', note });
      await updateInstance(tx, instance.id, { note, restoreSnapshotId: held.snapshot_id });
      await enter(context, tx, held, 'fencing', { note });
    }
    return step;
  });
  if (taken?.kind === 'done') context.crashPoint('failover_promoted');
  return taken?.kind === 'wait' ? { kind: 'wait', until: taken.until, note: taken.note } : null;
}

/** By a person, by its policy, or because nobody else is left. */
export async function shouldFailBack(context: StepContext, { failover }: Episode): Promise<boolean> {
  if (failover.failback === 'automatic' || failover.failback_requested_at !== null) return true;
  const standby = await readStandby(context, failover.standby_id);
  if (!standby?.node_id) return true;
  const watch = await context.db
    .selectFrom('node_watches')
    .select('verdict')
    .where('node_id', '=', standby.node_id)
    .executeTakeFirst();
  return watch?.verdict === 'dead';
}

/**
 * The machine that replaces it waits for its files (see isRestoreHeld): the standby's last snapshot is taken and read back, and the standby
 * writes no more. What it wrote while that was done is lost. null: the restore may begin.
 */
export async function fetchFromStandby(context: StepContext, episode: Episode): Promise<StepResult | null> {
  const { failover } = episode;
  const standby = await readStandby(context, failover.standby_id);
  const since = Date.parse(failover.phase_at.provisioning ?? failover.created_at.toISOString());
  const isAlive = standby?.node_id != null && silenceOf(context, standby) < MAX_SILENCE_MS;
  if (!isAlive) return release(context, episode, null, 'the standby is silent: what was verified before is restored');
  const snapshotId = failover.failback_snapshot_id;
  if (snapshotId === null) return takeLast(context, episode, standby);
  const snapshot = await findSnapshot(context.db, null, snapshotId);
  if (snapshot?.status === 'verified') return release(context, episode, snapshotId, null);
  if (snapshot && ['taking', 'taken', 'verifying'].includes(snapshot.status))
    return wait(context, RECHECK_MS, `the last snapshot of the standby is ${snapshot.status}`);
  if (context.now().getTime() - since > LAST_SNAPSHOT_PATIENCE_MS) {
    const why = snapshot?.failure_detail ?? 'it is unknown';
    return release(context, episode, null, `no last snapshot of the standby could be taken: ${why}`);
  }
  const leftMs = (snapshot?.created_at.getTime() ?? 0) + LAST_SNAPSHOT_RETRY_MS - context.now().getTime();
  if (leftMs > 0)
    return wait(context, leftMs, `the last snapshot of the standby failed: ${snapshot?.failure_detail ?? 'unknown'}`);
  return takeLast(context, episode, standby);
}

async function takeLast(
  context: StepContext,
  { failover, instance }: Episode,
  standby: StandbyRow,
): Promise<StepResult> {
  try {
    await applyTo(context, async (tx) => {
      await lockInstance(tx, instance.id);
      const held = await lockFailover(tx, failover.id);
      if (!held || held.failback_snapshot_id !== failover.failback_snapshot_id) return;
      const snapshotId = await beginSnapshot(tx, context.queue, {
        instanceId: instance.id,
        nodeId: standby.node_id as string,
        cause: 'failover',
        operationId: context.operation.id,
      });
      await updateFailover(tx, held.id, { failback_snapshot_id: snapshotId });
    });
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    return wait(context, RECHECK_MS, `the standby's last snapshot cannot begin: ${error.detail}`);
  }
  return wait(context, RECHECK_MS, 'the last snapshot of the standby is taken');
}

/**
 * From here on nobody writes until the machine is restored. The standby serves on, and nothing of it is saved: where that takes longer than
 * the workspace's promise, its schedule says so. @param snapshotId null: the newest that was verified */
async function release(
  context: StepContext,
  { failover, instance }: Episode,
  snapshotId: string | null,
  note: string | null,
): Promise<null> {
  await applyTo(context, async (tx) => {
    const now = await lockInstance(tx, instance.id);
    const held = await lockFailover(tx, failover.id);
    if (held?.phase !== 'provisioning' || now?.winner_attempt_id == null) return;
    await setWriter(tx, instance.id, null);
    const restored = snapshotId ?? (await latestVerified(tx, instance.id))?.id ?? null;
    await updateInstance(tx, instance.id, { restoreSnapshotId: restored });
    await enter(context, tx, held, 'restoring', { replacement_attempt_id: now.winner_attempt_id, note });
    if (note !== null) {
      const detail = { failoverId: held.id, note, snapshotId: restored };
      const about = { orgId: held.org_id, targetKind: 'instance', targetId: instance.id };
      await appendAudit(tx, { ...about, actor: SYSTEM, action: 'instance.fail_back_without_last', detail });
    }
  });
  // Not in there: whoever works on the provision holds its row before the instance's.
  if (failover.provision_id !== null) await wakeOperation(context.db, context.queue, failover.provision_id);
  context.crashPoint('failover_released');
  return null;
}

/**
 * The machine that was to replace it could not be restored: a standby that lives writes again until the next one is there, and gives its
 * files anew then. Whether it does.
 */
export async function returnToStandby(context: StepContext, { failover, instance }: Episode): Promise<boolean> {
  const standby = await readStandby(context, failover.standby_id);
  if (standby?.status !== 'serving' || silenceOf(context, standby) >= MAX_SILENCE_MS) return false;
  return applyTo(context, async (tx) => {
    const now = await lockInstance(tx, instance.id);
    const held = await lockFailover(tx, failover.id);
    // Where the next machine is being restored already, it will have what the standby gave.
    const isLeft = now?.winner_attempt_id !== held?.replacement_attempt_id && now?.restore_operation_id == null;
    if (held?.phase !== 'restoring' || !isLeft) return false;
    await setWriter(tx, instance.id, { standbyId: standby.id });
    return enter(context, tx, held, 'provisioning', {
      replacement_attempt_id: null,
      failback_snapshot_id: null,
      note: 'the machine could not be restored: the standby goes on, and another machine is looked for',
    });
  });
}

/** null: it is at rest, or will never be by us. */
export async function restStandby(context: StepContext, { failover }: Episode): Promise<StepResult | null> {
  const standby = await readStandby(context, failover.standby_id);
  if (!standby || !['promoting', 'serving', 'demoting'].includes(standby.status)) return null;
  const order = { standbyId: standby.id, operationId: context.operation.id };
  const step = await applyTo(context, (tx) =>
    standby.status === 'promoting' ? promoteStandby(tx, context, order) : demoteStandby(tx, context, order),
  );
  if (step.kind === 'wait') return { kind: 'wait', until: step.until, note: step.note };
  return standby.status === 'promoting' ? wait(context, RECHECK_MS, 'the standby goes to rest') : null;
}

/** Of an instance that is being destroyed: nobody serves it. */
export async function leaveStandby(context: StepContext, episode: Episode): Promise<StepResult | null> {
  const waiting = await restStandby(context, episode);
  if (waiting) return waiting;
  await applyTo(context, (tx) => setEndpoint(tx, episode.instance.id, { kind: 'none' }));
  return null;
}

/** In milliseconds. */
function silenceOf(context: StepContext, standby: StandbyRow): number {
  return context.now().getTime() - (standby.node_heartbeat_at?.getTime() ?? 0);
}

function readStandby(context: StepContext, standbyId: string | null): Promise<StandbyRow | undefined> {
  return standbyId === null ? Promise.resolve(undefined) : findStandby(context.db, null, standbyId);
}
