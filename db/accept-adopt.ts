/**
 * Accepting an adoption: an orphan becomes the one machine of a new instance. Caps, rows, the finding's end, audit and queue entry
 * in the caller's one transaction; the label stays, and with it everything that goes by labels.
 */
import { sql } from 'kysely';
import { MusterError } from '../domain/error-table.ts';
import { isProviderName } from '../domain/provider.ts';
import { DEFAULT_IMAGE, type ProvisionRequest } from '../domain/provision-request.ts';
import { assertCaps, nameTaken } from './accept-provision.ts';
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { changeFinding, type FindingRow } from './findings.ts';
import type { InstanceRow } from './instances.ts';
import { newId } from './new-id.ts';
import { acceptOperation, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { meterAttempts } from './usage.ts';

export interface AdoptOrder {
  /** Locked by the caller, and allowed to be adopted (domain/finding.ts). */
  finding: FindingRow;
  orgId: string;
  actor: Actor;
  name: string;
  consumer: string | null;
  /** From now; null: unbounded. */
  lifetimeMs: number | null;
  overrideReason: string | null;
  /** How long it may take to show itself ready. */
  bootTimeoutMs: number;
  reason: string | null;
}

/** Throws MusterError `cap_exceeded`, or `conflict`: the name is taken, a live row has the machine or its label, or it is being destroyed. */
export async function acceptAdopt(
  tx: Tx,
  queue: Queue,
  order: AdoptOrder,
): Promise<{ operation: OperationRow; instance: InstanceRow }> {
  const { finding } = order;
  await assertUnrecorded(tx, finding);
  const operationId = newId('operation');
  const instanceId = newId('instance');
  const stackId = newId('stack');
  await tx
    .insertInto('stacks')
    .values({ id: stackId, org_id: order.orgId, kind: 'instance', name: `instance-${operationId.replace('_', '-')}` })
    .execute();
  const operation = await acceptOperation(tx, queue, {
    id: operationId,
    orgId: order.orgId,
    kind: 'adopt_machine',
    targetKind: 'instance',
    targetId: instanceId,
    stackId,
    input: { finding: finding.id },
    createdBy: order.actor.id,
  });
  const instance = await insertInstance(tx, order, { instanceId, stackId, operationId });
  await insertAdopted(tx, order, instance);
  await assertCaps(tx, { instances: 1, reserved: finding.price_micro_usd_per_hour as bigint });
  await changeFinding(tx, finding.id, {
    status: 'resolved',
    from: ['open', 'ignored'],
    resolution: 'adopted',
    operationId,
    reason: order.reason,
  });
  await appendAudit(tx, {
    orgId: order.orgId,
    actor: order.actor,
    action: 'finding.adopt',
    targetKind: 'finding',
    targetId: finding.id,
    detail: {
      provider: finding.provider,
      machine: finding.provider_instance_id,
      label: finding.label,
      instance: instanceId,
      operation: operationId,
      ...(order.reason === null ? {} : { reason: order.reason }),
      ...(order.overrideReason === null ? {} : { overrideReason: order.overrideReason }),
    },
  });
  return { operation, instance };
}

async function assertUnrecorded(tx: Tx, finding: FindingRow): Promise<void> {
  const live = await tx
    .selectFrom('attempts')
    .select(['id', 'instance_id'])
    .where('provider', '=', finding.provider)
    .where('status', '<>', 'gone')
    .where((eb) =>
      eb.or([eb('label', '=', finding.label), eb('provider_instance_id', '=', finding.provider_instance_id)]),
    )
    .executeTakeFirst();
  const destroying = await tx
    .selectFrom('findings')
    .select('id')
    .where('provider', '=', finding.provider)
    .where('provider_instance_id', '=', finding.provider_instance_id)
    .where('status', '=', 'resolving')
    .executeTakeFirst();
  if (destroying) {
    throw new MusterError('conflict', `the machine is being destroyed already, as ${destroying.id}`, {
      facts: { state: 'resolving' },
    });
  }
  if (!live) return;
  throw new MusterError('conflict', `the machine or its label belongs to ${live.instance_id} (${live.id})`, {
    facts: { state: finding.status, instanceId: live.instance_id },
  });
}

async function insertInstance(
  tx: Tx,
  order: AdoptOrder,
  ids: { instanceId: string; stackId: string; operationId: string },
): Promise<InstanceRow> {
  const request = requestOf(order);
  try {
    return await tx
      .insertInto('instances')
      .values({
        id: ids.instanceId,
        org_id: order.orgId,
        stack_id: ids.stackId,
        operation_id: ids.operationId,
        ordinal: 0,
        name: order.name,
        status: 'booting',
        phase: 'starting',
        phase_at: sql<string>`jsonb_build_object('queued', to_jsonb(now()), 'starting', to_jsonb(now()))`,
        note: `adopted from ${order.finding.id}`,
        request: JSON.stringify(request),
        strategy: request.strategy,
        consumer: order.consumer,
        max_price_micro_usd_per_hour: BigInt(request.maxPriceMicroUsdPerHour),
        reserved_micro_usd_per_hour: BigInt(request.maxPriceMicroUsdPerHour),
        unbounded: order.lifetimeMs === null,
        override_reason: order.overrideReason,
        expires_at:
          order.lifetimeMs === null ? null : sql<string>`now() + ${order.lifetimeMs} * interval '1 millisecond'`,
        created_by: order.actor.id,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
  } catch (error) {
    if ((error as { constraint?: string }).constraint === 'instances_live_name') throw nameTaken(order.name);
    throw error;
  }
}

/** Bought from the start: the readiness watcher takes it from here. What it cost before is on its finding. */
async function insertAdopted(tx: Tx, order: AdoptOrder, instance: InstanceRow): Promise<void> {
  const { finding } = order;
  const machine = finding.machine;
  const attemptId = newId('attempt');
  await tx
    .insertInto('attempts')
    .values({
      id: attemptId,
      org_id: order.orgId,
      instance_id: instance.id,
      stack_id: instance.stack_id,
      provider: finding.provider as string,
      label: finding.label as string,
      status: 'bought',
      provider_instance_id: finding.provider_instance_id,
      machine_id: machine?.machineId ?? null,
      gpu: machine?.gpu ?? null,
      gpu_count: machine?.gpuCount ?? null,
      gpu_memory_gib: machine?.gpuMemoryGib ?? null,
      region: machine?.region ?? null,
      price_micro_usd_per_hour: finding.price_micro_usd_per_hour,
      purchased_at: sql<Date>`now()`,
      boot_deadline: sql<Date>`now() + ${order.bootTimeoutMs} * interval '1 millisecond'`,
    })
    .execute();
  await meterAttempts(tx, [attemptId]);
}

/** What the machine is, as if it had been asked for. */
function requestOf({ finding, lifetimeMs, bootTimeoutMs }: AdoptOrder): ProvisionRequest {
  const machine = finding.machine;
  return {
    gpu: machine?.gpu ?? 'unknown',
    gpuCount: machine?.gpuCount ?? 1,
    minGpuMemoryGib: null,
    diskGib: 0,
    image: machine?.image ?? DEFAULT_IMAGE,
    maxPriceMicroUsdPerHour: Number(finding.price_micro_usd_per_hour),
    providers: finding.provider !== null && isProviderName(finding.provider) ? [finding.provider] : [],
    regions: [],
    minReliability: null,
    interruptible: machine?.interruptible ?? false,
    strategy: 'coldstart',
    raceWidth: 1,
    maxRaceCostMicroUsd: 0,
    sshPublicKeys: [],
    envNames: [],
    envSealed: null,
    onStart: null,
    maxLifetimeMs: lifetimeMs,
    bootTimeoutMs,
  };
}
