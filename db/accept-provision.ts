/**
 * Accepting a provision: caps, stack, operation, instances, audit and queue entry in the caller's one transaction. After its commit
 * the request is kept whatever dies; before it nothing of it exists.
 */
import { sql } from 'kysely';
import { checkCaps, type CapsExceeded } from '../domain/caps.ts';
import { MusterError } from '../domain/error-table.ts';
import { specOf, type ProvisionRequest } from '../domain/provision-request.ts';
import { highestBurn } from '../domain/provisioning/race.ts';
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { findInstance, measureFleet, setInstanceStatus, updateInstance, type InstanceRow } from './instances.ts';
import { newId } from './new-id.ts';
import { acceptOperation, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { claimWarm, type FoundWarm } from './warm-instances.ts';
import { ensureWorkspace } from './workspaces.ts';

export interface ProvisionOrder {
  orgId: string;
  actor: Actor;
  /** One per instance. A live instance of the org with the same name is a conflict. */
  names: string[];
  request: ProvisionRequest;
  consumer: string | null;
  overrideReason: string | null;
  /** Made by the caller because secrets are sealed to it. */
  stackId: string;
  /** Of a warm instance. */
  poolId?: string;
}

/** Throws MusterError `cap_exceeded` with the numbers, or `conflict` for a name that is taken. */
export async function acceptProvision(
  tx: Tx,
  queue: Queue,
  order: ProvisionOrder,
): Promise<{ operation: OperationRow; instances: InstanceRow[] }> {
  const operationId = newId('operation');
  await tx
    .insertInto('stacks')
    .values({
      id: order.stackId,
      org_id: order.orgId,
      kind: 'instance',
      name: `instance-${operationId.replace('_', '-')}`,
    })
    .execute();
  const operation = await acceptOperation(tx, queue, {
    id: operationId,
    orgId: order.orgId,
    kind: 'provision_instance',
    targetKind: 'stack',
    targetId: order.stackId,
    stackId: order.stackId,
    createdBy: order.actor.id,
  });
  const inserted = await insertInstances(tx, order, operationId);
  const { workspace: wish, hibernateWhenIdle, hibernateSchedule } = order.request;
  if (wish || hibernateWhenIdle || hibernateSchedule) {
    for (const { id: instanceId } of inserted) {
      await ensureWorkspace(tx, { instanceId, orgId: order.orgId, ...(wish ? { wish } : {}) });
    }
  }
  const instances = order.request.strategy === 'serverless' ? await claimForAll(tx, order, inserted) : inserted;
  await appendAudit(tx, {
    orgId: order.orgId,
    actor: order.actor,
    action: 'instance.create',
    targetKind: 'operation',
    targetId: operationId,
    detail: {
      instances: instances.map((instance) => instance.id),
      gpu: order.request.gpu,
      gpuCount: order.request.gpuCount,
      maxPriceMicroUsdPerHour: order.request.maxPriceMicroUsdPerHour,
      ...(order.overrideReason ? { overrideReason: order.overrideReason } : {}),
    },
  });
  // What is claimed is rented already: it adds nothing.
  const added = instances.filter((instance) => instance.status === 'requested').length;
  if (added > 0) await assertCaps(tx, { instances: added, reserved: reservedFor(order) });
  return { operation, instances };
}

/** Per instance. */
function reservedFor({ request, names }: ProvisionOrder): bigint {
  return highestBurn(specOf(request), names.length);
}

/** Serverless: as many as there are warm instances that fit; the others are bought. */
async function claimForAll(tx: Tx, order: ProvisionOrder, instances: InstanceRow[]): Promise<InstanceRow[]> {
  const ids = instances.map((instance) => instance.id);
  const claimed = await claimWarm(tx, order.orgId, order.request, ids);
  const marked: InstanceRow[] = [];
  for (const instance of instances) marked.push(await markClaimed(tx, instance, claimed.get(instance.id)));
  return marked;
}

async function markClaimed(tx: Tx, instance: InstanceRow, warm: FoundWarm | undefined): Promise<InstanceRow> {
  if (!warm) {
    const note = 'no warm instance fits: it starts cold';
    await updateInstance(tx, instance.id, { note });
    return { ...instance, note };
  }
  await setInstanceStatus(tx, instance.id, 'creating');
  await setInstanceStatus(tx, instance.id, 'booting', {
    phase: 'verifying',
    note: `claims ${warm.id}, warm in pool ${warm.poolName}`,
  });
  return (await findInstance(tx, null, instance.id)) as InstanceRow;
}

async function insertInstances(tx: Tx, order: ProvisionOrder, operationId: string): Promise<InstanceRow[]> {
  const { request } = order;
  const taken = await tx
    .selectFrom('instances')
    .select('name')
    .where('org_id', '=', order.orgId)
    .where('status', '<>', 'destroyed')
    .where('name', 'in', order.names)
    .executeTakeFirst();
  if (taken) throw nameTaken(taken.name);
  try {
    return await tx
      .insertInto('instances')
      .values(
        order.names.map((name, ordinal) => ({
          id: newId('instance'),
          org_id: order.orgId,
          stack_id: order.stackId,
          operation_id: operationId,
          ordinal,
          name,
          phase_at: sql<string>`jsonb_build_object('queued', to_jsonb(now()))`,
          request: JSON.stringify(request),
          strategy: request.strategy,
          consumer: order.consumer,
          max_price_micro_usd_per_hour: BigInt(request.maxPriceMicroUsdPerHour),
          reserved_micro_usd_per_hour: reservedFor(order),
          unbounded: request.maxLifetimeMs === null,
          override_reason: order.overrideReason,
          expires_at:
            request.maxLifetimeMs === null
              ? null
              : sql<string>`now() + ${request.maxLifetimeMs} * interval '1 millisecond'`,
          created_by: order.actor.id,
          pool_id: order.poolId ?? null,
        })),
      )
      .returningAll()
      .execute();
  } catch (error) {
    if ((error as { constraint?: string }).constraint === 'instances_live_name')
      throw nameTaken(order.names.join(', '));
    throw error;
  }
}

/** As findExceededCap. Throws MusterError `cap_exceeded` with the numbers. */
export async function assertCaps(tx: Tx, requested: { instances: number; reserved: bigint }): Promise<void> {
  const exceeded = await findExceededCap(tx, requested);
  if (exceeded) throw new MusterError('cap_exceeded', exceeded.detail, { facts: exceeded.facts });
}

/**
 * null: the caps allow what this transaction added. Last in the transaction that inserted the instances, because it makes requests wait
 * for each other: the caps hold for all of them together.
 * @param requested what this transaction added; `reserved` per instance and hour
 */
export async function findExceededCap(
  tx: Tx,
  requested: { instances: number; reserved: bigint },
): Promise<CapsExceeded | null> {
  const caps = await tx
    .selectFrom('deployment')
    .select(['max_instances', 'max_burn_micro_usd_per_hour'])
    .forUpdate()
    .executeTakeFirstOrThrow();
  const fleet = await measureFleet(tx);
  const { instances: requestedInstances, reserved: requestedMaxPrice } = requested;
  return checkCaps({
    liveInstances: fleet.liveInstances - requestedInstances,
    burnMicroUsdPerHour: fleet.committedMicroUsdPerHour - requestedMaxPrice * BigInt(requestedInstances),
    requestedInstances,
    requestedMaxPrice,
    maxInstances: caps.max_instances,
    maxBurn: caps.max_burn_micro_usd_per_hour,
  });
}

export function nameTaken(name: string): MusterError {
  return new MusterError('conflict', `a live instance named "${name}" exists already`, {
    errors: [{ path: 'name', message: 'is taken by a live instance of this org' }],
  });
}
