/** Routes of the fleet: counts and burn, findings, providers, audit. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { appendAudit } from '../../db/audit.ts';
import { listAudit, type AuditRow } from '../../db/audit-pages.ts';
import { findFinding, listFindings, setFindingStatus, type FindingRow } from '../../db/findings.ts';
import { readOrgFleet } from '../../db/fleet.ts';
import { acceptOperation } from '../../db/operations.ts';
import { findProvider, listProviders, setProviderEnabled, type ProviderRow } from '../../db/providers.ts';
import type { Tx } from '../../db/database.ts';
import type { Caller } from '../caller.ts';
import { auditPage, auditQuery, type AuditEntry } from '../contract/audit.ts';
import {
  finding,
  findingActionBody,
  findingDestroyAccepted,
  findingListQuery,
  findingPage,
  fleet,
  type Finding,
} from '../contract/findings.ts';
import { provider, providerPage, providerSwitchBody, type Provider } from '../contract/providers.ts';
import { id, pageQuery } from '../contract/values.ts';
import { byTime, cutPage, readCursor } from '../cursor.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { iso, isoOrNull, micro, microOrNull } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'fleet';
const findingParams = z.object({ id: id('finding') });
const providerParams = z.object({ name: z.string().max(32) });

export const fleetRoutes: Route[] = [
  route({
    method: 'get',
    path: '/fleet',
    access: 'read_money',
    area: AREA,
    summary: "The org's fleet now: counts, burn, what has no end",
    replies: { 200: fleet },
    handle: async ({ caller, deps }) => {
      const state = await readOrgFleet(deps.database.kysely, caller.orgId);
      return {
        status: 200,
        body: {
          instances: {
            live: state.byStatus.reduce((sum, { count }) => sum + count, 0),
            byStatus: Object.fromEntries(state.byStatus.map(({ status, count }) => [status, count])),
          },
          machines: state.byProvider.reduce((sum, { machines }) => sum + machines, 0),
          burnMicroUsdPerHour: micro(state.byProvider.reduce((sum, one) => sum + one.burnMicroUsdPerHour, 0n)),
          accruedMicroUsd: micro(state.accruedMicroUsd),
          byProvider: state.byProvider.map((one) => ({ ...one, burnMicroUsdPerHour: micro(one.burnMicroUsdPerHour) })),
          openFindings: state.openFindings,
          unbounded: state.unbounded.map((row) => ({
            instanceId: row.id,
            name: row.name,
            overrideReason: row.override_reason,
          })),
          asOf: iso(new Date()),
        },
      };
    },
  }),
  route({
    method: 'get',
    path: '/findings',
    access: 'read',
    area: AREA,
    summary: 'List differences between recorded and observed, newest first',
    description: "The deployment's admin also sees those of no org and of other orgs.",
    query: findingListQuery,
    replies: { 200: findingPage },
    handle: async ({ query, caller, deps }) => {
      const before = readCursor(byTime, query.cursor);
      const rows = await listFindings(deps.database.kysely, {
        orgId: caller.isAdmin ? null : caller.orgId,
        ...(query.status === undefined ? {} : { status: query.status }),
        limit: query.limit + 1,
        ...(before ? { before: { firstSeenAt: new Date(before[0]), id: before[1] } } : {}),
      });
      return { status: 200, body: cutPage(rows, query.limit, (row) => [iso(row.first_seen_at), row.id], findingReply) };
    },
  }),
  route({
    method: 'post',
    path: '/findings/:id/destroy',
    access: 'change',
    area: AREA,
    summary: 'Destroy an orphan',
    params: findingParams,
    body: findingActionBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: findingDestroyAccepted },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await requireAction(tx, caller, params.id, 'destroy');
        const operation = await acceptOperation(tx, deps.queue, {
          orgId: row.org_id,
          kind: 'destroy_machine',
          targetKind: 'finding',
          targetId: row.id,
          stackId: null,
          input: { reason: body.reason ?? null },
          deterministicKey: `destroy:${row.id}`,
          createdBy: caller.id,
        });
        await setFindingStatus(tx, row.id, 'resolving', operation.id);
        await auditFinding(tx, actor, row, 'finding.destroy', body.reason);
        const changed = (await findFinding(tx, row.id)) as FindingRow;
        return {
          status: 202,
          body: { operation: operationRefReply(operation), finding: findingReply(changed) },
          location: operationLocation(operation),
        };
      }),
  }),
  route({
    method: 'post',
    path: '/findings/:id/ignore',
    access: 'change',
    area: AREA,
    summary: 'Ignore a finding from now on',
    params: findingParams,
    body: findingActionBody,
    isBodyOptional: true,
    replies: { 200: finding },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireAction(tx, caller, params.id, 'ignore');
        await setFindingStatus(tx, row.id, 'ignored');
        await auditFinding(tx, actor, row, 'finding.ignore', body.reason);
        return { status: 200, body: findingReply((await findFinding(tx, row.id)) as FindingRow) };
      }),
  }),
  route({
    method: 'get',
    path: '/providers',
    access: 'read',
    area: AREA,
    summary: 'List providers and the state they were last found in',
    query: pageQuery,
    replies: { 200: providerPage },
    handle: async ({ query, caller, deps }) => {
      const all = await listProviders(deps.database.kysely);
      const after = readCursor(z.tuple([z.string()]), query.cursor);
      const rows = after ? all.filter((row) => row.name > after[0]) : all;
      return {
        status: 200,
        body: cutPage(
          rows,
          query.limit,
          (row) => [row.name],
          (row) => providerReply(row, caller.isAdmin),
        ),
      };
    },
  }),
  switchRoute('enable'),
  switchRoute('disable'),
  route({
    method: 'get',
    path: '/audit',
    access: 'read',
    area: AREA,
    summary: 'List who did what, newest first',
    query: auditQuery,
    replies: { 200: auditPage },
    handle: async ({ query, caller, deps }) => {
      const { cursor, limit, ...filter } = query;
      const before = readCursor(z.tuple([z.string().regex(/^\d{1,18}$/)]), cursor);
      const rows = await listAudit(deps.database.kysely, {
        orgId: caller.orgId,
        includesDeployment: caller.isAdmin,
        ...filter,
        limit: limit + 1,
        ...(before ? { before: before[0] } : {}),
      });
      return { status: 200, body: cutPage(rows, limit, (row) => [row.seq.toString()], auditReply) };
    },
  }),
];

/** Enabling buys nothing and disabling destroys nothing: what is rented there stays, only new purchases are let through or not. */
function switchRoute(verb: 'enable' | 'disable'): Route {
  return route({
    method: 'post',
    path: `/providers/:name/${verb}`,
    access: 'admin',
    area: AREA,
    summary: verb === 'enable' ? 'Buy from a provider again' : 'Buy nothing more from a provider',
    params: providerParams,
    body: providerSwitchBody,
    isBodyOptional: true,
    replies: { 200: provider },
    handle: ({ params, body, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        if (!(await findProvider(tx, params.name)))
          throw new MusterError('not_found', `there is no provider ${params.name}`);
        await setProviderEnabled(tx, params.name, verb === 'enable');
        await appendAudit(tx, {
          orgId: null,
          actor,
          action: `provider.${verb}`,
          targetKind: 'provider',
          targetId: params.name,
          detail: body.reason === undefined ? {} : { reason: body.reason },
        });
        return { status: 200, body: providerReply((await findProvider(tx, params.name)) as ProviderRow, true) };
      }),
  });
}

