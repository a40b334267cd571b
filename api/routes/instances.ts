/** Routes of instances: asking for them, seeing them, ending them. */
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import { allowedActions } from '../../domain/instance.ts';
import { extendedLifetimeMs, resolveLifetime } from '../../domain/lifetime.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { acceptProvision } from '../../db/accept-provision.ts';
import { listAttemptsOfInstances } from '../../db/attempts.ts';
import { appendAudit } from '../../db/audit.ts';
import type { Executor } from '../../db/database.ts';
import { setExpiry } from '../../db/instance-lifetime.ts';
import { findInstance, listInstances, lockInstance, type InstanceRow } from '../../db/instances.ts';
import { findSessionOfInstance } from '../../db/sessions.ts';
import { readUsage } from '../../db/usage.ts';
import {
  createInstancesBody,
  destroyAccepted,
  extendBody,
  instance,
  instanceCost,
  instanceListQuery,
  instancePage,
  instancesAccepted,
  instanceSsh,
  provisionPlan,
  type InstanceCost,
} from '../contract/instances.ts';
import { agentNotes } from '../agent-note.ts';
import { id } from '../contract/values.ts';
import { endToMove } from '../extension.ts';
import { pageByTime } from '../cursor.ts';
import { holdToPlan } from '../plan-hold.ts';
import { viewInstance, viewInstances } from '../instance-view.ts';
import { awaitFreshOffers } from '../fresh-offers.ts';
import { applyPolicy, readPolicy } from '../failover-order.ts';
import { prepareOrder } from '../provision-order.ts';
import { previewOrder } from '../provision-preview.ts';
import { attemptShown, instanceCostReply, instanceReply, sshOf } from '../replies/instance-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Route } from '../route.ts';
import { streamFeed } from '../stream-feed.ts';

const AREA = 'instances';
const instanceParams = z.object({ id: id('instance') });

