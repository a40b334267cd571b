/** Restoring a verified snapshot on a node: the node is ordered, and says how many files and bytes it then has. */
import type { RestoreSnapshotInput, RestoreSnapshotResult } from '../../domain/snapshots/orders.ts';
import { finishOperation, saveProgress, withClaim } from '../../db/operations.ts';
import { cancelOrder, createOrder, findOrder, type OrderRow } from '../../db/orders.ts';
import { revokeRepositoryTokens } from '../../db/repository-tokens.ts';
import { findSnapshot, type SnapshotRow } from '../../db/snapshots.ts';
import { findWorkspace, lockWorkspace, type WorkspaceRow } from '../../db/workspaces.ts';
import type { StepContext, StepResult } from '../operations/step.ts';
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

interface RestoreInput {
  snapshotId: string;
  instanceId: string;
  waitingOperationId?: string;
}

interface RestoreState {
  orderId?: string;
}

/** Kind `restore_workspace`, target `node`. */
export async function restoreWorkspace(context: StepContext): Promise<StepResult> {
  const { operation, db } = context;
  const input = operation.input as RestoreInput;
  const { orderId } = (operation.state ?? {}) as RestoreState;
  const snapshot = await findSnapshot(db, null, input.snapshotId);
  const found = orderId === undefined ? null : ((await findOrder(db, orderId)) ?? null);
  if (operation.cancel_requested_at !== null) {
    return end(context, input, found, { code: 'canceled', detail: operation.cancel_reason ?? 'canceled' });
  }
  if (orderId === undefined) {
    if (snapshot?.status !== 'verified') {
      return end(context, input, null, {
        code: 'restore_failed',
        detail: `${input.snapshotId} is not verified any more`,
      });
    }
    return order(context, input, snapshot);
  }
  if (found === null) return end(context, input, null, { code: 'restore_failed', detail: 'the node was forgotten' });
  if (isOrderOpen(found.status)) return waitForOrder(context, found);
  if (found.status !== 'done') {
    const detail = `${found.error_code ?? 'failed'}: ${found.error_detail ?? 'the node could not do it'}`;
    return end(context, input, found, { code: 'restore_failed', detail });
  }
  const result = found.result as RestoreSnapshotResult | null;
  const isWhole =
    result !== null &&
    BigInt(result.files) === snapshot?.verified_files &&
    BigInt(result.bytes) === snapshot.verified_bytes;
  if (isWhole) return end(context, input, found, null);
  return end(context, input, found, { code: 'restore_failed', detail: 'the node has other files than the snapshot' });
}

async function order(context: StepContext, input: RestoreInput, snapshot: SnapshotRow): Promise<StepResult> {
  const { db, claim, operation, envelope } = context;
  const nodeId = operation.target_id;
  const before = (await findWorkspace(db, input.instanceId)) as WorkspaceRow;
  const access = await prepareAccess(context, before, snapshot.generation, 'read');
  const resticDigests = await requireSnapshots(context).resticDigests();
  const isOrdered = await withClaim(db, claim, async (tx) => {
    const workspace = (await lockWorkspace(tx, input.instanceId)) as WorkspaceRow;
    if (await isPruning(tx, workspace, operation.id)) return false;
    const token = { workspace, generation: snapshot.generation, nodeId, access: 'read' as const };
    const values: RestoreSnapshotInput = {
      snapshotId: snapshot.id,
      instanceId: input.instanceId,
      path: workspace.path,
      repository: access.route,
      resticDigests,
      resticId: snapshot.restic_id as string,
      files: Number(snapshot.verified_files),
      bytes: Number(snapshot.verified_bytes),
      downloadLimitKib: workspace.download_limit_kib,
    };
    const { id } = await createOrder(tx, {
      orgId: snapshot.org_id,
      nodeId,
      kind: 'restore_snapshot',
      input: { ...values },
      secrets: { values: { ...(await completeSecrets(tx, context, access, token)) }, envelope },
      operationId: operation.id,
      deadlineMs: ORDER_DEADLINE_MS,
      createdBy: operation.created_by,
    });
    await saveProgress(tx, claim, { state: { orderId: id } satisfies RestoreState });
    return true;
  });
  return waitWhileBusy(context, isOrdered ? 'waiting for the node' : 'waiting until old data is removed');
}

async function end(
  context: StepContext,
  { waitingOperationId }: RestoreInput,
  order: OrderRow | null,
  error: { code: 'canceled' | 'restore_failed'; detail: string } | null,
): Promise<StepResult> {
  const { db, claim, queue, operation } = context;
  await withClaim(db, claim, async (tx) => {
    await revokeRepositoryTokens(tx, operation.id);
    if (error !== null && order !== null) await cancelOrder(tx, order.id, error.detail);
    const status = error === null ? 'succeeded' : error.code === 'canceled' ? 'canceled' : 'failed';
    const note = error === null ? 'every file is there' : error.detail;
    await finishOperation(tx, queue, operation.id, status, { note, ...(error === null ? {} : { error }) });
  });
  await wakeWaiter(context, waitingOperationId);
  return { kind: 'recorded' };
}
