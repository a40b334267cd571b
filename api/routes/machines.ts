/** Routes of machines: what became of our attempts on each, and the denylist. */
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { appendAudit } from '../../db/audit.ts';
import { listMachinePage } from '../../db/machine-pages.ts';
import { findMachine, setDenylisted, type MachineRow } from '../../db/machines.ts';
import { denylistBody, machine, machineListQuery, machinePage, type Machine } from '../contract/machines.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { iso, isoOrNull } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'inventory';
const machineParams = z.object({ provider: z.enum(PROVIDER_NAMES), machineId: z.string().min(1).max(64) });
const machineCursor = z.tuple([z.string().max(64), z.string().max(64)]);

export const machineRoutes: Route[] = [
  route({
    method: 'get',
    path: '/machines/history',
    access: 'read',
    area: AREA,
    summary: 'List what became of our attempts on each machine',
    query: machineListQuery,
    replies: { 200: machinePage },
    handle: (call) => listMachines(call, false),
  }),
  route({
    method: 'get',
    path: '/machines/denylist',
    access: 'read',
    area: AREA,
    summary: 'List machines that nothing is bought on',
    query: machineListQuery,
    replies: { 200: machinePage },
    handle: (call) => listMachines(call, true),
  }),
  route({
    method: 'post',
    path: '/machines/:provider/:machineId/denylist',
    access: 'admin',
    area: AREA,
    summary: 'Buy nothing on this machine for a while',
    params: machineParams,
    body: denylistBody,
    replies: { 200: machine },
    handle: ({ params, body, actor, deps }) => {
      const until = new Date(Date.now() + (parseDuration(body.for) as number));
      return changeDenylist({ params, actor, deps }, { until, reason: body.reason, action: 'machine.denylist' });
    },
  }),
  route({
    method: 'delete',
    path: '/machines/:provider/:machineId/denylist',
    access: 'admin',
    area: AREA,
    summary: 'Lift the denylisting of a machine',
    params: machineParams,
    replies: { 200: machine },
    handle: async ({ params, actor, deps }) => {
      const row = await findMachine(deps.database.kysely, params.provider, params.machineId);
      if (!row)
        throw new MusterError('not_found', `nothing is known of machine ${params.machineId} of ${params.provider}`);
      return changeDenylist({ params, actor, deps }, { until: null, reason: null, action: 'machine.lift_denylist' });
    },
  }),
];

type MachineCall = Pick<Call, 'actor' | 'deps'> & { params: z.output<typeof machineParams> };

function changeDenylist(
  { params, actor, deps }: MachineCall,
  change: { until: Date | null; reason: string | null; action: string },
) {
  const { provider, machineId } = params;
  return deps.database.kysely.transaction().execute(async (tx) => {
    await setDenylisted(tx, provider, machineId, change.until, change.reason);
    await appendAudit(tx, {
      orgId: null,
      actor,
      action: change.action,
      targetKind: 'machine',
      targetId: `${provider}/${machineId}`,
      detail: change.until === null ? {} : { until: iso(change.until), reason: change.reason },
    });
    return { status: 200, body: machineReply((await findMachine(tx, provider, machineId)) as MachineRow) };
  });
}

async function listMachines(
  { query, deps }: Call<'read', unknown, z.output<typeof machineListQuery>>,
  isDenylisted: boolean,
) {
  const after = readCursor(machineCursor, query.cursor);
  const rows = await listMachinePage(deps.database.kysely, {
    ...(query.provider === undefined ? {} : { provider: query.provider }),
    isDenylisted,
    limit: query.limit + 1,
    ...(after ? { after: { provider: after[0], machineId: after[1] } } : {}),
  });
  return { status: 200, body: cutPage(rows, query.limit, (row) => [row.provider, row.machine_id], machineReply) };
}

function machineReply(row: MachineRow): Machine {
  return {
    provider: row.provider,
    machineId: row.machine_id,
    attempts: row.attempts,
    successes: row.successes,
    losses: row.losses,
    meanReadyMs: row.mean_ready_ms,
    lastFailureCode: row.last_failure_code,
    lastFailureAt: isoOrNull(row.last_failure_at),
    denylistedUntil: isoOrNull(row.denylisted_until),
    denylistReason: row.denylist_reason,
    updatedAt: iso(row.updated_at),
  };
}
