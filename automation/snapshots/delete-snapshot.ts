/**
 * Removing the data of deleted snapshots: only the worker does that, and only while nobody adds to the repository or reads from it. New
 * snapshots and restores wait meanwhile.
 */
import { sql } from 'kysely';
import { finishOperation, withClaim } from '../../db/operations.ts';
import { moveSnapshot, type SnapshotRow } from '../../db/snapshots.ts';
import { findWorkspace, lockWorkspace, type WorkspaceRow } from '../../db/workspaces.ts';
import type { Db, Tx } from '../../db/database.ts';
import type { StepContext, StepResult } from '../operations/step.ts';
import { DamagedRepository, openRepositoryOf, RepositoryTrouble, type Repository } from './repository.ts';
import { isPruning, requireSnapshots, waitWhileBusy } from './snapshot-step.ts';
import { measureRepository } from './verify.ts';

const MAX_FAILURES = 20;

/** Kind `delete_snapshot`, target `instance`: all of its snapshots that are `deleting`. */
export async function deleteSnapshot(context: StepContext): Promise<StepResult> {
  const { db, operation } = context;
  const instanceId = operation.target_id;
  const workspace = await findWorkspace(db, instanceId);
  const doomed = await listDeleting(db, instanceId);
  if (!workspace || doomed.length === 0) return finish(context, null);
  if (!(await takeTurn(context, instanceId))) return waitWhileBusy(context, 'waiting for snapshots and restores');
  const signal = AbortSignal.any([context.cancel, context.kill]);
  let stored: bigint | null = null;
  try {
    for (const [generation, rows] of Map.groupBy(doomed, (row) => row.generation)) {
      const bytes = await removeFrom(context, workspace, generation, rows, signal);
      if (generation === workspace.generation) stored = bytes;
    }
  } catch (error) {
    if (context.cancel.aborted || context.kill.aborted) return { kind: 'release' };
    const isOurs = error instanceof RepositoryTrouble || error instanceof DamagedRepository;
    if (!isOurs) throw error;
    if (operation.failures < MAX_FAILURES) return { kind: 'retry', afterMs: 0, note: error.message };
    return { kind: 'fail', error: { code: 'unavailable', detail: error.message } };
  }
  context.crashPoint('snapshot_removed');
  await withClaim(db, context.claim, async (tx) => {
    for (const row of doomed)
      await moveSnapshot(tx, row.id, ['deleting'], { status: 'deleted', deleted_at: context.now() });
  });
  return finish(context, stored);
}

/** From now on nothing new begins; false while something is still under way. */
async function takeTurn({ db, claim, operation }: StepContext, instanceId: string): Promise<boolean> {
  return withClaim(db, claim, async (tx) => {
    const workspace = (await lockWorkspace(tx, instanceId)) as WorkspaceRow;
    if (await isPruning(tx, workspace, operation.id)) return false;
    await tx
      .updateTable('workspaces')
      .set({ pruning_operation_id: operation.id })
      .where('instance_id', '=', instanceId)
      .execute();
    return !(await isInUse(tx, instanceId));
  });
}

async function isInUse(tx: Tx, instanceId: string): Promise<boolean> {
  const taking = await tx
    .selectFrom('snapshots')
    .select('id')
    .where('instance_id', '=', instanceId)
    .where((eb) =>
      eb.or([
        eb('status', 'in', ['taken', 'verifying']),
        eb.and([eb('status', '=', 'taking'), eb('order_id', 'is not', null)]),
      ]),
    )
    .executeTakeFirst();
  if (taking) return true;
  // One that only waits for us holds no lease.
  const verifying = await tx
    .selectFrom('operations')
    .select('id')
    .where('kind', '=', 'verify_snapshot')
    .where('status', '=', 'running')
    .where('lease_expires_at', '>', sql<Date>`now()`)
    .where(sql<boolean>`input->>'instanceId' = ${instanceId}`)
    .executeTakeFirst();
  if (verifying) return true;
  const reading = await tx
    .selectFrom('node_orders')
    .innerJoin('operations', 'operations.id', 'node_orders.operation_id')
    .select('node_orders.id')
    .where('node_orders.kind', '=', 'restore_snapshot')
    .where('node_orders.status', 'in', ['queued', 'running'])
    .where('operations.kind', '=', 'restore_workspace')
    .where(sql<boolean>`operations.input->>'instanceId' = ${instanceId}`)
    .executeTakeFirst();
  return reading !== undefined;
}

/** @returns what the repository takes afterwards; null: not known */
async function removeFrom(
  context: StepContext,
  workspace: WorkspaceRow,
  generation: number,
  rows: readonly SnapshotRow[],
  signal: AbortSignal,
): Promise<bigint | null> {
  if (workspace.password_sealed === null) return null; // nothing was ever made
  const parts = { envelope: context.envelope, snapshots: requireSnapshots(context) };
  const repository = await openRepositoryOf(parts, workspace, generation);
  const ids = await findData(repository, rows, signal);
  // Of nodes that died: nobody works on it now, as our rows say.
  await repository.run({ args: ['unlock', '--remove-all'], signal });
  if (ids.length > 0) await repository.run({ args: ['forget', '--quiet', ...ids], signal });
  await repository.run({ args: ['prune', '--quiet'], signal });
  return measureRepository(repository, signal).catch(() => null);
}

/** Also of those that failed halfway: what their node added in several tries. */
async function findData(repository: Repository, rows: readonly SnapshotRow[], signal: AbortSignal): Promise<string[]> {
  let text = '';
  await repository.run({ args: ['--no-lock', 'snapshots', '--json'], signal, onLine: (line) => (text += line) });
  const all = (JSON.parse(text === '' ? '[]' : text) as { id: string; tags?: string[] }[] | null) ?? [];
  const doomed = new Set(rows.map((row) => row.id));
  return all.filter(({ tags = [] }) => tags.some((tag) => doomed.has(tag))).map(({ id }) => id);
}

function listDeleting(db: Db, instanceId: string): Promise<SnapshotRow[]> {
  return db
    .selectFrom('snapshots')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .where('status', '=', 'deleting')
    .orderBy('id')
    .execute();
}

async function finish({ db, claim, queue, operation }: StepContext, stored: bigint | null): Promise<StepResult> {
  await withClaim(db, claim, async (tx) => {
    await tx
      .updateTable('workspaces')
      .set({
        pruning_operation_id: null,
        ...(stored === null ? {} : { stored_bytes: stored, measured_at: new Date() }),
      })
      .where('instance_id', '=', operation.target_id)
      .where((eb) => eb.or([eb('pruning_operation_id', '=', operation.id), eb('pruning_operation_id', 'is', null)]))
      .execute();
    await finishOperation(tx, queue, operation.id, 'succeeded', { note: 'the data is removed' });
  });
  return { kind: 'recorded' };
}