export const instanceRoutes: Route[] = [
  route({
    method: 'post',
    path: '/instances',
    alias: '/instances/provision',
    access: 'change',
    area: AREA,
    summary: 'Rent instances',
    description:
      'Answers at once; the operation does the work. With `dryRun` it answers the plan with its quotes and buys nothing; a later request may present the `planHash` of that plan.',
    body: createInstancesBody,
    isIdempotent: true,
    replies: { 200: provisionPlan, 202: instancesAccepted },
    problems: ['conflict', 'plan_changed', 'cap_exceeded'],
    handle: async ({ body, caller, actor, deps, once }) => {
      if (body.dryRun) await awaitFreshOffers(deps, caller, body.providers);
      const order = await prepareOrder(body, caller, deps);
      if (body.dryRun) {
        const notes = agentNotes(deps, 'instance');
        return { status: 200, body: await previewOrder(deps.database.kysely, caller, order, notes) };
      }
      return once(async (tx) => {
        const { planHash, priceTolerancePercent: tolerancePercent } = body;
        const request =
          planHash === undefined
            ? order.request
            : await holdToPlan(tx, order, { orgId: caller.orgId, planHash, tolerancePercent });
        const { operation, instances } = await acceptProvision(tx, deps.queue, {
          orgId: caller.orgId,
          actor,
          names: order.names,
          request,
          consumer: body.consumer ?? null,
          overrideReason: order.overrideReason,
          stackId: order.stackId,
        });
        if (body.failover) await applyPolicy(tx, instances, readPolicy(body.failover), actor);
        const now = Date.now();
        return {
          status: 202,
          body: {
            operation: operationRefReply(operation),
            instances: instances.map((row) => instanceReply(row, [], new Map(), now)),
          },
          location: operationLocation(operation),
        };
      });
    },
  }),
  route({
    method: 'get',
    path: '/instances',
    access: 'read',
    area: AREA,
    summary: 'List instances, newest first',
    query: instanceListQuery,
    replies: { 200: instancePage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const { cursor, limit, ...filter } = query;
      const body = await pageByTime(
        { cursor, limit },
        (page) => listInstances(db, { orgId: caller.orgId, ...filter, ...page }),
        (rows) => viewInstances(db, rows),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/instances/:id',
    access: 'read',
    area: AREA,
    summary: 'Get an instance',
    params: instanceParams,
    replies: { 200: instance },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await requireInstance(db, caller.orgId, params.id);
      return { status: 200, body: await viewInstance(db, row) };
    },
  }),
  route({
    method: 'delete',
    path: '/instances/:id',
    access: 'change',
    area: AREA,
    summary: 'Destroy an instance',
    description: 'Cancels its provision if that still runs. It is destroyed once the provider says not-found.',
    alias: '/instances/:id/destroy',
    params: instanceParams,
    isIdempotent: true,
    replies: { 202: destroyAccepted },
    problems: ['conflict'],
    handle: ({ params, caller, actor, deps, once }) =>
      once(async (tx) => {
        const { operation, instance: row } = await acceptDestroy(tx, deps.queue, {
          orgId: caller.orgId,
          instanceId: params.id,
          actor,
          reason: 'destroyed on request',
        });
        return {
          status: 202,
          body: { operation: operationRefReply(operation), instance: await viewInstance(tx, row) },
          location: operationLocation(operation),
        };
      }),
  }),
  route({
    method: 'post',
    path: '/instances/:id/extend',
    access: 'change',
    area: AREA,
    summary: 'Move the end of the lifetime',
    params: instanceParams,
    body: extendBody,
    isIdempotent: true,
    replies: { 200: instance },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await lockInstance(tx, params.id);
        if (!row || row.org_id !== caller.orgId) throw noInstance(params.id);
        const session = await findSessionOfInstance(tx, row.id);
        if (session) {
          throw new MusterError('conflict', `${row.id} belongs to ${session.id}: extend the session`, {
            facts: { sessionId: session.id },
          });
        }
        const endsAt = endToMove(row, allowedActions(row.status));
        // Its lifetime stood still while it slept.
        const acceptedAt = row.created_at.getTime() + Number(row.asleep_ms);
        const wantedMs = extendedLifetimeMs(acceptedAt, endsAt.getTime(), parseDuration(body.by) as number);
        const { lifetimeMs, overrideReason } = resolveLifetime(wantedMs, {
          maxLifetimeMs: deps.maxLifetimeMs,
          role: caller.role,
          overrideReason: body.overrideReason,
          path: 'by',
        });
        const expiresAt = new Date(acceptedAt + (lifetimeMs as number));
        const changed = await setExpiry(tx, row.id, expiresAt, overrideReason);
        await appendAudit(tx, {
          orgId: row.org_id,
          actor,
          action: 'instance.extend',
          targetKind: 'instance',
          targetId: row.id,
          detail: {
            by: body.by,
            expiresAt: iso(expiresAt),
            ...(overrideReason === null ? {} : { overrideReason }),
          },
        });
        return { status: 200, body: await viewInstance(tx, changed) };
      }),
  }),
  route({
    method: 'get',
    path: '/instances/:id/ssh',
    access: 'read',
    area: AREA,
    summary: 'How to reach it by SSH',
    params: instanceParams,
    replies: { 200: instanceSsh },
    problems: ['conflict'],
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await requireInstance(db, caller.orgId, params.id);
      const shown = attemptShown(row, await listAttemptsOfInstances(db, [row.id]));
      const ssh = sshOf(shown);
      if (!allowedActions(row.status).includes('ssh') || ssh === null || shown === undefined) {
        const next = row.status === 'hibernated' ? 'wake it first' : 'it answers SSH once it is ready';
        throw new MusterError('conflict', `${row.id} is ${row.status}: ${next}`, {
          facts: { state: row.status },
        });
      }
      const command = `ssh -p ${ssh.port} ${ssh.user}@${ssh.host}`;
      return { status: 200, body: { ...ssh, command, attemptId: shown.id } };
    },
  }),
  route({
    method: 'get',
    path: '/instances/:id/cost',
    access: 'read_money',
    area: AREA,
    summary: 'What it has cost so far',
    params: instanceParams,
    replies: { 200: instanceCost },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await requireInstance(db, caller.orgId, params.id);
      return { status: 200, body: await costOf(db, row) };
    },
  }),
  route({
    method: 'get',
    path: '/instances/:id/events',
    access: 'read',
    area: AREA,
    summary: 'Events of its operations',
    description:
      'Server-Sent Events from the beginning, or after `Last-Event-ID`; ends when the instance is destroyed.',
    params: instanceParams,
    replies: { 200: 'text/event-stream' },
    handle: async (call) => {
      const db = call.deps.database.kysely;
      const row = await requireInstance(db, call.caller.orgId, call.params.id);
      await streamFeed(
        call,
        { orgId: row.org_id, instanceId: row.id },
        {
          from: 'start',
          isOver: async () => (await findInstance(db, null, row.id))?.status === 'destroyed',
        },
      );
      return undefined;
    },
  }),
];

async function requireInstance(executor: Executor, orgId: string, instanceId: string): Promise<InstanceRow> {
  const row = await findInstance(executor, orgId, instanceId);
  if (!row) throw noInstance(instanceId);
  return row;
}

function noInstance(instanceId: string): MusterError {
  return new MusterError('not_found', `there is no instance ${instanceId}`);
}

async function costOf(executor: Executor, row: InstanceRow): Promise<InstanceCost> {
  const [attempts, usage] = await Promise.all([
    listAttemptsOfInstances(executor, [row.id]),
    readUsage(executor, [row.id]),
  ]);
  return instanceCostReply(row, attempts, usage, Date.now());
}
