/** Routes of sourcing: the rules of an org, and what was found for them. The cron source-capacity carries them out. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { parseUsd } from '../../domain/money.ts';
import { isTowardTarget, type SourcedInstance } from '../../domain/sourcing.ts';
import { auditRow } from '../../db/audit.ts';
import type { Executor, Tx } from '../../db/database.ts';
import {
  deleteSourcingRule,
  insertSourcingRule,
  listSourced,
  listSourcingRules,
  lockSourcingRule,
  updateSourcingRule,
  type SourcingRuleFields,
  type SourcingRuleRow,
} from '../../db/sourcing-rules.ts';
import {
  changeSourcingRuleBody,
  createSourcingRuleBody,
  sourcingCandidatesPage,
  sourcingQuery,
  sourcingRule,
  sourcingRulePage,
  type SourcingCandidates,
  type SourcingRule,
} from '../contract/sourcing.ts';
import { id } from '../contract/values.ts';
import type { ApiContext } from '../api-deps.ts';
import { pageByTime, type PageOfTime } from '../cursor.ts';
import { iso, isoOrNull, micro } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'sourcing';
const ruleParams = z.object({ id: id('sourcingRule') });

export const sourcingRoutes: Route[] = [
  route({
    method: 'get',
    path: '/sourcing/rules',
    access: 'read',
    area: AREA,
    summary: 'List sourcing rules, newest first',
    query: sourcingQuery,
    replies: { 200: sourcingRulePage },
    handle: async (call) => {
      const db = call.deps.database.kysely;
      const body = await pageByTime(call.query, rulesOf(call), (rows) => rulesReply(db, call.deps, rows));
      return { status: 200, body };
    },
  }),
  route({
    method: 'post',
    path: '/sourcing/rules',
    access: 'change',
    area: AREA,
    summary: 'Keep machines ready by a rule',
    description:
      'Looked at every 5 minutes, as far as `MUSTER_SOURCING` allows: `off` by default. What it buys are ordinary instances of the org.',
    body: createSourcingRuleBody,
    replies: { 201: sourcingRule },
    problems: ['conflict'],
    handle: async ({ body, caller, actor, deps }) => {
      const gpu = await deps.gpus.resolve(body.gpu);
      const { name, enabled, target, maxPriceUsdPerHour, consumer, ...wanted } = body;
      const fields: SourcingRuleFields = {
        name,
        enabled,
        target,
        maxPriceMicroUsdPerHour: parseUsd(maxPriceUsdPerHour) as bigint,
        consumer: consumer ?? null,
        wanted: {
          ...wanted,
          gpu,
          minGpuMemoryGib: wanted.minGpuMemoryGib ?? null,
          minReliability: wanted.minReliability ?? null,
        },
      };
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await insertSourcingRule(tx, { ...fields, orgId: caller.orgId, createdBy: caller.id });
        if (row === null) throw nameTaken(name);
        await auditRule(tx, actor, row, 'sourcing_rule.create');
        return { status: 201, body: (await rulesReply(tx, deps, [row]))[0] };
      });
    },
  }),
  route({
    method: 'patch',
    path: '/sourcing/rules/:id',
    access: 'change',
    area: AREA,
    summary: 'Change a sourcing rule',
    description: 'What it bought stays, also above a smaller target.',
    params: ruleParams,
    body: changeSourcingRuleBody,
    replies: { 200: sourcingRule },
    problems: ['conflict'],
    handle: async ({ params, body, caller, actor, deps }) => {
      const { gpu, ...changes } = body;
      const resolved = gpu === undefined ? changes : { ...changes, gpu: await deps.gpus.resolve(gpu) };
      return deps.database.kysely
        .transaction()
        .execute(async (tx) => {
          const row = await requireRule(tx, caller.orgId, params.id);
          const changed = await updateSourcingRule(tx, row.id, changedFields(row, resolved));
          await auditRule(tx, actor, changed, 'sourcing_rule.change');
          return { status: 200, body: (await rulesReply(tx, deps, [changed]))[0] };
        })
        .catch((error: unknown) => {
          if ((error as { constraint?: string }).constraint === 'sourcing_rules_name') throw nameTaken(body.name ?? '');
          throw error;
        });
    },
  }),
  route({
    method: 'delete',
    path: '/sourcing/rules/:id',
    access: 'change',
    area: AREA,
    summary: 'Delete a sourcing rule',
    description: 'It buys no more. What it bought stays until it is destroyed or its lifetime ends.',
    params: ruleParams,
    replies: { 204: null },
    handle: ({ params, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireRule(tx, caller.orgId, params.id);
        await deleteSourcingRule(tx, row.id);
        await auditRule(tx, actor, row, 'sourcing_rule.delete');
        return { status: 204 };
      }),
  }),
  route({
    method: 'get',
    path: '/sourcing/candidates',
    access: 'read',
    area: AREA,
    summary: 'What was last found for each sourcing rule',
    description: 'Of the last look at the market, not of this moment; nothing is held.',
    query: sourcingQuery,
    replies: { 200: sourcingCandidatesPage },
    handle: async (call) => {
      const body = await pageByTime(call.query, rulesOf(call), async (rows) => {
        const ids = rows.map((row) => row.id);
        const sourced = await listSourced(call.deps.database.kysely, ids);
        return rows.map((row) => candidatesReply(row, sourced.get(row.id) ?? []));
      });
      return { status: 200, body };
    },
  }),
];

function rulesOf({ caller, deps }: Pick<Call<'read'>, 'caller' | 'deps'>) {
  return (page: PageOfTime) => listSourcingRules(deps.database.kysely, { orgId: caller.orgId, ...page });
}

async function requireRule(tx: Tx, orgId: string, ruleId: string): Promise<SourcingRuleRow> {
  const row = await lockSourcingRule(tx, ruleId);
  if (row?.org_id !== orgId) throw new MusterError('not_found', `there is no sourcing rule ${ruleId}`);
  return row;
}

function changedFields(row: SourcingRuleRow, body: z.output<typeof changeSourcingRuleBody>): SourcingRuleFields {
  const { name, enabled, target, maxPriceUsdPerHour, consumer, ...wanted } = body;
  const given = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
  return {
    name: name ?? row.name,
    enabled: enabled ?? row.enabled,
    target: target ?? row.target,
    maxPriceMicroUsdPerHour:
      maxPriceUsdPerHour === undefined ? row.max_price_micro_usd_per_hour : (parseUsd(maxPriceUsdPerHour) as bigint),
    consumer: consumer === undefined ? row.consumer : consumer,
    wanted: { ...row.wanted, ...given },
  };
}

function auditRule(
  tx: Tx,
  actor: Call['actor'],
  row: SourcingRuleRow,
  action: `sourcing_rule.${string}`,
): Promise<void> {
  return auditRow(tx, actor, row, action, {
    name: row.name,
    enabled: row.enabled,
    target: row.target,
    gpu: row.wanted.gpu,
    maxPriceMicroUsdPerHour: micro(row.max_price_micro_usd_per_hour),
  });
}

function nameTaken(name: string): MusterError {
  return new MusterError('conflict', `a sourcing rule named "${name}" exists already`, {
    errors: [{ path: 'name', message: 'is taken by a sourcing rule of this org' }],
  });
}

async function rulesReply(executor: Executor, deps: ApiContext, rows: SourcingRuleRow[]): Promise<SourcingRule[]> {
  const sourced = await listSourced(
    executor,
    rows.map((row) => row.id),
  );
  return rows.map((row) => ruleReply(row, sourced.get(row.id) ?? [], deps.sourcingMode ?? 'off'));
}

function ruleReply(
  row: SourcingRuleRow,
  instances: readonly SourcedInstance[],
  mode: SourcingRule['mode'],
): SourcingRule {
  const count = (status: string) => instances.filter((one) => one.status === status).length;
  return {
    id: row.id,
    name: row.name,
    enabled: row.enabled,
    mode,
    target: row.target,
    counts: {
      requested: count('requested'),
      creating: count('creating'),
      booting: count('booting'),
      ready: count('ready'),
    },
    maxPriceMicroUsdPerHour: micro(row.max_price_micro_usd_per_hour),
    ...row.wanted,
    consumer: row.consumer,
    outcome: row.outcome as SourcingRule['outcome'],
    reason: row.reason,
    retryAt: isoOrNull(row.retry_at),
    fittingOffers: row.fitting,
    searchedAt: isoOrNull(row.searched_at),
    createdAt: iso(row.created_at),
    updatedAt: iso(row.updated_at),
  };
}

function candidatesReply(row: SourcingRuleRow, instances: readonly SourcedInstance[]): SourcingCandidates {
  const counted = instances.filter(({ status }) => isTowardTarget(status)).length;
  return {
    ruleId: row.id,
    ruleName: row.name,
    outcome: row.outcome as SourcingRule['outcome'],
    reason: row.reason,
    missing: Math.max(0, row.target - counted),
    fittingOffers: row.fitting,
    searchedAt: isoOrNull(row.searched_at),
    candidates: row.candidates as SourcingCandidates['candidates'],
  };
}
