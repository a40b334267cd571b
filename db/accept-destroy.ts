/**
 * Accepting a destroy: the one way in which an instance begins to end, whoever asks (a person, its lifetime, a reconcile). It
 * supersedes the provision of that instance: canceled when no other instance of the same request is left.
 */
import { MusterError } from '../domain/error-table.ts';
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import {
  findOperation,
  acceptOperation,
  lockOperation,
  requestCancel,
  wakeOperation,
  type OperationRow,
} from './operations.ts';
import {
  findInstance,
  listInstancesOfOperation,
  lockInstance,
  setInstanceStatus,
  type InstanceRow,
} from './instances.ts';
import { endHibernation } from './hibernations.ts';
import type { Queue } from './queue.ts';
import { listClaimedFor } from './warm-instances.ts';

/**
 * Idempotent: while it is being destroyed the operation under way is returned. Throws MusterError `not_found`, or `conflict` for
 * one that is destroyed. `orgId` null: any org.
 */
export async function acceptDestroy(
  tx: Tx,
  queue: Queue,
  order: {
    orgId: string | null;
    instanceId: string;
    actor: Actor;
    reason: string;
    failure?: { code: string; detail: string };
    /** The operation in whose step this happens: it ends in its own way and is not superseded. */
    askedBy?: string;
  },
): Promise<{ operation: OperationRow; instance: InstanceRow }> {
  const seen = await findInstance(tx, order.orgId, order.instanceId);
  if (seen) await lockOperation(tx, seen.operation_id);
  const instance = seen && (await lockInstance(tx, order.instanceId));
  if (!instance) {
    throw new MusterError('not_found', `there is no instance ${order.instanceId}`);
  }
  if (instance.status === 'destroyed') {
    throw new MusterError('conflict', `${instance.id} is destroyed already`, { facts: { state: instance.status } });
  }
  await endHibernation(tx, instance.id);
  await setInstanceStatus(tx, instance.id, 'destroying', {
    note: order.reason,
    // Nothing is to be restored any more: its snapshots go by their own retention.
    restoreSnapshotId: null,
    ...(order.failure ? { failure: order.failure } : {}),
  });
  const operation = await acceptOperation(tx, queue, {
    orgId: instance.org_id,
    kind: 'destroy_instance',
    targetKind: 'instance',
    targetId: instance.id,
    stackId: instance.stack_id,
    input: { reason: order.reason },
    deterministicKey: `destroy:${instance.id}`,
    createdBy: order.actor.id,
  });
  // What it claimed may have let its keys in already: it serves nobody else any more.
  for (const warm of await listClaimedFor(tx, [instance.id])) {
    const reason = `${instance.id} had claimed it and ended before it was handed over`;
    await acceptDestroy(tx, queue, { orgId: null, instanceId: warm.id, actor: order.actor, reason });
  }
  if (instance.operation_id !== order.askedBy) await supersedeProvision(tx, queue, instance, operation.id);
  if (instance.status !== 'destroying') {
    await appendAudit(tx, {
      orgId: instance.org_id,
      actor: order.actor,
      action: 'instance.destroy',
      targetKind: 'instance',
      targetId: instance.id,
      detail: { reason: order.reason, operation: operation.id },
    });
  }
  return { operation, instance: { ...instance, status: 'destroying' } };
}

async function supersedeProvision(tx: Tx, queue: Queue, instance: InstanceRow, destroyId: string): Promise<void> {
  const provision = await findOperation(tx, null, instance.operation_id);
  if (!provision || (provision.status !== 'queued' && provision.status !== 'running')) return;
  const siblings = await listInstancesOfOperation(tx, provision.id);
  const othersLeft = siblings.some(
    (sibling) => sibling.id !== instance.id && sibling.status !== 'destroying' && sibling.status !== 'destroyed',
  );
  // A failover ends by itself when it sees that: a standby that serves is brought to rest first.
  if (othersLeft || provision.kind === 'fail_over') await wakeOperation(tx, queue, provision.id);
  else await requestCancel(tx, queue, provision.id, `superseded by ${destroyId}`);
}
