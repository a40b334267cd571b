/** Routes of failovers: policies, episodes, what a person begins by hand, and where a workload is now. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { auditRow } from '../../db/audit.ts';
import type { Executor } from '../../db/database.ts';
import { findEndpoint } from '../../db/endpoints.ts';
import { findFailoverPolicy } from '../../db/failover-policies.ts';
import {
  findFailover,
  findRunningFailover,
  listFailovers,
  measureFailoverCost,
  updateFailover,
  type FailoverRow,
} from '../../db/failovers.ts';
import { findInstance, lockInstance, type InstanceRow } from '../../db/instances.ts';
import { findOperation, wakeOperation, type OperationRow } from '../../db/operations.ts';
import { findStandby } from '../../db/standbys.ts';
import {
  endpoint,
  failBackBody,
  failover,
  failoverAccepted,
  failoverListQuery,
  failoverPage,
  failoverPolicy,
  failoverPolicyBody,
  failOverBody,
  failOverToStandbyBody,
  type FailoverReply,
} from '../contract/failovers.ts';
import { id } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { applyPolicy, orderFailover, readPolicy } from '../failover-order.ts';
import { endpointReply, failoverPolicyReply, failoverReply } from '../replies/failover-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { route, type Route } from '../route.ts';

const AREA = 'standby';
const instanceParams = z.object({ id: id('instance') });

export const failoverRoutes: Route[] = [
  route({
    method: 'get',
    path: '/instances/:id/endpoint',
    access: 'read',
    area: 'instances',
    summary: 'Where its workload is reached now',
    description:
      'A stable record: it follows the workload from machine to machine and to its standby. A change is told by the webhook `endpoint.changed`.',
    params: instanceParams,
    replies: { 200: endpoint },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const instance = await requireInstance(db, caller.orgId, params.id);
      return { status: 200, body: endpointReply(instance.id, await findEndpoint(db, instance.id)) };
    },
  }),
  route({
    method: 'get',
    path: '/instances/:id/failover-policy',
    access: 'read',
    area: AREA,
    summary: 'What happens by itself when it loses its machine',
    params: instanceParams,
    replies: { 200: failoverPolicy },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const instance = await requireInstance(db, caller.orgId, params.id);
      const policy = await findFailoverPolicy(db, instance.id);
      if (!policy) throw new MusterError('not_found', `${instance.id} has no failover policy`);
      return { status: 200, body: failoverPolicyReply(instance.id, policy) };
    },
  }),
  route({
    method: 'post',
    path: '/instances/:id/failover-policy',
    access: 'change',
    area: AREA,
    summary: 'Say what happens by itself when it loses its machine',
    description: 'Replaces the policy that it has. It gets a workspace, saved as often as `rpo` promises.',
    params: instanceParams,
    body: failoverPolicyBody,
    isIdempotent: true,
    replies: { 200: failoverPolicy },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, once }) =>
      once(async (tx) => {
        const instance = await lockInstance(tx, params.id);
        if (!instance || instance.org_id !== caller.orgId) throw noInstance(params.id);
        if (instance.status === 'destroying' || instance.status === 'destroyed') {
          throw new MusterError('conflict', `${instance.id} is ${instance.status}`, {
            facts: { state: instance.status },
          });
        }
        const policy = readPolicy(body);
        await applyPolicy(tx, [instance], policy, actor);
        return { status: 200, body: failoverPolicyReply(instance.id, policy) };
      }),
  }),
  route({
    method: 'post',
    path: '/instances/:id/failover',
    access: 'change',
    area: AREA,
    summary: 'Fail over now',
    description:
      'Its machine is fenced and destroyed, and the work goes on elsewhere. While the machine lives a last snapshot is taken first. Asked again, it answers the failover under way.',
    params: instanceParams,
    body: failOverBody,
    isIdempotent: true,
    replies: { 202: failoverAccepted },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        await requireInstance(tx, caller.orgId, params.id);
        const order = {
          instanceId: params.id,
          cause: 'requested' as const,
          reasons: [body.reason],
          actor,
          acceptsDataLoss: body.acceptDataLoss,
          ...(body.mode === undefined ? {} : { mode: body.mode }),
        };
        return accepted(tx, await orderFailover(tx, deps.queue, order));
      }),
  }),
  route({
    method: 'post',
    path: '/standby/failover',
    access: 'change',
    area: AREA,
    summary: 'Have a standby take over now',
    body: failOverToStandbyBody,
    isIdempotent: true,
    replies: { 202: failoverAccepted },
    problems: ['conflict'],
    handle: ({ body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const standby = await findStandby(tx, caller.orgId, body.standbyId);
        if (!standby) throw noStandby(body.standbyId);
        const order = {
          instanceId: standby.instance_id,
          cause: 'requested' as const,
          mode: 'standby' as const,
          reasons: [body.reason],
          actor,
          acceptsDataLoss: body.acceptDataLoss,
        };
        return accepted(tx, await orderFailover(tx, deps.queue, order));
      }),
  }),
  route({
    method: 'post',
    path: '/standby/failback',
    access: 'change',
    area: AREA,
    summary: 'Have another machine take over from a standby that serves',
    description: 'A machine is bought, gets what the standby has, and becomes the endpoint; the standby goes to rest.',
    body: failBackBody,
    isIdempotent: true,
    replies: { 202: failoverAccepted },
    problems: ['conflict'],
    handle: ({ body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const standby = await findStandby(tx, caller.orgId, body.standbyId);
        if (!standby) throw noStandby(body.standbyId);
        const running = await findRunningFailover(tx, standby.instance_id);
        if (!running || running.standby_id !== standby.id || running.operation_id === null) {
          throw new MusterError('conflict', `${standby.id} does not serve: it is ${standby.status}`, {
            facts: { state: standby.status },
          });
        }
        if (running.failback_requested_at === null) {
          await updateFailover(tx, running.id, { failback_requested_at: new Date() });
          await auditRow(tx, actor, standby, 'standby.fail_back', { failoverId: running.id });
          await wakeOperation(tx, deps.queue, running.operation_id);
        }
        const row = (await findFailover(tx, null, running.id)) as FailoverRow;
        const operation = (await findOperation(tx, null, running.operation_id)) as OperationRow;
        return accepted(tx, { failover: row, operation });
      }),
  }),
  route({
    method: 'get',
    path: '/standby/failovers',
    access: 'read',
    area: AREA,
    summary: 'List failovers, newest first',
    query: failoverListQuery,
    replies: { 200: failoverPage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const { cursor, limit, ...filter } = query;
      const wanted = {
        orgId: caller.orgId,
        ...(filter.instanceId === undefined ? {} : { instanceId: filter.instanceId }),
        ...(filter.phase === undefined ? {} : { phase: filter.phase }),
      };
      const body = await pageByTime(
        { cursor, limit },
        (page) => listFailovers(db, { ...wanted, ...page }),
        async (rows) => {
          const shown: FailoverReply[] = [];
          for (const row of rows) shown.push(await viewFailover(db, row));
          return shown;
        },
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/standby/failovers/:id',
    access: 'read',
    area: AREA,
    summary: 'A failover: its phases with their times and what they cost',
    params: z.object({ id: id('failover') }),
    replies: { 200: failover },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await findFailover(db, caller.orgId, params.id);
      if (!row) throw new MusterError('not_found', `there is no failover ${params.id}`);
      return { status: 200, body: await viewFailover(db, row) };
    },
  }),
];

async function viewFailover(executor: Executor, row: FailoverRow): Promise<FailoverReply> {
  return failoverReply(row, await measureFailoverCost(executor, row));
}

async function accepted(executor: Executor, made: { failover: FailoverRow; operation: OperationRow }) {
  const { failover: row, operation } = made;
  return {
    status: 202 as const,
    body: { operation: operationRefReply(operation), failover: await viewFailover(executor, row) },
    location: operationLocation(operation),
  };
}

async function requireInstance(executor: Executor, orgId: string, instanceId: string): Promise<InstanceRow> {
  const row = await findInstance(executor, orgId, instanceId);
  if (!row) throw noInstance(instanceId);
  return row;
}

function noInstance(instanceId: string): MusterError {
  return new MusterError('not_found', `there is no instance ${instanceId}`);
}

function noStandby(standbyId: string): MusterError {
  return new MusterError('not_found', `there is no standby ${standbyId}`);
}
