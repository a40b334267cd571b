/** Routes of the fleet: counts and burn, providers, audit. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { appendAudit } from '../../db/audit.ts';
import { listAudit, type AuditRow } from '../../db/audit-pages.ts';
import { listCircuits, resetCircuits, type ProviderCircuit } from '../../db/circuits.ts';
import { readOrgFleet } from '../../db/fleet.ts';
import { findProvider, listProviders, setProviderEnabled, type ProviderRow } from '../../db/providers.ts';
import { auditPage, auditQuery, type AuditEntry } from '../contract/audit.ts';
import { fleet } from '../contract/findings.ts';
import { provider, providerPage, providerSwitchBody, type Provider } from '../contract/providers.ts';
import { pageQuery } from '../contract/values.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { iso, isoOrNull, micro } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

const AREA = 'fleet';
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
    path: '/providers',
    access: 'read',
    area: AREA,
    summary: 'List providers and the state they were last found in',
    query: pageQuery,
    replies: { 200: providerPage },
    handle: async ({ query, caller, deps }) => {
      const all = await listProviders(deps.database.kysely);
      const circuits = await listCircuits(deps.database.kysely);
      const after = readCursor(z.tuple([z.string()]), query.cursor);
      const rows = after ? all.filter((row) => row.name > after[0]) : all;
      return {
        status: 200,
        body: cutPage(
          rows,
          query.limit,
          (row) => [row.name],
          (row) => providerReply(row, circuits, caller.isAdmin),
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

/**
 * Enabling buys nothing and disabling destroys nothing: what is rented there stays, only new purchases are let through or not. Who enables
 * also says that the provider is well: its circuits are closed.
 */
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
        if (verb === 'enable') await resetCircuits(tx, params.name);
        await appendAudit(tx, {
          orgId: null,
          actor,
          action: `provider.${verb}`,
          targetKind: 'provider',
          targetId: params.name,
          detail: body.reason === undefined ? {} : { reason: body.reason },
        });
        const row = (await findProvider(tx, params.name)) as ProviderRow;
        return { status: 200, body: providerReply(row, await listCircuits(tx), true) };
      }),
  });
}

/** How many foreign machines the account has concerns the deployment, not its orgs. */
function providerReply(row: ProviderRow, circuits: ProviderCircuit[], isAdmin: boolean): Provider {
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
    circuits: circuits
      .filter((one) => one.provider === row.name)
      .map(({ source, state, reason, openUntil, opens }) => ({
        source,
        state,
        reason,
        openUntil: isoOrNull(openUntil),
        opens,
      })),
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
