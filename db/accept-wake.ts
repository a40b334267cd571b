/**
 * Accepting a wake: another machine for an instance that sleeps, bought as for a new request, within the same caps. It is ready once it has
 * its files back; where none can be had it sleeps on, and its snapshot stays.
 */
import { sql } from 'kysely';
import type { WakeCause } from '../domain/hibernation.ts';
import { MusterError } from '../domain/error-table.ts';
import { isWanted } from '../domain/attempt.ts';
import { acceptAttemptDestroy } from './accept-attempt-destroy.ts';
import { assertCaps } from './accept-provision.ts';
import { listAttemptsOfInstances } from './attempts.ts';
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { findOpenHibernation, markSleepingOn, markWaking, type HibernationRow } from './hibernations.ts';
import { findInstance, lockInstance, setInstanceStatus, type InstanceRow } from './instances.ts';
import { beginReplacement } from './interruptible.ts';
import { acceptOperation, appendEvents, findOperation, lockOperation, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';

export interface WakeOrder {
  orgId: string | null;
  instanceId: string;
  actor: Actor;
  cause: WakeCause;
  /** Of the plan that it is held to: what it may pay, and which of equal offers it takes. null: its own request. */
  hold: WakeHold | null;
}

export interface WakeHold {
  maxPriceMicroUsdPerHour: number;
  planSeed: string;
}

/**
 * Idempotent: while it wakes the operation under way is returned. Throws MusterError `not_found`, `conflict` with the state, or
 * `cap_exceeded` with the numbers.
 */
export async function acceptWake(
  tx: Tx,
  queue: Queue,
  order: WakeOrder,
): Promise<{ operation: OperationRow; instance: InstanceRow }> {
  const seen = await findInstance(tx, order.orgId, order.instanceId);
  if (seen) await lockOperation(tx, seen.operation_id);
  const instance = seen && (await lockInstance(tx, order.instanceId));
  if (!instance) throw new MusterError('not_found', `there is no instance ${order.instanceId}`);
  if (instance.status === 'waking')
    return { operation: (await findOperation(tx, null, instance.operation_id)) as OperationRow, instance };
  const open = await findOpenHibernation(tx, instance.id);
  if (instance.status !== 'hibernated' || open?.status !== 'asleep' || instance.restore_snapshot_id === null) {
    throw new MusterError('conflict', `${instance.id} is ${instance.status}: only what is hibernated can be woken`, {
      facts: { state: instance.status },
    });
  }
  const operation = await acceptOperation(tx, queue, {
    orgId: instance.org_id,
    kind: 'wake_instance',
    targetKind: 'instance',
    targetId: instance.id,
    stackId: instance.stack_id,
    input: {
      cause: order.cause,
      snapshotId: instance.restore_snapshot_id,
      ...(order.hold ? { hold: order.hold } : {}),
    },
    deterministicKey: `wake:${instance.id}`,
    createdBy: order.actor.id,
  });
  await markWaking(tx, open.id, { operationId: operation.id, cause: order.cause });
  await setInstanceStatus(tx, instance.id, 'waking', { phase: 'queued', note: null, winnerAttemptId: null });
  await beginReplacement(tx, instance.id, operation.id);
  await resumeLifetime(tx, instance.id, open);
  await appendEvents(tx, operation.id, [{ type: 'instance', data: { instanceId: instance.id, status: 'waking' } }]);
  await appendAudit(tx, {
    orgId: instance.org_id,
    actor: order.actor,
    action: 'instance.wake',
    targetKind: 'instance',
    targetId: instance.id,
    detail: { cause: order.cause, snapshot: instance.restore_snapshot_id, operation: operation.id },
  });
  await assertCaps(tx, { instances: 1, reserved: instance.reserved_micro_usd_per_hour });
  return { operation, instance: (await findInstance(tx, null, instance.id)) as InstanceRow };
}

/** It goes on where it stood still when it fell asleep. */
async function resumeLifetime(tx: Tx, instanceId: string, open: HibernationRow): Promise<void> {
  const sinceMs = sql<bigint>`greatest(0, extract(epoch from now() - ${open.wake_failed_at ?? open.slept_at}::timestamptz) * 1000)::bigint`;
  await tx
    .updateTable('instances')
    .set({
      asleep_ms: sql<bigint>`asleep_ms + ${sinceMs}`,
      expires_at: sql<Date>`expires_at + ${sinceMs} * interval '1 millisecond'`,
    })
    .where('id', '=', instanceId)
    .execute();
  await tx
    .updateTable('sessions')
    .set({ expires_at: sql<Date>`expires_at + ${sinceMs} * interval '1 millisecond'`, updated_at: sql<Date>`now()` })
    .where('instance_id', '=', instanceId)
    .execute();
}

/**
 * It sleeps on: what was bought for the wake is destroyed by the ordinary way, its snapshot stays. The caller holds the operation. Returns
 * whether it was waking.
 */
export async function sleepOn(
  tx: Tx,
  queue: Queue,
  instanceId: string,
  failure: { code: string; detail: string },
): Promise<boolean> {
  const instance = await lockInstance(tx, instanceId);
  const open = instance && (await findOpenHibernation(tx, instanceId));
  if (instance?.status !== 'waking' || !open || !(await markSleepingOn(tx, open.id, failure))) return false;
  for (const attempt of await listAttemptsOfInstances(tx, [instanceId])) {
    if (!isWanted(attempt.status) && attempt.status !== 'lost') continue;
    await acceptAttemptDestroy(tx, queue, attempt, { failure, by: instance.operation_id });
  }
  const note = `not woken: ${failure.detail}`;
  await setInstanceStatus(tx, instanceId, 'hibernated', {
    phase: 'asleep',
    note,
    winnerAttemptId: null,
    restoreOperationId: null,
  });
  await appendEvents(tx, instance.operation_id, [
    { type: 'instance', data: { instanceId, status: 'hibernated', detail: note } },
  ]);
  return true;
}
