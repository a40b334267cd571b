/**
 * Taking a snapshot: the repository is made where there is none, the node is ordered, and what it reports is read back by us. The row's
 * status says how far it is, so that whoever goes on after a crash begins there.
 */
import { MusterError } from '../../domain/error-table.ts';
import type { TakeSnapshotInput, TakeSnapshotResult } from '../../domain/snapshots/orders.ts';
import { isSettled } from '../../domain/snapshots/snapshot.ts';
import { inTransaction, type Tx } from '../../db/database.ts';
import { finishOperation, withClaim } from '../../db/operations.ts';
import { cancelOrder, createOrder, findOrder, type OrderRow } from '../../db/orders.ts';
import { revokeRepositoryTokens } from '../../db/repository-tokens.ts';
import { findSnapshot, latestVerified, moveSnapshot, type SnapshotRow } from '../../db/snapshots.ts';
import {
  beginGeneration,
  findWorkspace,
  isWriterNode,
  lockWorkspace,
  recordStoredBytes,
  type WorkspaceRow,
} from '../../db/workspaces.ts';
import type { StepContext, StepResult } from '../operations/step.ts';
import { DamagedRepository, ensureRepository, openRepositoryOf, RepositoryTrouble } from './repository.ts';
import {
  completeSecrets,
  isOrderOpen,
  isPruning,
  ORDER_DEADLINE_MS,
  prepareAccess,
  requireSnapshots,
  waitForOrder,
  waitWhileBusy,
  wakeWaiter,
} from './snapshot-step.ts';
import { measureRepository, readBack } from './verify.ts';

/** So often may the store fail us before the snapshot has. */
const MAX_FAILURES = 8;

/** Between two measurements what nodes added is added. */
const MEASURED_FOR_MS = 3_600_000;

interface Failure {
  code: string;
  detail: string;
}

/** Kind `take_snapshot`, target `snapshot`. */
export async function takeSnapshot(context: StepContext): Promise<StepResult> {
  const { db, operation } = context;
  const snapshot = await findSnapshot(db, null, operation.target_id);
  if (!snapshot || isSettled(snapshot.status)) return { kind: 'done' };
  if (operation.cancel_requested_at !== null) {
    return fail(context, snapshot, { code: 'canceled', detail: operation.cancel_reason ?? 'canceled' }, 'canceled');
  }
  try {
    if (snapshot.status === 'taking') {
      return snapshot.order_id === null ? await order(context, snapshot) : await followOrder(context, snapshot);
    }
    return await verify(context, snapshot);
  } catch (error) {
    if (context.cancel.aborted || context.kill.aborted) return { kind: 'release' };
    if (error instanceof DamagedRepository) {
      await abandonRepository(context, snapshot);
      return fail(context, snapshot, { code: 'snapshot_damaged', detail: error.message });
    }
    const isOurs = error instanceof RepositoryTrouble || (error instanceof MusterError && error.code === 'unavailable');
    if (!isOurs) throw error;
    if (operation.failures < MAX_FAILURES) return { kind: 'retry', afterMs: 0, note: error.message };
    return fail(context, snapshot, { code: 'store_unreachable', detail: error.message });
  }
}

