/**
 * Accepting what is done with snapshots: taking, reading back, restoring, deleting. Each is an operation of its own; whoever waits for one
 * gives its own operation's id and is woken at the end (or looks again later: waking is quick, not promised).
 */
import { MusterError } from '../domain/error-table.ts';
import { isSettled, type SnapshotCause } from '../domain/snapshots/snapshot.ts';
import { appendAudit, SYSTEM, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { newId } from './new-id.ts';
import { acceptOperation, requestCancel, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { listSnapshotsInUse, lockSnapshot, moveSnapshot, type SnapshotRow } from './snapshots.ts';
import { findWriterNode, isWriterNode, lockWorkspace, type WorkspaceRow } from './workspaces.ts';

export interface SnapshotOrder {
  instanceId: string;
  /** @default the node that writes */
  nodeId?: string;
  cause: SnapshotCause;
  /** Woken when the snapshot is verified or failed. */
  operationId?: string;
  /** @default the system */
  actor?: Actor;
}

/**
 * Begins a snapshot: a row `taking`, and the operation `take_snapshot` that takes it, reads it back and ends as `verified` or `failed`
 * (follow it by findSnapshot). @returns its id. Throws MusterError `conflict` where the instance has no workspace, or the node is not the
 * one that writes it.
 */
export async function beginSnapshot(tx: Tx, queue: Queue, order: SnapshotOrder): Promise<string> {
  const workspace = await lockWorkspace(tx, order.instanceId);
  if (!workspace) throw new MusterError('conflict', `${order.instanceId} has no workspace: it was not asked for one`);
  const nodeId = order.nodeId ?? (await findWriterNode(tx, workspace));
  if (nodeId === undefined)
    throw new MusterError('conflict', `no node writes the workspace of ${order.instanceId} now`);
  if (!(await isWriterNode(tx, workspace, nodeId))) {
    const detail = `${nodeId} is not the node that writes the workspace of ${order.instanceId}`;
    throw new MusterError('conflict', detail, { facts: { epoch: workspace.epoch } });
  }
  const { actor = SYSTEM, cause } = order;
  const id = newId('snapshot');
  const operation = await acceptOperation(tx, queue, {
    orgId: workspace.org_id,
    kind: 'take_snapshot',
    targetKind: 'snapshot',
    targetId: id,
    stackId: null,
    input: { instanceId: order.instanceId, nodeId, cause },
    createdBy: actor.id,
  });
  await tx
    .insertInto('snapshots')
    .values({
      id,
      org_id: workspace.org_id,
      instance_id: order.instanceId,
      node_id: nodeId,
      epoch: workspace.epoch,
      generation: workspace.generation,
      cause,
      operation_id: operation.id,
      waiting_operation_id: order.operationId ?? null,
      created_by: actor.id,
    })
    .execute();
  if (actor.kind !== 'system') {
    await audit(tx, workspace.org_id, actor, 'snapshot.create', id, { instanceId: order.instanceId, nodeId });
  }
  return id;
}

/** Gives up one that is on its way; harmless for one that has ended. */
export async function cancelSnapshot(tx: Tx, queue: Queue, snapshotId: string, reason: string): Promise<void> {
  const row = await tx
    .selectFrom('snapshots')
    .select(['status', 'operation_id'])
    .where('id', '=', snapshotId)
    .executeTakeFirst();
  if (!row || isSettled(row.status) || row.operation_id === null) return;
  const outcome = await requestCancel(tx, queue, row.operation_id, reason);
  // Never claimed: nobody else would end it.
  if (outcome === 'canceled') {
    await moveSnapshot(tx, snapshotId, ['taking'], {
      status: 'failed',
      failure_code: 'canceled',
      failure_detail: reason,
    });
  }
}

/** Reads a snapshot back once more. Throws MusterError `conflict` for one that is not verified. @returns the operation */
export async function beginVerification(
  tx: Tx,
  queue: Queue,
  { snapshotId, actor = SYSTEM }: { snapshotId: string; actor?: Actor },
): Promise<OperationRow> {
  const snapshot = await requireVerified(tx, snapshotId, 'verified again');
  const operation = await acceptOperation(tx, queue, {
    orgId: snapshot.org_id,
    kind: 'verify_snapshot',
    targetKind: 'snapshot',
    targetId: snapshotId,
    stackId: null,
    input: { snapshotId, instanceId: snapshot.instance_id },
    deterministicKey: `verify:${snapshotId}`,
    createdBy: actor.id,
  });
  await audit(tx, snapshot.org_id, actor, 'snapshot.verify', snapshotId, { operation: operation.id });
  return operation;
}

export interface RestoreOrder {
  snapshotId: string;
  /** Whose workspace becomes what the snapshot was; any node of the org. */
  nodeId: string;
  /** Woken when it has ended. */
  operationId?: string;
  actor?: Actor;
}

/**
 * Begins a restore: the operation `restore_workspace`, whose id is returned; it has succeeded when the node has every file and byte of the
 * snapshot and nothing else in its workspace. It may be repeated. Throws MusterError `conflict` for a snapshot that is not verified.
 */
export async function beginRestore(tx: Tx, queue: Queue, order: RestoreOrder): Promise<string> {
  const snapshot = await requireVerified(tx, order.snapshotId, 'restored');
  const { actor = SYSTEM } = order;
  const operation = await acceptOperation(tx, queue, {
    orgId: snapshot.org_id,
    kind: 'restore_workspace',
    targetKind: 'node',
    targetId: order.nodeId,
    stackId: null,
    input: {
      snapshotId: snapshot.id,
      instanceId: snapshot.instance_id,
      ...(order.operationId === undefined ? {} : { waitingOperationId: order.operationId }),
    },
    deterministicKey: `restore:${order.nodeId}:${snapshot.id}`,
    createdBy: actor.id,
  });
  if (actor.kind !== 'system') {
    const detail = { nodeId: order.nodeId, operation: operation.id };
    await audit(tx, snapshot.org_id, actor, 'snapshot.restore', snapshot.id, detail);
  }
  return operation.id;
}

/**
 * Deletes snapshots of one workspace: marks them and accepts the operation that removes their data, one for each workspace.
 * @returns the operation; null where none of them may be deleted (each on its way, in use, or deleted already)
 */
export async function beginDeletion(
  tx: Tx,
  queue: Queue,
  { instanceId, snapshotIds, actor = SYSTEM }: { instanceId: string; snapshotIds: string[]; actor?: Actor },
): Promise<OperationRow | null> {
  const workspace = await lockWorkspace(tx, instanceId);
  if (!workspace) return null;
  const inUse = await listSnapshotsInUse(tx, instanceId);
  const marked: string[] = [];
  for (const id of snapshotIds.filter((one) => !inUse.has(one)).sort()) {
    if (await moveSnapshot(tx, id, ['verified', 'failed'], { status: 'deleting' })) marked.push(id);
  }
  if (marked.length === 0) return null;
  const operation = await acceptDeletion(tx, queue, workspace, actor);
  for (const id of marked) await audit(tx, workspace.org_id, actor, 'snapshot.delete', id, { operation: operation.id });
  return operation;
}

/** Once more, where the data of marked snapshots is still there. */
export async function resumeDeletion(tx: Tx, queue: Queue, instanceId: string): Promise<void> {
  const workspace = await lockWorkspace(tx, instanceId);
  if (workspace) await acceptDeletion(tx, queue, workspace, SYSTEM);
}

function acceptDeletion(tx: Tx, queue: Queue, workspace: WorkspaceRow, actor: Actor): Promise<OperationRow> {
  const { instance_id: instanceId } = workspace;
  return acceptOperation(tx, queue, {
    orgId: workspace.org_id,
    kind: 'delete_snapshot',
    targetKind: 'instance',
    targetId: instanceId,
    stackId: null,
    input: { instanceId },
    deterministicKey: `delete-snapshots:${instanceId}`,
    createdBy: actor.id,
  });
}

async function requireVerified(tx: Tx, snapshotId: string, what: string): Promise<SnapshotRow> {
  const snapshot = await lockSnapshot(tx, snapshotId);
  if (!snapshot) throw new MusterError('not_found', `there is no snapshot ${snapshotId}`);
  if (snapshot.status !== 'verified') {
    const detail = `${snapshotId} is ${snapshot.status}: only a verified one can be ${what}`;
    throw new MusterError('conflict', detail, { facts: { state: snapshot.status } });
  }
  return snapshot;
}

async function audit(
  tx: Tx,
  orgId: string,
  actor: Actor,
  action: string,
  targetId: string,
  detail: Record<string, unknown>,
): Promise<void> {
  await appendAudit(tx, { orgId, actor, action, targetKind: 'snapshot', targetId, detail });
}
