/**
 * What a failover restores, where it did not work: the snapshot was proven when it was taken, and what the store has of it may have been
 * damaged since. It is read back once more, and where it does not hold, the newest that does takes its place.
 */
import { beginVerification } from '../../db/accept-snapshot.ts';
import { appendAudit, SYSTEM } from '../../db/audit.ts';
import { lockFailover, updateFailover, type FailoverRow } from '../../db/failovers.ts';
import { lockInstance, updateInstance } from '../../db/instances.ts';
import { findSnapshot, latestVerified, lockSnapshot } from '../../db/snapshots.ts';
import { applyTo, wait, type Episode } from './fail-over-step.ts';
import type { StepContext, StepResult } from './step.ts';

/** Nothing wakes it when a snapshot was read back. */
const RECHECK_MS = 2_000;
/** A person may bring back what the store has lost. */
const HOPELESS_MS = 300_000;

/** @param endedAt when the last provision did. null: what the next machine is to be restored from holds, as far as anybody knows. */
export async function proveAgain(context: StepContext, episode: Episode, endedAt: number): Promise<StepResult | null> {
  const { failover, instance } = episode;
  const snapshotId = instance.restore_snapshot_id;
  if (snapshotId === null || !(await hasFailedRestores(context, failover))) return null;
  const snapshot = await findSnapshot(context.db, null, snapshotId);
  if (snapshot?.status !== 'verified') return restoreOlder(context, episode);
  if ((snapshot.verified_at?.getTime() ?? 0) > endedAt) return null;
  await applyTo(context, async (tx) => {
    const now = await lockSnapshot(tx, snapshotId);
    if (now?.status === 'verified') await beginVerification(tx, context.queue, { snapshotId });
  });
  return wait(context, RECHECK_MS, 'machines could not be restored: its snapshot is read back again');
}

async function hasFailedRestores(
  context: StepContext,
  { instance_id: id, provision_id: last }: FailoverRow,
): Promise<boolean> {
  const row = await context.db
    .selectFrom('attempts')
    .innerJoin('operations', (join) => join.on('operations.id', '=', last ?? ''))
    .select('attempts.id')
    .where('attempts.instance_id', '=', id)
    .where('attempts.failure_code', '=', 'restore_failed')
    .whereRef('attempts.created_at', '>=', 'operations.created_at')
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** The newest that holds, however old: its age is in the record of the failover. */
async function restoreOlder(context: StepContext, { failover, instance }: Episode): Promise<StepResult | null> {
  const older = await latestVerified(context.db, instance.id);
  if (!older) return wait(context, HOPELESS_MS, 'none of its snapshots holds any more: it cannot be restored');
  const note = `${instance.restore_snapshot_id} does not hold any more: ${older.id} is restored`;
  await applyTo(context, async (tx) => {
    const now = await lockInstance(tx, instance.id);
    const held = await lockFailover(tx, failover.id);
    if (held?.finished_at !== null || now?.restore_snapshot_id !== instance.restore_snapshot_id) return;
    await updateInstance(tx, instance.id, { restoreSnapshotId: older.id, note });
    await updateFailover(tx, held.id, { snapshot_id: older.id, recovery_point_at: older.data_at, note });
    await appendAudit(tx, {
      orgId: held.org_id,
      actor: SYSTEM,
      action: 'instance.fail_over_older',
      targetKind: 'instance',
      targetId: instance.id,
      detail: { failoverId: held.id, damaged: instance.restore_snapshot_id, snapshotId: older.id },
    });
  });
  return null;
}