async function order(context: StepContext, snapshot: SnapshotRow): Promise<StepResult> {
  const { db, claim, envelope } = context;
  const snapshots = requireSnapshots(context);
  const made = await ensureRepository({ db, envelope, snapshots }, snapshot.instance_id, context.kill);
  const access = await prepareAccess(context, made, made.generation, 'write');
  const resticDigests = await snapshots.resticDigests();
  const verdict = await withClaim(db, claim, async (tx): Promise<'ordered' | 'busy' | 'fenced'> => {
    const workspace = (await lockWorkspace(tx, snapshot.instance_id)) as WorkspaceRow;
    if (await isPruning(tx, workspace, context.operation.id)) return 'busy';
    if (!(await isStillWriter(tx, workspace, snapshot))) return 'fenced';
    const { generation } = workspace;
    if (generation !== made.generation) return 'busy';
    const input: TakeSnapshotInput = {
      snapshotId: snapshot.id,
      instanceId: snapshot.instance_id,
      path: workspace.path,
      repository: access.route,
      resticDigests,
      excludes: workspace.excludes,
      uploadLimitKib: workspace.upload_limit_kib,
      isFirst: (await latestVerified(tx, snapshot.instance_id)) === undefined,
    };
    const token = { workspace, generation, nodeId: snapshot.node_id, access: 'write' as const };
    const { id } = await createOrder(tx, {
      orgId: snapshot.org_id,
      nodeId: snapshot.node_id,
      kind: 'take_snapshot',
      input: { ...input },
      secrets: { values: { ...(await completeSecrets(tx, context, access, token)) }, envelope },
      operationId: context.operation.id,
      deadlineMs: ORDER_DEADLINE_MS,
      createdBy: context.operation.created_by,
    });
    await tx
      .updateTable('snapshots')
      .set({ order_id: id, generation, data_at: context.now() })
      .where('id', '=', snapshot.id)
      .execute();
    return 'ordered';
  });
  if (verdict === 'fenced') return fail(context, snapshot, FENCED);
  return waitWhileBusy(context, verdict === 'busy' ? 'waiting until old data is removed' : 'waiting for the node');
}

const FENCED: Failure = { code: 'fenced', detail: 'another machine writes the workspace now' };

async function isStillWriter(tx: Tx, workspace: WorkspaceRow, snapshot: SnapshotRow): Promise<boolean> {
  return workspace.epoch === snapshot.epoch && (await isWriterNode(tx, workspace, snapshot.node_id));
}

async function followOrder(context: StepContext, snapshot: SnapshotRow): Promise<StepResult> {
  const found = await findOrder(context.db, snapshot.order_id as string);
  if (!found) return fail(context, snapshot, { code: 'node_gone', detail: 'the node was forgotten' });
  if (isOrderOpen(found.status)) {
    const workspace = await findWorkspace(context.db, snapshot.instance_id);
    if (workspace?.epoch !== snapshot.epoch) return fail(context, snapshot, FENCED);
    return waitForOrder(context, found);
  }
  if (found.status !== 'done') {
    const failure = { code: found.error_code ?? 'failed', detail: found.error_detail ?? 'the node could not do it' };
    // The node met it first: what the next snapshot builds upon is broken.
    if (failure.code === 'repository_damaged') await abandonRepository(context, snapshot);
    return fail(context, snapshot, failure);
  }
  return recordTaken(context, snapshot, found);
}

/** Only here does the node's word become a row of the line; an older epoch's never does. */
async function recordTaken(context: StepContext, snapshot: SnapshotRow, order: OrderRow): Promise<StepResult> {
  const result = parseResult(order.result);
  if (result === null) return fail(context, snapshot, { code: 'failed', detail: 'the node did not say what it took' });
  const isTaken = await withClaim(context.db, context.claim, async (tx) => {
    const workspace = (await lockWorkspace(tx, snapshot.instance_id)) as WorkspaceRow;
    if (workspace.epoch !== snapshot.epoch) return false;
    await revokeRepositoryTokens(tx, context.operation.id);
    await moveSnapshot(tx, snapshot.id, ['taking'], {
      status: 'taken',
      restic_id: result.resticId,
      file_count: BigInt(result.files),
      source_bytes: BigInt(result.bytes),
      added_bytes: BigInt(result.addedBytes),
      taken_at: context.now(),
    });
    return true;
  });
  if (!isTaken) return fail(context, snapshot, FENCED);
  context.crashPoint('snapshot_taken');
  await context.emit([
    { type: 'snapshot', data: { snapshotId: snapshot.id, status: 'taken', message: 'taken; it is read back' } },
  ]);
  const taken = await findSnapshot(context.db, null, snapshot.id);
  return verify(context, taken as SnapshotRow);
}

