/** Routes of standbys: made through a stack of their own, shown with how far behind they are. Failovers and drills are routes of their own. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { acceptStackOperation } from '../../db/accept-stack.ts';
import { lockStack, type StackRow } from '../../db/stacks.ts';
import { findStandby, listStandbys, lockStandby } from '../../db/standbys.ts';
import { isTakingOver } from '../../domain/standby.ts';
import {
  createStandbyBody,
  standby,
  standbyAccepted,
  standbyListQuery,
  standbyPage,
  type StandbyAccepted,
} from '../contract/standbys.ts';
import { stackPlan } from '../contract/stacks.ts';
import { id } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { standbyReply } from '../replies/standby-reply.ts';
import { route, type Route } from '../route.ts';
import { auditStandby, describeStandby, makeStandby, planStandby } from '../standby-making.ts';

const AREA = 'standby';
const params = z.object({ id: id('standby') });

export const standbyRoutes: Route[] = [
  route({
    method: 'post',
    path: '/standby',
    access: 'change',
    area: AREA,
    summary: 'Make a standby for an instance',
    description:
      'A CPU machine at Google, made through a stack of its own (kind `standby`), that carries our agent and is kept in sync with the workspace of the instance. With `dryRun` it answers what would be made and its price, and a later request may present the `planHash`.',
    body: createStandbyBody,
    isIdempotent: true,
    replies: { 200: stackPlan, 202: standbyAccepted },
    problems: ['conflict', 'plan_changed', 'stack_refused', 'engine_unavailable', 'engine_failed', 'canceled'],
    handle: (call) => (call.body.dryRun ? planStandby(call, call.body) : makeStandby(call, call.body)),
  }),
  route({
    method: 'get',
    path: '/standby',
    access: 'read',
    area: AREA,
    summary: 'List standbys, newest first',
    query: standbyListQuery,
    replies: { 200: standbyPage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const wanted = {
        orgId: caller.orgId,
        ...(query.instanceId ? { instanceId: query.instanceId } : {}),
        ...(query.status ? { status: query.status } : {}),
      };
      const body = await pageByTime(
        query,
        (page) => listStandbys(db, { ...wanted, ...page }),
        (rows) => Promise.all(rows.map((row) => describeStandby(db, row))),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/standby/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a standby',
    params,
    replies: { 200: standby },
    handle: async ({ caller, deps, params: { id: standbyId } }) => {
      const row = await findStandby(deps.database.kysely, caller.orgId, standbyId);
      if (!row) throw noStandby(standbyId);
      return { status: 200, body: await describeStandby(deps.database.kysely, row) };
    },
  }),
  route({
    method: 'delete',
    path: '/standby/:id',
    access: 'change',
    area: AREA,
    summary: 'Destroy a standby',
    description:
      'With its stack, unless that is protected. Refused while it serves: fail back first. The snapshots of the workspace stay.',
    params,
    isIdempotent: true,
    replies: { 202: standbyAccepted },
    problems: ['conflict', 'stack_protected'],
    handle: ({ caller, deps, actor, params: { id: standbyId }, once }) =>
      once(async (tx) => {
        const row = await lockStandby(tx, standbyId);
        if (row?.org_id !== caller.orgId) throw noStandby(standbyId);
        if (row.status === 'destroyed' || isTakingOver(row.status))
          throw new MusterError('conflict', `${row.name} is ${row.status}`, { facts: { state: row.status } });
        const stack = (await lockStack(tx, row.stack_id)) as StackRow;
        const operation = await acceptStackOperation(tx, deps.queue, { stack, kind: 'destroy_stack', actor });
        await auditStandby(tx, { actor }, row, 'standby.destroy');
        const body: StandbyAccepted = {
          operation: operationRefReply(operation),
          standby: standbyReply(row, stack, operation, Date.now()),
        };
        return { status: 202, body, location: operationLocation(operation) };
      }),
  }),
];

function noStandby(standbyId: string): MusterError {
  return new MusterError('not_found', `there is no standby ${standbyId}`);
}
