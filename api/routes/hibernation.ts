/** Routes of hibernation: putting an instance to sleep, waking it, and saying when it sleeps by itself. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { acceptHibernate } from '../../db/accept-hibernate.ts';
import { acceptWake, type WakeHold } from '../../db/accept-wake.ts';
import { auditRow } from '../../db/audit.ts';
import type { Executor } from '../../db/database.ts';
import { setSleepPolicy } from '../../db/hibernations.ts';
import { findInstance, lockInstance, type InstanceRow } from '../../db/instances.ts';
import { findSnapshot } from '../../db/snapshots.ts';
import { ensureWorkspace } from '../../db/workspaces.ts';
import { agentNotes } from '../agent-note.ts';
import { hibernateBody, hibernationPolicyBody, wakeBody } from '../contract/hibernation.ts';
import { instance, instanceAccepted, wakePlan, type WakePlan } from '../contract/instances.ts';
import { id } from '../contract/values.ts';
import type { Caller } from '../caller.ts';
import { awaitFreshOffers } from '../fresh-offers.ts';
import { viewInstance } from '../instance-view.ts';
import { holdToPlan } from '../plan-hold.ts';
import { hibernationOf } from '../provision-order.ts';
import { previewOrder } from '../provision-preview.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { isoOrNull } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

const AREA = 'instances';
const instanceParams = z.object({ id: id('instance') });

export const hibernationRoutes: Route[] = [
  route({
    method: 'post',
    path: '/instances/:id/hibernate',
    access: 'change',
    area: AREA,
    summary: 'Put an instance to sleep',
    description:
      'Its files are copied and read back, then its machine is destroyed. Until they are verified it stays what it is, and comes back to `ready` with the reason where that fails. Asked again on the way it answers with the same operation.',
    params: instanceParams,
    body: hibernateBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: instanceAccepted },
    problems: ['conflict', 'snapshot_store_unreachable'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const reason = body.reason ?? 'hibernated on request';
        const order = { orgId: caller.orgId, instanceId: params.id, actor, cause: 'request' as const, reason };
        const { operation, instance: row } = await acceptHibernate(tx, deps.queue, order);
        return {
          status: 202,
          body: { operation: operationRefReply(operation), instance: await viewInstance(tx, row) },
          location: operationLocation(operation),
        };
      }),
  }),
  route({
    method: 'post',
    path: '/instances/:id/wake',
    access: 'change',
    area: AREA,
    summary: 'Wake an instance that sleeps',
    description:
      'Buys another machine as its request says, restores its files and is `ready` once they are there; where none can be had it sleeps on. With `dryRun` it answers the price and wakes nothing. Asked again on the way it answers with the same operation.',
    params: instanceParams,
    body: wakeBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 200: wakePlan, 202: instanceAccepted },
    problems: ['conflict', 'plan_changed', 'cap_exceeded'],
    handle: async ({ params, body, caller, actor, deps, once }) => {
      if (body.dryRun) {
        const db = deps.database.kysely;
        const row = await requireAsleep(db, caller.orgId, params.id);
        await awaitFreshOffers(deps, caller, (row.request as ProvisionRequest).providers);
        return { status: 200, body: await previewWake(db, caller, row, agentNotes(deps, 'instance')) };
      }
      return once(async (tx) => {
        const hold = body.planHash === undefined ? null : await holdWake(tx, caller.orgId, params.id, body);
        const order = { orgId: caller.orgId, instanceId: params.id, actor, cause: 'request' as const, hold };
        const { operation, instance: row } = await acceptWake(tx, deps.queue, order);
        return {
          status: 202,
          body: { operation: operationRefReply(operation), instance: await viewInstance(tx, row) },
          location: operationLocation(operation),
        };
      });
    },
  }),
  route({
    method: 'post',
    path: '/instances/:id/hibernation',
    access: 'change',
    area: AREA,
    summary: 'Say when it sleeps by itself',
    description: 'Gives it a workspace where it has none. What is left out stays as it is.',
    params: instanceParams,
    body: hibernationPolicyBody,
    isIdempotent: true,
    replies: { 200: instance },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, once }) =>
      once(async (tx) => {
        const row = await lockInstance(tx, params.id);
        if (!row || row.org_id !== caller.orgId) throw noInstance(params.id);
        if (row.pool_id !== null || ['destroying', 'destroyed', 'lost'].includes(row.status)) {
          const state = row.pool_id === null ? row.status : 'warm in a pool';
          throw new MusterError('conflict', `${row.id} is ${state}: it cannot be put to sleep`, { facts: { state } });
        }
        await setSleepPolicy(tx, row.id, hibernationOf(body));
        if (body.hibernateWhenIdle || body.hibernateSchedule)
          await ensureWorkspace(tx, { instanceId: row.id, orgId: row.org_id });
        await auditRow(tx, actor, row, 'instance.hibernation', { ...body });
        return { status: 200, body: await viewInstance(tx, (await findInstance(tx, null, row.id)) as InstanceRow) };
      }),
  }),
];

async function requireAsleep(executor: Executor, orgId: string, instanceId: string): Promise<InstanceRow> {
  const row = await findInstance(executor, orgId, instanceId);
  if (!row) throw noInstance(instanceId);
  if (row.status !== 'hibernated' || row.restore_snapshot_id === null) {
    throw new MusterError('conflict', `${row.id} is ${row.status}: only what is hibernated can be woken`, {
      facts: { state: row.status },
    });
  }
  return row;
}

async function previewWake(executor: Executor, caller: Caller, row: InstanceRow, notes: string[]): Promise<WakePlan> {
  const plan = await previewOrder(executor, caller, orderOf(row), notes);
  const snapshot = await findSnapshot(executor, row.org_id, row.restore_snapshot_id as string);
  return {
    ...plan,
    instanceId: row.id,
    snapshotId: row.restore_snapshot_id as string,
    dataAt: isoOrNull(snapshot?.data_at ?? null),
    restoreBytes: snapshot?.source_bytes == null ? null : Number(snapshot.source_bytes),
  };
}

async function holdWake(
  executor: Executor,
  orgId: string,
  instanceId: string,
  body: z.output<typeof wakeBody>,
): Promise<WakeHold | null> {
  const row = await findInstance(executor, orgId, instanceId);
  // Whoever asks again while it wakes gets the operation under way.
  if (row?.status === 'waking') return null;
  const held = await holdToPlan(executor, orderOf(await requireAsleep(executor, orgId, instanceId)), {
    orgId,
    planHash: body.planHash as string,
    tolerancePercent: body.priceTolerancePercent,
  });
  return { maxPriceMicroUsdPerHour: held.maxPriceMicroUsdPerHour, planSeed: held.planSeed as string };
}

/** What a wake orders: its own request, on a machine that is bought. */
function orderOf(row: InstanceRow): { request: ProvisionRequest; names: string[]; requestHash: string } {
  const request = row.request as ProvisionRequest;
  const requestHash = createHash('sha256').update(`wake ${row.id} ${row.restore_snapshot_id}`).digest('hex');
  return {
    request: { ...request, strategy: request.strategy === 'serverless' ? 'coldstart' : request.strategy },
    names: [row.name],
    requestHash,
  };
}

function noInstance(instanceId: string): MusterError {
  return new MusterError('not_found', `there is no instance ${instanceId}`);
}
