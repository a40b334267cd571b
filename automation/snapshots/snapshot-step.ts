/** What the operations on snapshots share: waiting, access for a node, waking who waits. */
import { MusterError } from '../../domain/error-table.ts';
import type { OrderStatus } from '../../domain/order.ts';
import type { RepositoryRoute, SnapshotSecrets } from '../../domain/snapshots/orders.ts';
import { inTransaction, type Tx } from '../../db/database.ts';
import { wakeOperation } from '../../db/operations.ts';
import type { OrderRow } from '../../db/orders.ts';
import { insertRepositoryToken, repositoryName } from '../../db/repository-tokens.ts';
import type { WorkspaceRow } from '../../db/workspaces.ts';
import type { StepContext, StepResult } from '../operations/step.ts';
import { bucketUrl, openPassword, storeOf } from './repository.ts';
import type { SnapshotServices } from './restic-port.ts';

/** So long may a node work at one order; its tokens and keys live as long. */
export const ORDER_DEADLINE_MS = 6 * 3_600_000;
/** The agent's report wakes us; this is for the case that it does not. */
const LOOK_AGAIN_MS = 15_000;
/** Keys of the vendors live at least so long, and at most 12 hours. */
const BUSY_MS = 2_000;

/** Throws MusterError `unavailable` in a process without a store of snapshots. */
export function requireSnapshots({ snapshots }: StepContext): SnapshotServices {
  if (snapshots === undefined) throw new MusterError('unavailable', 'this process has no store of snapshots');
  return snapshots;
}

export interface NodeAccess {
  route: RepositoryRoute;
  secrets: Omit<SnapshotSecrets, 'token'>;
}

/** What a node needs to reach the repository, but for the gateway's token: that is made in the transaction of its order. */
export async function prepareAccess(
  context: StepContext,
  workspace: WorkspaceRow,
  generation: number,
  access: 'read' | 'write',
): Promise<NodeAccess> {
  const snapshots = requireSnapshots(context);
  const { instance_id: instanceId, store_url: storeUrl, password_sealed: sealed } = workspace;
  if (storeUrl === null || sealed === null) throw new Error(`${instanceId} has no repository`);
  const password = openPassword(context.envelope, instanceId, sealed);
  const store = storeOf(storeUrl);
  if (store.kind === 'file' || snapshots.access === 'gateway' || snapshots.issueKey === null) {
    return { route: { kind: 'gateway', path: `/api/v1/workspaces/${instanceId}/repository/` }, secrets: { password } };
  }
  const repository = repositoryName({ instance_id: instanceId, generation });
  const environment = await snapshots.issueKey({ storeUrl, repository, access, lifetimeMs: ORDER_DEADLINE_MS });
  return { route: { kind: 'direct', url: bucketUrl(store, repository) }, secrets: { password, environment } };
}

/** The secrets of an order: with a token where the node comes through us. */
export async function completeSecrets(
  tx: Tx,
  context: StepContext,
  { route, secrets }: NodeAccess,
  token: { workspace: WorkspaceRow; generation: number; nodeId: string; access: 'read' | 'write' },
): Promise<SnapshotSecrets> {
  if (route.kind === 'direct') return secrets;
  const made = await insertRepositoryToken(tx, {
    instanceId: token.workspace.instance_id,
    nodeId: token.nodeId,
    epoch: token.workspace.epoch,
    generation: token.generation,
    access: token.access,
    operationId: context.operation.id,
    lifetimeMs: ORDER_DEADLINE_MS,
  });
  return { ...secrets, token: made };
}

export function waitForOrder(context: StepContext, order: OrderRow): StepResult {
  const progress = order.progress as { percent: number | null; note: string | null } | null;
  const said = progress?.note ?? (order.status === 'queued' ? 'waiting for the node' : 'the node is at it');
  return { kind: 'wait', until: new Date(context.now().getTime() + LOOK_AGAIN_MS), note: said };
}

export function waitWhileBusy(context: StepContext, note: string): StepResult {
  return { kind: 'wait', until: new Date(context.now().getTime() + BUSY_MS), note };
}

export function isOrderOpen(status: OrderStatus): boolean {
  return status === 'queued' || status === 'running';
}

/** In a transaction of its own, after ours: two that wake each other must not hold each other's rows. Its waiter looks by itself too. */
export async function wakeWaiter(context: StepContext, waitingOperationId: string | null | undefined): Promise<void> {
  if (waitingOperationId == null) return;
  await inTransaction(context.db, (tx) => wakeOperation(tx, context.queue, waitingOperationId));
}

/** Whether something removes data from the repository now: its operation is not finished. */
export async function isPruning(tx: Tx, workspace: WorkspaceRow, exceptOperationId: string): Promise<boolean> {
  const { pruning_operation_id: id } = workspace;
  if (id === null || id === exceptOperationId) return false;
  const row = await tx
    .selectFrom('operations')
    .select('id')
    .where('id', '=', id)
    .where('status', 'in', ['queued', 'running'])
    .executeTakeFirst();
  return row !== undefined;
}