async function verify(context: StepContext, snapshot: SnapshotRow): Promise<StepResult> {
  const { db, claim, envelope, queue } = context;
  await withClaim(db, claim, (tx) => moveSnapshot(tx, snapshot.id, ['taken'], { status: 'verifying' }));
  const workspace = (await findWorkspace(db, snapshot.instance_id)) as WorkspaceRow;
  const parts = { envelope, snapshots: requireSnapshots(context) };
  const repository = await openRepositoryOf(parts, workspace, snapshot.generation);
  const signal = AbortSignal.any([context.cancel, context.kill]);
  const claimed = {
    snapshotId: snapshot.id,
    resticId: snapshot.restic_id as string,
    files: snapshot.file_count as bigint,
    bytes: snapshot.source_bytes as bigint,
  };
  const reading = requireSnapshots(context).readBacks.use(() => readBack(repository, claimed, signal));
  if (reading === null) return waitWhileBusy(context, 'waiting for its turn to be read back');
  const read = await reading;
  const isMeasured = workspace.measured_at !== null && +context.now() - +workspace.measured_at < MEASURED_FOR_MS;
  const storedBytes = isMeasured ? null : await measureRepository(repository, signal).catch(() => null);
  await withClaim(db, claim, async (tx) => {
    const now = (await lockWorkspace(tx, snapshot.instance_id)) as WorkspaceRow;
    const bytes = storedBytes ?? (now.stored_bytes ?? 0n) + (snapshot.added_bytes ?? 0n);
    if (now.generation === snapshot.generation) {
      await recordStoredBytes(tx, snapshot.instance_id, bytes, { isMeasured: storedBytes !== null });
    }
    await moveSnapshot(tx, snapshot.id, ['verifying'], {
      status: 'verified',
      restic_id: read.resticId,
      verified_files: read.files,
      verified_bytes: read.bytes,
      verified_at: context.now(),
    });
    await finishOperation(tx, queue, context.operation.id, 'succeeded', {
      note: `${read.files} files with ${read.bytes} bytes were read back`,
    });
  });
  context.crashPoint('snapshot_verified');
  await wakeWaiter(context, snapshot.waiting_operation_id);
  return { kind: 'recorded' };
}

async function fail(
  context: StepContext,
  snapshot: SnapshotRow,
  failure: Failure,
  status: 'failed' | 'canceled' = 'failed',
): Promise<StepResult> {
  const { db, claim, queue, operation } = context;
  await withClaim(db, claim, async (tx) => {
    await revokeRepositoryTokens(tx, operation.id);
    if (snapshot.order_id !== null) await cancelOrder(tx, snapshot.order_id, failure.detail);
    await moveSnapshot(tx, snapshot.id, ['taking', 'taken', 'verifying'], {
      status: 'failed',
      failure_code: failure.code,
      failure_detail: failure.detail,
    });
    const code = status === 'canceled' ? 'canceled' : 'snapshot_failed';
    const error = { code, detail: `${failure.code}: ${failure.detail}` };
    await finishOperation(tx, queue, operation.id, status, { error, note: failure.detail });
  });
  await wakeWaiter(context, snapshot.waiting_operation_id);
  return { kind: 'recorded' };
}

/** The next snapshot goes into a new repository, because in this one it would build upon what is broken. Old ones stay where they are. */
async function abandonRepository({ db, log }: StepContext, snapshot: SnapshotRow): Promise<void> {
  log.warn({ instance: snapshot.instance_id, snapshot: snapshot.id }, 'a repository is damaged: a new one is begun');
  await inTransaction(db, (tx) => beginGeneration(tx, snapshot.instance_id, snapshot.generation));
}

function parseResult(value: unknown): TakeSnapshotResult | null {
  const result = value as TakeSnapshotResult | null;
  const isCount = (number: unknown) => typeof number === 'number' && Number.isSafeInteger(number) && number >= 0;
  if (result === null || typeof result !== 'object') return null;
  if (!/^[0-9a-f]{8,64}$/.test(String(result.resticId))) return null;
  return isCount(result.files) && isCount(result.bytes) && isCount(result.addedBytes) ? result : null;
}
