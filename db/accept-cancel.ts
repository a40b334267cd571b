/** Accepting a cancel: the operation ends as soon as it safely can, and what it had asked for is destroyed by the ordinary way. */
import { MusterError } from '../domain/error-table.ts';
import { isCancelable } from '../domain/operation.ts';
import { acceptDestroy } from './accept-destroy.ts';
import { stayAwake } from './accept-hibernate.ts';
import { sleepOn } from './accept-wake.ts';
import { appendAudit, SYSTEM, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { listInstancesOfOperation } from './instances.ts';
import { findOperation, requestCancel, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';

/**
 * Throws MusterError `not_found`, or `conflict` (with the state) for an operation that is finished or of a kind that is never
 * canceled. Asking twice is harmless.
 */
export async function acceptCancel(
  tx: Tx,
  queue: Queue,
  order: { orgId: string | null; operationId: string; actor: Actor; reason: string },
): Promise<OperationRow> {
  const operation = await findOperation(tx, order.orgId, order.operationId);
  if (!operation) throw new MusterError('not_found', `there is no operation ${order.operationId}`);
  const facts = { state: operation.status, kind: operation.kind };
  if (!isCancelable(operation.kind)) {
    throw new MusterError(
      'conflict',
      `a ${operation.kind} operation is never canceled: it is retried until it is done`,
      { facts },
    );
  }
  const outcome = await requestCancel(tx, queue, operation.id, order.reason);
  if (outcome === 'finished')
    throw new MusterError('conflict', `${operation.id} is ${operation.status} already`, { facts });
  if (outcome === 'canceled') await destroyInstancesOf(tx, queue, operation.id, order.reason);
  await appendAudit(tx, {
    orgId: operation.org_id,
    actor: order.actor,
    action: 'operation.cancel',
    targetKind: 'operation',
    targetId: operation.id,
    detail: { reason: order.reason },
  });
  return (await findOperation(tx, null, operation.id)) as OperationRow;
}

/**
 * Ends every instance of an operation that is not ending yet. One that had a life before goes back to it: what was to sleep stays awake,
 * what was to wake sleeps on.
 */
export async function destroyInstancesOf(
  tx: Tx,
  queue: Queue,
  operationId: string,
  reason: string,
  failure?: { code: string; detail: string },
): Promise<void> {
  for (const instance of await listInstancesOfOperation(tx, operationId)) {
    if (instance.status === 'destroying' || instance.status === 'destroyed') continue;
    const why = failure ?? { code: 'canceled', detail: reason };
    if (await stayAwake(tx, instance.id, why)) continue;
    if (await sleepOn(tx, queue, instance.id, why)) continue;
    if (instance.status === 'hibernating' || instance.status === 'hibernated') continue;
    await acceptDestroy(tx, queue, {
      orgId: null,
      instanceId: instance.id,
      actor: SYSTEM,
      reason,
      askedBy: operationId,
      ...(failure ? { failure } : {}),
    });
  }
}
