/**
 * Accepting a hibernation, whoever asks (a person, its idleness, its schedule), and taking it back while nothing is destroyed. Only what
 * can be brought back is put to sleep: it has a workspace, and a node that can write its snapshot.
 */
import { sql } from 'kysely';
import type { HibernationCause } from '../domain/hibernation.ts';
import { MusterError } from '../domain/error-table.ts';
import { appendAudit, SYSTEM, type Actor } from './audit.ts';
import { listAttemptsById } from './attempts.ts';
import type { Tx } from './database.ts';
import { findRunningFailover } from './failovers.ts';
import { insertHibernation, findOpenHibernation, markFailed, type HibernationRow } from './hibernations.ts';
import { findInstance, lockInstance, setInstanceStatus, type InstanceRow } from './instances.ts';
import { findNodeOfAttempt, type NodeRow } from './nodes.ts';
import { acceptOperation, appendEvents, findOperation, lockOperation, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { putPodsToSleep } from './sleeping-pods.ts';
import { findWorkspace, isWriterNode } from './workspaces.ts';

export interface HibernateOrder {
  orgId: string | null;
  instanceId: string;
  actor: Actor;
  cause: HibernationCause;
  reason: string;
}

/**
 * Idempotent: while it goes to sleep the operation under way is returned. Throws MusterError `not_found`, `conflict` with the state, or
 * `snapshot_store_unreachable` where nothing could be kept of it.
 */
export async function acceptHibernate(
  tx: Tx,
  queue: Queue,
  order: HibernateOrder,
): Promise<{ operation: OperationRow; instance: InstanceRow }> {
  const seen = await findInstance(tx, order.orgId, order.instanceId);
  if (seen) await lockOperation(tx, seen.operation_id);
  const instance = seen && (await lockInstance(tx, order.instanceId));
  if (!instance) throw new MusterError('not_found', `there is no instance ${order.instanceId}`);
  if (instance.status === 'hibernating') {
    const open = (await findOpenHibernation(tx, instance.id)) as HibernationRow;
    return { operation: (await findOperation(tx, null, open.operation_id)) as OperationRow, instance };
  }
  const { attempt, nodeId } = await assertMaySleep(tx, instance);
  const operation = await acceptOperation(tx, queue, {
    orgId: instance.org_id,
    kind: 'hibernate_instance',
    targetKind: 'instance',
    targetId: instance.id,
    stackId: instance.stack_id,
    input: { cause: order.cause, reason: order.reason },
    deterministicKey: `hibernate:${instance.id}`,
    createdBy: order.actor.id,
  });
  await insertHibernation(tx, {
    orgId: instance.org_id,
    instanceId: instance.id,
    operationId: operation.id,
    attemptId: attempt.id,
    priceMicroUsdPerHour: attempt.price_micro_usd_per_hour ?? 0n,
    cause: order.cause,
  });
  await setInstanceStatus(tx, instance.id, 'hibernating', { phase: 'snapshotting', note: order.reason });
  await giveToOperation(tx, instance.id, operation.id);
  // What they write after the snapshot would be lost.
  await putPodsToSleep(tx, nodeId, instance.id);
  await appendEvents(tx, operation.id, [
    { type: 'instance', data: { instanceId: instance.id, status: 'hibernating', detail: order.reason } },
  ]);
  await appendAudit(tx, {
    orgId: instance.org_id,
    actor: order.actor,
    action: 'instance.hibernate',
    targetKind: 'instance',
    targetId: instance.id,
    detail: { cause: order.cause, reason: order.reason, operation: operation.id },
  });
  return { operation, instance: (await findInstance(tx, null, instance.id)) as InstanceRow };
}

/** Its machine, and the node on it. */
async function assertMaySleep(tx: Tx, instance: InstanceRow) {
  const refuse = (detail: string, facts: Record<string, unknown> = {}) =>
    new MusterError('conflict', `${instance.id} ${detail}`, { facts: { state: instance.status, ...facts } });
  if (instance.status !== 'ready' || instance.winner_attempt_id === null)
    throw refuse(`is ${instance.status}: only what is ready can be hibernated`);
  if (instance.pool_id !== null) throw refuse('is warm in a pool: the pool decides what it keeps');
  const [attempt] = await listAttemptsById(tx, [instance.winner_attempt_id]);
  if (attempt?.status !== 'ready') throw refuse('has no machine that is ready');
  if (await findRunningFailover(tx, instance.id)) throw refuse('is failing over');
  const workspace = await findWorkspace(tx, instance.id);
  if (!workspace)
    throw refuse(
      'has no workspace: nothing of it would be kept. Give it a policy first (`POST /instances/:id/hibernation`)',
      {
        missing: 'workspace',
      },
    );
  const node = await findNodeOfAttempt(tx, attempt.id);
  const unreachable = await describeUnreachable(tx, instance.id, node);
  if (!node || unreachable !== null) {
    const detail = `nothing of ${instance.id} could be kept: ${unreachable}`;
    throw new MusterError('snapshot_store_unreachable', detail, { facts: { state: instance.status } });
  }
  if (!(await isWriterNode(tx, workspace, node.id)))
    throw refuse(`does not write its workspace now: another machine does, or it was fenced`);
  return { attempt, nodeId: node.id };
}

/** Heartbeats are seconds apart: by then it is the agent, the machine or the way to us. */
const MAX_SILENCE_MS = 2 * 60_000;
/** After that it is worth another try. */
const UNREACHABLE_FOR = '10 minutes';

/** Why its node cannot reach the snapshot store, as far as that is known; null: nothing speaks against it. */
async function describeUnreachable(tx: Tx, instanceId: string, node: NodeRow | undefined): Promise<string | null> {
  if (!node) return 'its machine carries no agent that has registered';
  const silentMs = Date.now() - (node.heartbeat_at?.getTime() ?? 0);
  if (silentMs > MAX_SILENCE_MS) return 'its agent is silent';
  const last = await tx
    .selectFrom('snapshots')
    .select(['failure_code', 'failure_detail'])
    .where('instance_id', '=', instanceId)
    .where('node_id', '=', node.id)
    .where('created_at', '>', sql<Date>`now() - ${UNREACHABLE_FOR}::interval`)
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
  if (last?.failure_code !== 'store_unreachable') return null;
  return `its node could not reach the snapshot store: ${last.failure_detail ?? 'no answer'}`;
}

/** The operation to which it belongs from now on: whoever destroys it supersedes that. */
async function giveToOperation(tx: Tx, instanceId: string, operationId: string): Promise<void> {
  await tx.updateTable('instances').set({ operation_id: operationId }).where('id', '=', instanceId).execute();
}

/** One whose machine is given up and whose operation is lost gets another, which brings it to its end. */
export async function resumeHibernation(tx: Tx, queue: Queue, instanceId: string): Promise<void> {
  const instance = await lockInstance(tx, instanceId);
  const open = instance && (await findOpenHibernation(tx, instanceId));
  if (instance?.status !== 'hibernating' || open?.status !== 'releasing') return;
  const operation = await acceptOperation(tx, queue, {
    orgId: instance.org_id,
    kind: 'hibernate_instance',
    targetKind: 'instance',
    targetId: instanceId,
    stackId: instance.stack_id,
    input: { cause: open.cause, resumes: open.operation_id },
    deterministicKey: `hibernate:${instanceId}`,
    createdBy: SYSTEM.id,
  });
  await tx.updateTable('hibernations').set({ operation_id: operation.id }).where('id', '=', open.id).execute();
  await giveToOperation(tx, instanceId, operation.id);
}

/** Nothing was destroyed: it is ready as it was, and says why it is awake. The caller holds the operation. */
export async function stayAwake(
  tx: Tx,
  instanceId: string,
  failure: { code: string; detail: string },
): Promise<boolean> {
  const instance = await lockInstance(tx, instanceId);
  const open = instance && (await findOpenHibernation(tx, instanceId));
  if (instance?.status !== 'hibernating' || !open || !(await markFailed(tx, open.id, failure))) return false;
  const note = `not hibernated: ${failure.detail}`;
  await setInstanceStatus(tx, instanceId, 'ready', { phase: 'active', note });
  await appendEvents(tx, open.operation_id, [
    { type: 'instance', data: { instanceId, status: 'ready', detail: note } },
  ]);
  await appendAudit(tx, {
    orgId: instance.org_id,
    actor: SYSTEM,
    action: 'instance.stay_awake',
    targetKind: 'instance',
    targetId: instanceId,
    detail: { ...failure },
  });
  return true;
}
