/** Routes of machines: what became of our attempts on each, and the denylist. */
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import { chanceOfSuccess, isDenylisted } from '../../domain/machine-history.ts';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { appendAudit } from '../../db/audit.ts';
import type { AuditRow } from '../../db/audit-pages.ts';
import type { Executor, Tx } from '../../db/database.ts';
import { listDenylistings, listMachinePage } from '../../db/machine-pages.ts';
import { denylistMachine, findMachine, liftMachine, machineRecordFromRow, type MachineRow } from '../../db/machines.ts';
import { readMachineStatistics, type ReadyStatistics } from '../../db/ready-samples.ts';
import {
  denylistBody,
  machine,
  machineDetail,
  machineListQuery,
  machinePage,
  type Machine,
  type MachineDetail,
} from '../contract/machines.ts';
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
    method: 'get',
    path: '/machines/:provider/:machineId',
    access: 'read',
    area: AREA,
    summary: 'Get what is known of a machine, with each denylisting',
    params: machineParams,
    replies: { 200: machineDetail },
    handle: async ({ params, deps }) => {
      const db = deps.database.kysely;
      const row = await findMachine(db, params.provider, params.machineId);
      if (!row) throw unknownMachine(params);
      const [reply, denylistings] = await Promise.all([
        withStatistics(db, [row]).then(([one]) => one),
        listDenylistings(db, params),
      ]);
      return { status: 200, body: { ...reply, denylistings: denylistings.map(denylistingReply) } };
    },
  }),
  route({
    method: 'post',
    path: '/machines/:provider/:machineId/denylist',
    access: 'admin',
    area: AREA,
    summary: 'Buy nothing on this machine for a while',
    description: 'What is rented on it stays. A later end replaces an earlier one.',
    params: machineParams,
    body: denylistBody,
    replies: { 200: machine },
    handle: ({ params, body, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const now = new Date();
        const until = new Date(now.getTime() + (parseDuration(body.for) as number));
        await denylistMachine(tx, params, { until, reason: body.reason }, now);
        await auditMachine(tx, actor, params, 'machine.denylist', { until: iso(until), reason: body.reason });
        return { status: 200, body: await readReply(tx, params) };
      }),
  }),
  route({
    method: 'delete',
    path: '/machines/:provider/:machineId/denylist',
    access: 'admin',
    area: AREA,
    summary: 'Lift the denylisting of a machine',
    description: 'Its failures so far are forgiven: it takes three new attempts to be denylisted automatically again.',
    params: machineParams,
    replies: { 200: machine },
    handle: ({ params, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        if (!(await liftMachine(tx, params))) throw unknownMachine(params);
        await auditMachine(tx, actor, params, 'machine.lift_denylist', {});
        return { status: 200, body: await readReply(tx, params) };
      }),
  }),
];

type MachineParams = z.output<typeof machineParams>;

async function listMachines(
  { query, deps }: Call<'read', unknown, z.output<typeof machineListQuery>>,
  onlyDenylisted: boolean,
) {
  const db = deps.database.kysely;
  const after = readCursor(machineCursor, query.cursor);
  const rows = await listMachinePage(db, {
    ...(query.provider === undefined ? {} : { provider: query.provider }),
    isDenylisted: onlyDenylisted,
    limit: query.limit + 1,
    ...(after ? { after: { provider: after[0], machineId: after[1] } } : {}),
  });
  const { nextCursor } = cutPage(
    rows,
    query.limit,
    (row) => [row.provider, row.machine_id],
    (row) => row,
  );
  return { status: 200, body: { items: await withStatistics(db, rows.slice(0, query.limit)), nextCursor } };
}

async function readReply(executor: Executor, { provider, machineId }: MachineParams): Promise<Machine> {
  const row = (await findMachine(executor, provider, machineId)) as MachineRow;
  return (await withStatistics(executor, [row]))[0] as Machine;
}

async function withStatistics(executor: Executor, rows: MachineRow[]): Promise<Machine[]> {
  const statistics = await readMachineStatistics(executor, rows);
  const now = Date.now();
  return rows.map((row) => machineReply(row, statistics.get(`${row.provider}/machine/${row.machine_id}`), now));
}

function auditMachine(
  tx: Tx,
  actor: Call['actor'],
  { provider, machineId }: MachineParams,
  action: string,
  detail: Record<string, unknown>,
): Promise<void> {
  return appendAudit(tx, {
    orgId: null,
    actor,
    action,
    targetKind: 'machine',
    targetId: `${provider}/${machineId}`,
    detail,
  });
}

function unknownMachine({ provider, machineId }: MachineParams): MusterError {
  return new MusterError('not_found', `nothing is known of machine ${machineId} of ${provider}`);
}

function machineReply(row: MachineRow, statistics: ReadyStatistics | undefined, now: number): Machine {
  const record = machineRecordFromRow(row);
  return {
    provider: row.provider,
    machineId: row.machine_id,
    attempts: row.attempts,
    successes: row.successes,
    losses: row.losses,
    interruptions: row.interruptions,
    chanceOfSuccess: chanceOfSuccess(record),
    meanReadyMs: row.mean_ready_ms,
    p50ReadyMs: statistics?.p50ReadyMs ?? null,
    p95ReadyMs: statistics?.p95ReadyMs ?? null,
    lastFailureCode: row.last_failure_code,
    lastFailureAt: isoOrNull(row.last_failure_at),
    denylisted: isDenylisted(record, now),
    denylistedUntil: isoOrNull(row.denylisted_until),
    denylistReason: row.denylist_reason,
    denylistedAt: isoOrNull(row.denylisted_at),
    denylistedBy: row.denylisted_by,
    updatedAt: iso(row.updated_at),
  };
}

/** Who it was in person is for the admin to read in the audit log. */
function denylistingReply(row: AuditRow): MachineDetail['denylistings'][number] {
  const detail = row.detail as { until?: string; reason?: string };
  return {
    at: iso(row.at),
    action: row.action === 'machine.denylist' ? 'denylist' : 'lift',
    by: row.actor_kind === 'system' ? 'automatic' : 'person',
    until: detail.until ?? null,
    reason: detail.reason ?? null,
  };
}
