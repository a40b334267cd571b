/** Routes of drills: failovers on purpose, with their figures as JSON and as a page. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { acceptDrill } from '../../db/accept-drill.ts';
import { findDrill, listDrills, type DrillRow } from '../../db/drills.ts';
import { findInstance } from '../../db/instances.ts';
import { findStandby } from '../../db/standbys.ts';
import { createDrillBody, drill, drillAccepted, drillListQuery, drillPage } from '../contract/standbys.ts';
import { id } from '../contract/values.ts';
import { pageByTime, type PageOfTime } from '../cursor.ts';
import { renderDrillReport } from '../drill-report.ts';
import { targetsOf } from '../drill-targets.ts';
import { drillReply } from '../replies/drill-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'standby';
const params = z.object({ id: id('drill') });

export const drillRoutes: Route[] = [
  route({
    method: 'post',
    path: '/standby/drills',
    access: 'change',
    area: AREA,
    summary: 'Lose a machine on purpose, and see what happens',
    description:
      'It begins when the standby is in sync, makes the loss, and measures detection, recovery time, recovery point and cost until a replacement has the workload. It has failed when a target is missed.',
    body: createDrillBody,
    isIdempotent: true,
    replies: { 202: drillAccepted },
    problems: ['conflict'],
    handle: ({ body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const standby = await findStandby(tx, caller.orgId, body.standbyId);
        if (!standby)
          throw new MusterError('invalid_request', `there is no standby ${body.standbyId}`, {
            errors: [{ path: 'standbyId', message: 'names no standby of this org' }],
          });
        const targets = targetsOf(body.targets, { state: standby.state, rpoMs: standby.rpo_ms });
        const order = { standbyId: standby.id, mode: body.mode, targets, actor };
        const { drill: row, operation } = await acceptDrill(tx, deps.queue, order);
        return {
          status: 202,
          body: { operation: operationRefReply(operation), drill: drillReply(row) },
          location: operationLocation(operation),
        };
      }),
  }),
  route({
    method: 'get',
    path: '/standby/drills',
    access: 'read',
    area: AREA,
    summary: 'List drills, newest first',
    query: drillListQuery,
    replies: { 200: drillPage },
    handle: async ({ query, caller, deps }) => {
      const wanted = {
        orgId: caller.orgId,
        ...(query.standbyId ? { standbyId: query.standbyId } : {}),
        ...(query.status ? { status: query.status } : {}),
      };
      const list = (page: PageOfTime) => listDrills(deps.database.kysely, { ...wanted, ...page });
      return { status: 200, body: await pageByTime(query, list, (rows) => rows.map(drillReply)) };
    },
  }),
  route({
    method: 'get',
    path: '/standby/drills/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a drill with its figures',
    params,
    replies: { 200: drill },
    handle: async (call) => ({ status: 200, body: drillReply(await requireDrill(call)) }),
  }),
  route({
    method: 'get',
    path: '/standby/drills/:id/report',
    access: 'read',
    area: AREA,
    summary: 'The report of a drill as a page',
    params,
    replies: { 200: 'text/html' },
    handle: async (call) => {
      const db = call.deps.database.kysely;
      const row = await requireDrill(call);
      const [standby, instance] = await Promise.all([
        findStandby(db, row.org_id, row.standby_id),
        findInstance(db, row.org_id, row.instance_id),
      ]);
      const names = { standby: standby?.name ?? row.standby_id, instance: instance?.name ?? row.instance_id };
      return { status: 200, body: renderDrillReport(drillReply(row), names) };
    },
  }),
];

async function requireDrill({
  caller,
  deps,
  params: { id: drillId },
}: Pick<Call<'read', { id: string }>, 'caller' | 'deps' | 'params'>): Promise<DrillRow> {
  const row = await findDrill(deps.database.kysely, caller.orgId, drillId);
  if (!row) throw new MusterError('not_found', `there is no drill ${drillId}`);
  return row;
}
