/** Routes of the inventory: offers, machine history, denylist. */
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import { parseUsd } from '../../domain/money.ts';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { appendAudit } from '../../db/audit.ts';
import { findOffer, listInventory } from '../../db/inventory.ts';
import { listMachinePage } from '../../db/machine-pages.ts';
import { findMachine, setDenylisted, type MachineRow } from '../../db/machines.ts';
import type { OfferRow } from '../../db/offers.ts';
import {
  denylistBody,
  inventoryQuery,
  machine,
  machineListQuery,
  machinePage,
  offer,
  offerPage,
  type Machine,
  type Offer,
} from '../contract/inventory.ts';
import { id } from '../contract/values.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { iso, isoOrNull, micro, microOrNull } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'inventory';
const machineParams = z.object({ provider: z.enum(PROVIDER_NAMES), machineId: z.string().min(1).max(64) });
/** Sort values are numbers as text; anything else must not reach a cast. */
const inventoryCursor = z.tuple([
  z.enum(['price', '-price', 'price_per_gpu', 'reliability', 'memory']),
  z.string().regex(/^-?\d{1,30}(?:\.\d{1,40})?(?:e-?\d{1,3})?$/),
  z.string().max(64),
]);
const machineCursor = z.tuple([z.string().max(64), z.string().max(64)]);

export const inventoryRoutes: Route[] = [
  route({
    method: 'get',
    path: '/inventory',
    access: 'read',
    area: AREA,
    summary: 'List what can be rented now',
    query: inventoryQuery,
    replies: { 200: offerPage },
    handle: async ({ query, deps }) => {
      const cursor = readCursor(inventoryCursor, query.cursor);
      if (cursor && cursor[0] !== query.sort) {
        throw new MusterError('invalid_request', 'cursor belongs to another sort', {
          errors: [{ path: 'cursor', message: `belongs to a list sorted by ${cursor[0]}` }],
        });
      }
      const gpu = query.gpu === undefined ? undefined : await deps.gpus.resolve(query.gpu);
      const { maxPriceUsdPerHour, limit, cursor: _, ...filter } = query;
      const rows = await listInventory(deps.database.kysely, {
        ...filter,
        ...(gpu === undefined ? {} : { gpu }),
        ...(maxPriceUsdPerHour === undefined
          ? {}
          : { maxPriceMicroUsdPerHour: parseUsd(maxPriceUsdPerHour) as bigint }),
        limit: limit + 1,
        ...(cursor ? { after: { value: cursor[1], id: cursor[2] } } : {}),
      });
      return { status: 200, body: cutPage(rows, limit, (row) => [query.sort, row.sort_value, row.id], offerReply) };
    },
  }),
  route({
    method: 'get',
    path: '/inventory/:id',
    access: 'read',
    area: AREA,
    summary: 'Get an offer',
    params: z.object({ id: id('offer') }),
    replies: { 200: offer },
    handle: async ({ params, deps }) => {
      const row = await findOffer(deps.database.kysely, params.id);
      if (!row) throw new MusterError('not_found', `there is no offer ${params.id}; offers come and go`);
      return { status: 200, body: offerReply(row) };
    },
  }),
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

function offerReply(row: OfferRow): Offer {
  return {
    id: row.id,
    provider: row.provider,
    providerOfferId: row.provider_offer_id,
    machineId: row.machine_id,
    gpu: row.gpu,
    gpuCount: row.gpu_count,
    gpuMemoryGib: row.gpu_memory_gib,
    priceMicroUsdPerHour: micro(row.price_micro_usd_per_hour),
    pricedDiskGib: row.priced_disk_gib,
    diskMicroUsdPerGibHour: micro(row.disk_micro_usd_per_gib_hour),
    floorMicroUsdPerHour: microOrNull(row.floor_micro_usd_per_hour),
    interruptible: row.interruptible,
    region: row.region,
    location: row.location,
    reliability: row.reliability,
    verified: row.verified,
    diskGib: row.disk_gib,
    cpuCores: row.cpu_cores,
    memoryGib: row.memory_gib,
    inetDownMbps: row.inet_down_mbps,
    inetUpMbps: row.inet_up_mbps,
    cudaVersion: row.cuda_version,
    driverVersion: row.driver_version,
    seenAt: iso(row.seen_at),
  };
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