/** The caller's finding (the admin's: any) that allows the action now. */
async function requireAction(
  tx: Tx,
  caller: Caller,
  findingId: string,
  action: 'destroy' | 'ignore',
): Promise<FindingRow> {
  const row = await findFinding(tx, findingId);
  if (!row || (!caller.isAdmin && row.org_id !== caller.orgId)) {
    throw new MusterError('not_found', `there is no finding ${findingId}`);
  }
  if (!actionsOf(row).includes(action)) {
    throw new MusterError(
      'conflict',
      `${row.id} is ${row.status} and of the class ${row.class}: it does not allow ${action}`,
      {
        facts: { state: row.status, class: row.class },
      },
    );
  }
  return row;
}

/** Only an orphan is ours to destroy; a foreign machine is never touched. */
function actionsOf(row: FindingRow): Finding['allowedActions'] {
  if (row.status !== 'open') return [];
  return row.class === 'orphan' && row.provider_instance_id !== null && row.label !== null
    ? ['destroy', 'ignore']
    : ['ignore'];
}

function auditFinding(
  tx: Tx,
  actor: Call['actor'],
  row: FindingRow,
  action: string,
  reason: string | undefined,
): Promise<void> {
  return appendAudit(tx, {
    orgId: row.org_id,
    actor,
    action,
    targetKind: 'finding',
    targetId: row.id,
    detail: {
      class: row.class,
      provider: row.provider,
      providerInstanceId: row.provider_instance_id,
      ...(reason ? { reason } : {}),
    },
  });
}

function findingReply(row: FindingRow): Finding {
  return {
    id: row.id,
    orgId: row.org_id,
    class: row.class,
    provider: row.provider,
    providerInstanceId: row.provider_instance_id,
    attemptId: row.attempt_id,
    instanceId: row.instance_id,
    label: row.label,
    detail: row.detail,
    priceMicroUsdPerHour: microOrNull(row.price_micro_usd_per_hour),
    sightings: row.sightings,
    status: row.status,
    operationId: row.operation_id,
    allowedActions: actionsOf(row),
    firstSeenAt: iso(row.first_seen_at),
    lastSeenAt: iso(row.last_seen_at),
    resolvedAt: isoOrNull(row.resolved_at),
  };
}

/** How many foreign machines the account has concerns the deployment, not its orgs. */
function providerReply(row: ProviderRow, isAdmin: boolean): Provider {
  return {
    name: row.name,
    mode: row.mode,
    enabled: row.enabled,
    status: row.status,
    reason: row.reason,
    offersCount: row.offers_count,
    offersSeenAt: isoOrNull(row.offers_seen_at),
    instancesCount: isAdmin ? row.instances_count : null,
    instancesSeenAt: isoOrNull(row.instances_seen_at),
    foreignCount: isAdmin ? row.foreign_count : null,
    quarantinedAt: isoOrNull(row.quarantined_at),
    updatedAt: iso(row.updated_at),
  };
}

function auditReply(row: AuditRow): AuditEntry {
  return {
    seq: Number(row.seq),
    at: iso(row.at),
    actorKind: row.actor_kind,
    actorId: row.actor_id,
    action: row.action,
    targetKind: row.target_kind,
    targetId: row.target_id,
    requestId: row.request_id,
    detail: row.detail as Record<string, unknown>,
  };
}
