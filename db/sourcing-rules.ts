/** Sourcing rules: what an org wants kept ready, what was found for it, and what it bought. The rule is domain/sourcing.ts's. */
import { sql, type Selectable } from 'kysely';
import type { ProviderName } from '../domain/provider.ts';
import type { SourcedInstance, SourcingOutcome } from '../domain/sourcing.ts';
import type { InstanceStatus } from '../domain/instance.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type SourcingRuleRow = Selectable<Schema['sourcing_rules']> & { wanted: SourcingWish };

/** What machines a rule wants; each fits a provision request. */
export interface SourcingWish {
  gpu: string;
  gpuCount: number;
  minGpuMemoryGib: number | null;
  diskGib: number;
  image: string;
  providers: ProviderName[];
  regions: string[];
  minReliability: number | null;
  interruptible: boolean;
  sshPublicKeys: string[];
}

export interface SourcingRuleFields {
  name: string;
  enabled: boolean;
  target: number;
  maxPriceMicroUsdPerHour: bigint;
  wanted: SourcingWish;
  consumer: string | null;
}

/** null: the org has a rule of that name. */
export async function insertSourcingRule(
  tx: Tx,
  rule: SourcingRuleFields & { orgId: string; createdBy: string },
): Promise<SourcingRuleRow | null> {
  const row = await tx
    .insertInto('sourcing_rules')
    .values({ id: newId('sourcingRule'), org_id: rule.orgId, created_by: rule.createdBy, ...columnsOf(rule) })
    .onConflict((conflict) => conflict.columns(['org_id', 'name']).where('deleted_at', 'is', null).doNothing())
    .returningAll()
    .executeTakeFirst();
  return (row as SourcingRuleRow | undefined) ?? null;
}

/** Throws the database's error for a name that is taken. What the last tick said no longer holds. */
export async function updateSourcingRule(tx: Tx, id: string, rule: SourcingRuleFields): Promise<SourcingRuleRow> {
  const row = await tx
    .updateTable('sourcing_rules')
    .set({
      ...columnsOf(rule),
      outcome: null,
      reason: null,
      retry_at: null,
      candidates: JSON.stringify([]),
      fitting: 0,
      searched_at: null,
      updated_at: sql<Date>`now()`,
    })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow();
  return row as SourcingRuleRow;
}

/** It buys no more; what it bought stays, and counts against the cap while it lives. */
export async function deleteSourcingRule(tx: Tx, id: string): Promise<void> {
  await tx
    .updateTable('sourcing_rules')
    .set({ enabled: false, deleted_at: sql`now()`, updated_at: sql`now()` })
    .where('id', '=', id)
    .execute();
}

export async function lockSourcingRule(tx: Tx, id: string): Promise<SourcingRuleRow | undefined> {
  const row = await tx
    .selectFrom('sourcing_rules')
    .selectAll()
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .forUpdate()
    .executeTakeFirst();
  return row as SourcingRuleRow | undefined;
}

export async function listSourcingRules(
  executor: Executor,
  filter: { orgId?: string; onlyEnabled?: boolean; limit: number; before?: { createdAt: Date; id: string } },
): Promise<SourcingRuleRow[]> {
  let query = executor.selectFrom('sourcing_rules').selectAll().where('deleted_at', 'is', null);
  if (filter.orgId !== undefined) query = query.where('org_id', '=', filter.orgId);
  if (filter.onlyEnabled === true) query = query.where('enabled', '=', true);
  if (filter.before) {
    const { createdAt, id } = filter.before;
    query = query.where(sql<boolean>`(created_at, id) < (${createdAt}::timestamptz, ${id})`);
  }
  const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
  return rows as SourcingRuleRow[];
}

/** What the last tick found and did. */
export async function recordSearch(
  executor: Executor,
  id: string,
  search: {
    outcome: SourcingOutcome;
    reason: string | null;
    retryAt: Date | null;
    candidates: unknown[];
    fitting: number;
    at: Date;
  },
): Promise<void> {
  await executor
    .updateTable('sourcing_rules')
    .set({
      outcome: search.outcome,
      reason: search.reason,
      retry_at: search.retryAt,
      candidates: JSON.stringify(search.candidates),
      fitting: search.fitting,
      searched_at: search.at,
    })
    .where('id', '=', id)
    .execute();
}

/** Of a long line of failures the last ones tell enough. */
const GONE_READ = 50;

/** What the rules bought, newest first, by rule: everything that is not gone, and the last that are. */
export async function listSourced(executor: Executor, ruleIds: string[]): Promise<Map<string, SourcedInstance[]>> {
  if (ruleIds.length === 0) return new Map();
  const { rows } = await sql<{
    ruleId: string;
    status: InstanceStatus;
    createdAt: Date;
    readyAt: Date | null;
    endedAt: Date | null;
    failure: string | null;
  }>`
    select i.created_by as "ruleId", i.status, i.created_at as "createdAt", i.ready_at as "readyAt",
           coalesce(i.destroy_requested_at, i.destroyed_at) as "endedAt", coalesce(i.failure_detail, i.failure_code) as failure
    from unnest(${sql.val(ruleIds)}::text[]) as rule (id) cross join lateral (
      (select * from instances where created_by = rule.id and created_by like 'rul\_%' and status <> 'destroyed')
      union all
      (select * from instances where created_by = rule.id and created_by like 'rul\_%' and status = 'destroyed'
       order by created_at desc limit ${GONE_READ})
    ) i
    order by i.created_at desc`.execute(executor);
  const found = Map.groupBy(rows, (row) => row.ruleId);
  return new Map(
    [...found].map(([ruleId, all]) => [
      ruleId,
      all.map((row) => ({
        status: row.status,
        createdAt: row.createdAt.getTime(),
        readyAt: row.readyAt?.getTime() ?? null,
        endedAt: row.endedAt?.getTime() ?? null,
        failure: row.failure,
      })),
    ]),
  );
}

/** Of all rules and orgs, until each is proven gone. */
export async function countLiveSourced(executor: Executor): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from instances where created_by like 'rul\_%' and status <> 'destroyed'`.execute(
    executor,
  );
  return rows[0]?.count ?? 0;
}

function columnsOf(rule: SourcingRuleFields) {
  return {
    name: rule.name,
    enabled: rule.enabled,
    target: rule.target,
    max_price_micro_usd_per_hour: rule.maxPriceMicroUsdPerHour,
    wanted: JSON.stringify(rule.wanted),
    consumer: rule.consumer,
  };
}
