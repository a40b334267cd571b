/**
 * Machines of a failover: how an instance is taken off the one that it lost, gets another by an ordinary provision, and comes back to its
 * failover where that finds none. Rows are locked in the order operation, instance, failover.
 */
import type { OperationRow } from './operations.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import { specOf } from '../domain/provision-request.ts';
import { highestBurn } from '../domain/provisioning/race.ts';
import { findExceededCap } from './accept-provision.ts';
import { markDestroying } from './attempts.ts';
import type { Executor, Tx } from './database.ts';
import { findFailoverPolicy } from './failover-policies.ts';
import { findRunningFailover, updateFailover, type FailoverRow } from './failovers.ts';
import { findInstance, lockInstance, setInstanceStatus, updateInstance, type InstanceRow } from './instances.ts';
import { beginReplacement } from './interruptible.ts';
import { acceptOperation } from './operations.ts';
import type { Queue } from './queue.ts';
import { latestVerified } from './snapshots.ts';

/**
 * The machine does not stand for the instance any more and is to be destroyed; the instance belongs to the failover, which accepts that
 * destroy as soon as the engine has bought another.
 */
export async function takeFromInstance(
  tx: Tx,
  instance: InstanceRow,
  { operationId, reason, restoreSnapshotId }: { operationId: string; reason: string; restoreSnapshotId: string | null },
): Promise<void> {
  const lost = instance.winner_attempt_id;
  if (lost !== null) await markDestroying(tx, [lost], { code: 'lost', detail: reason });
  await setInstanceStatus(tx, instance.id, 'creating', {
    phase: 'purchasing',
    note: reason,
    winnerAttemptId: null,
    restoreSnapshotId,
  });
  await beginReplacement(tx, instance.id, operationId);
}

/** Another machine for it, within its policy. The planner never takes one that the instance had before. */
export async function beginProvision(tx: Tx, queue: Queue, failover: FailoverRow): Promise<OperationRow> {
  const instance = (await lockInstance(tx, failover.instance_id)) as InstanceRow;
  const operation = await acceptOperation(tx, queue, {
    orgId: instance.org_id,
    kind: 'provision_instance',
    targetKind: 'stack',
    targetId: instance.stack_id,
    stackId: instance.stack_id,
    input: { reason: failover.note, replaces: failover.lost_attempt_id, failoverId: failover.id },
    createdBy: failover.operation_id ?? 'fail_over',
  });
  await beginReplacement(tx, instance.id, operation.id);
  // Held until the standby has given what it has: which snapshot it is will be said then.
  const newest = failover.mode === 'standby' ? await latestVerified(tx, instance.id) : undefined;
  if (newest) await updateInstance(tx, instance.id, { restoreSnapshotId: newest.id });
  await adaptRequest(tx, instance);
  return operation;
}

/** The very offer that was asked for is on the lost machine; and the policy may allow another price, as far as the caps do. */
async function adaptRequest(tx: Tx, instance: InstanceRow): Promise<void> {
  const { onlyOffer: _lost, planSeed: _held, ...request } = instance.request as ProvisionRequest;
  const price = (await findFailoverPolicy(tx, instance.id))?.maxPriceMicroUsdPerHour ?? null;
  const wanted: ProvisionRequest = price === null ? request : { ...request, maxPriceMicroUsdPerHour: Number(price) };
  await saveRequest(tx, instance.id, wanted);
  if (price === null || price <= instance.max_price_micro_usd_per_hour) return;
  const exceeded = await findExceededCap(tx, { instances: 0, reserved: 0n });
  if (exceeded) await saveRequest(tx, instance.id, request);
}

async function saveRequest(tx: Tx, instanceId: string, request: ProvisionRequest): Promise<void> {
  await tx
    .updateTable('instances')
    .set({
      request: JSON.stringify(request),
      max_price_micro_usd_per_hour: BigInt(request.maxPriceMicroUsdPerHour),
      reserved_micro_usd_per_hour: highestBurn(specOf(request), 1),
    })
    .where('id', '=', instanceId)
    .execute();
}

/**
 * Its provision found nothing, or could not go on: where the instance is being failed over it is not destroyed, but tried again later.
 * @returns whether it is
 */
export async function giveBackToFailover(tx: Tx, instanceId: string, reason: string): Promise<boolean> {
  const instance = await lockInstance(tx, instanceId);
  const failover = instance && (await findRunningFailover(tx, instanceId));
  if (!failover || failover.operation_id === null || instance.operation_id !== failover.provision_id) return false;
  const change = { phase: 'purchasing' as const, note: reason, winnerAttemptId: null };
  if (!(await setInstanceStatus(tx, instanceId, 'creating', change))) return false;
  await tx.updateTable('instances').set({ operation_id: failover.operation_id }).where('id', '=', instanceId).execute();
  await updateFailover(tx, failover.id, { note: reason });
  return true;
}

/** Why the provision that a failover asked for ended without a machine; undefined: it is none of a failover. */
export async function findGivenBack(executor: Executor, provisionId: string): Promise<string | undefined> {
  const row = await executor
    .selectFrom('failovers')
    .select(['note', 'instance_id'])
    .where('provision_id', '=', provisionId)
    .executeTakeFirst();
  const instance = row && (await findInstance(executor, null, row.instance_id));
  return instance && instance.operation_id !== provisionId ? (row?.note ?? 'no machine was found') : undefined;
}

/** Whether its new machine must wait with its files: a standby serves still, and has newer ones. */
export async function isRestoreHeld(executor: Executor, instanceId: string): Promise<boolean> {
  const failover = await findRunningFailover(executor, instanceId);
  return failover?.mode === 'standby' && failover.phase === 'provisioning' && failover.serving_at !== null;
}
