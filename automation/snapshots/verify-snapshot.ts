/** Reading a verified snapshot back once more: it stays verified meanwhile, and is failed where it is not what it was. */
import { inTransaction } from '../../db/database.ts';
import { finishOperation, withClaim } from '../../db/operations.ts';
import { findSnapshot, moveSnapshot } from '../../db/snapshots.ts';
import { beginGeneration, lockWorkspace, type WorkspaceRow } from '../../db/workspaces.ts';
import type { StepContext, StepResult } from '../operations/step.ts';
import { DamagedRepository, openRepositoryOf, RepositoryTrouble } from './repository.ts';
import { isPruning, requireSnapshots, waitWhileBusy } from './snapshot-step.ts';
import { readBack, type ReadBack } from './verify.ts';

const MAX_FAILURES = 8;

/** Kind `verify_snapshot`, target `snapshot`. */
export async function verifySnapshot(context: StepContext): Promise<StepResult> {
  const { db, claim, queue, operation, envelope } = context;
  if (operation.cancel_requested_at !== null) return cancel(context);
  const snapshot = await findSnapshot(db, null, operation.target_id);
  if (snapshot?.status !== 'verified') return { kind: 'done', note: 'it is not verified any more' };
  // Who prunes looks for us in the same way: one of the two waits.
  const workspace = await withClaim(db, claim, async (tx) => {
    const row = (await lockWorkspace(tx, snapshot.instance_id)) as WorkspaceRow;
    return (await isPruning(tx, row, operation.id)) ? null : row;
  });
  if (workspace === null) return waitWhileBusy(context, 'waiting until old data is removed');
  let read: ReadBack;
  try {
    const repository = await openRepositoryOf(
      { envelope, snapshots: requireSnapshots(context) },
      workspace,
      snapshot.generation,
    );
    const claimed = {
      snapshotId: snapshot.id,
      resticId: snapshot.restic_id as string,
      files: snapshot.verified_files as bigint,
      bytes: snapshot.verified_bytes as bigint,
    };
    const signal = AbortSignal.any([context.cancel, context.kill]);
    const reading = requireSnapshots(context).readBacks.use(() => readBack(repository, claimed, signal));
    if (reading === null) return waitWhileBusy(context, 'waiting for its turn');
    read = await reading;
  } catch (error) {
    if (context.cancel.aborted || context.kill.aborted) return { kind: 'release' };
    if (error instanceof RepositoryTrouble) {
      if (operation.failures < MAX_FAILURES) return { kind: 'retry', afterMs: 0, note: error.message };
      return { kind: 'fail', error: { code: 'unavailable', detail: error.message } };
    }
    if (!(error instanceof DamagedRepository)) throw error;
    const failure = { failure_code: 'snapshot_damaged', failure_detail: error.message };
    await inTransaction(db, (tx) => beginGeneration(tx, snapshot.instance_id, snapshot.generation));
    await withClaim(db, claim, async (tx) => {
      await moveSnapshot(tx, snapshot.id, ['verified'], { status: 'failed', ...failure });
      const detail = `snapshot_damaged: ${error.message}`;
      await finishOperation(tx, queue, operation.id, 'failed', {
        error: { code: 'snapshot_failed', detail },
        note: detail,
      });
    });
    return { kind: 'recorded' };
  }
  await withClaim(db, claim, async (tx) => {
    await moveSnapshot(tx, snapshot.id, ['verified'], { status: 'verified', verified_at: context.now() });
    const note = `${read.files} files with ${read.bytes} bytes were read back`;
    await finishOperation(tx, queue, operation.id, 'succeeded', { note });
  });
  return { kind: 'recorded' };
}

async function cancel({ db, claim, queue, operation }: StepContext): Promise<StepResult> {
  const detail = operation.cancel_reason ?? 'canceled';
  await withClaim(db, claim, (tx) =>
    finishOperation(tx, queue, operation.id, 'canceled', { error: { code: 'canceled', detail } }),
  );
  return { kind: 'recorded' };
}
