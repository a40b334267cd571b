/** Costs: usage records of an org, cut to a period and added up by what they are grouped by. Every grouping adds up to the same total. */
import { sql, type RawBuilder } from 'kysely';
import type { MicroUsd } from '../domain/money.ts';
import type { CostGroup } from '../domain/usage.ts';
import type { Executor } from './database.ts';

export interface CostFilter {
  orgId: string;
  instanceId?: string | undefined;
  sessionId?: string | undefined;
  consumer?: string | undefined;
  provider?: string | undefined;
  /** [from, to): null: without that bound. */
  from: Date | null;
  to: Date | null;
  /** What is still billed is taken to reach to this moment. */
  asOf: Date;
}

export interface Cost {
  costMicroUsd: MicroUsd;
  /** The part of it without a sign of life. */
  unprovenMicroUsd: MicroUsd;
  /** Machine time. */
  billedMs: number;
}

export interface CostLine extends Cost {
  /** null: what has none of it, such as no consumer. A day is its date in UTC. */
  key: string | null;
  /** Of an instance. */
  name: string | null;
}

const KEYS: Record<CostGroup, RawBuilder<unknown>> = {
  instance: sql`u.instance_id`,
  session: sql`u.session_id`,
  consumer: sql`u.consumer`,
  provider: sql`u.provider`,
  gpu: sql`u.gpu`,
  day: sql`to_char(u.day, 'YYYY-MM-DD')`,
};

/** By key, those without one first; `after` is the last key of the page before ('' for none). */
export async function listCosts(
  executor: Executor,
  filter: CostFilter,
  groupBy: CostGroup,
  page: { limit: number; after?: string },
): Promise<CostLine[]> {
  const key = KEYS[groupBy];
  const { rows } = await sql<SumRow & { key: string | null; name: string | null }>`
    select ${key} as key, ${groupBy === 'instance' ? sql`(select i.name from instances i where i.id = u.instance_id)` : sql`null`} as name,
           ${SUMS}
    from ${cutRecords(filter, groupBy === 'day')} as u
    ${page.after === undefined ? sql`` : sql`where coalesce(${key}, '') collate "C" > ${page.after}`}
    group by ${groupBy === 'instance' ? sql`u.instance_id` : key}
    order by coalesce(${key}, '') collate "C"
    limit ${page.limit}`.execute(executor);
  return rows.map((row) => ({ key: row.key, name: row.name, ...costFromRow(row) }));
}

export async function sumCosts(executor: Executor, filter: CostFilter): Promise<Cost> {
  const { rows } = await sql<SumRow>`select ${SUMS} from ${cutRecords(filter, false)} as u`.execute(executor);
  return costFromRow(rows[0] as SumRow);
}

/** What is billed now: machines that may exist, by provider, what they cost by the hour and have cost so far. */
export async function readBurn(
  executor: Executor,
  orgId: string,
  asOf: Date,
): Promise<{ provider: string; machines: number; burnMicroUsdPerHour: MicroUsd; accruedMicroUsd: MicroUsd }[]> {
  const records = cutRecords({ orgId, from: null, to: null, asOf }, false);
  const { rows } = await sql<SumRow & { provider: string; machines: bigint; burn: string }>`
    select u.provider, count(*) filter (where u.is_open) as machines,
           coalesce(sum(u.price_micro_usd_per_hour) filter (where u.is_open), 0) as burn, ${SUMS}
    from ${records} as u
    where u.attempt_id in (select o.attempt_id from usage_records o where o.org_id = ${orgId} and o.is_open)
    group by u.provider order by u.provider`.execute(executor);
  return rows.map((row) => ({
    provider: row.provider,
    machines: Number(row.machines),
    burnMicroUsdPerHour: BigInt(row.burn),
    accruedMicroUsd: BigInt(row.cost),
  }));
}

interface SumRow {
  cost: string;
  unproven: string;
  ms: string;
}

function costFromRow(row: SumRow): Cost {
  return { costMicroUsd: BigInt(row.cost), unprovenMicroUsd: BigInt(row.unproven), billedMs: Number(row.ms) };
}

/** As usageCost and unprovenCost of domain/usage.ts; a test holds them against each other. */
const SUMS = sql`
  coalesce(sum(${costUntil('upto')} - ${costUntil('since')}), 0) as cost,
  coalesce(sum(${costUntil('upto')} - ${costUntil('unseen')}), 0) as unproven,
  coalesce(sum(${msUntil('upto')} - ${msUntil('since')}), 0) as ms`;

/** Rounded down once, from the record's start: the costs of adjacent periods add up. */
function costUntil(column: string): RawBuilder<unknown> {
  return sql`div(u.price_micro_usd_per_hour * ${msUntil(column)}, 3600000)`;
}

function msUntil(column: string): RawBuilder<unknown> {
  return sql`trunc(extract(epoch from ${sql.ref(`u.${column}`)} - u.started_at) * 1000)`;
}

/** Records that touch the period, each with the part of it inside: [since, upto), unseen from `unseen` on. By day: one row for each. */
function cutRecords(filter: CostFilter, byDay: boolean): RawBuilder<unknown> {
  const { orgId, instanceId, sessionId, consumer, provider, asOf } = filter;
  const from = filter.from ?? sql`'-infinity'::timestamptz`;
  const to = filter.to ?? sql`'infinity'::timestamptz`;
  const conditions = [
    sql`r.org_id = ${orgId}`,
    instanceId === undefined ? null : sql`r.instance_id = ${instanceId}`,
    sessionId === undefined ? null : sql`s.id = ${sessionId}`,
    consumer === undefined ? null : sql`r.consumer = ${consumer}`,
    provider === undefined ? null : sql`r.provider = ${provider}`,
    sql`r.started_at < ${to} and (r.is_open or r.ended_at > ${from})`,
  ].flatMap((condition) => (condition === null ? [] : [condition]));
  const days = byDay
    ? sql`cross join lateral (
        select day, day at time zone 'UTC' as begins, (day + interval '1 day') at time zone 'UTC' as ends
        from generate_series(date_trunc('day', p.since at time zone 'UTC'), p.upto at time zone 'UTC', interval '1 day') as day
        ) as d where d.begins < p.upto`
    : sql`cross join (select null::timestamp as day, '-infinity'::timestamptz as begins, 'infinity'::timestamptz as ends) as d`;
  return sql`(
    select c.*, greatest(c.since, least(c.upto, c.proven_until)) as unseen from (
      select p.attempt_id, p.is_open, p.instance_id, p.session_id, p.consumer, p.provider, p.gpu, p.price_micro_usd_per_hour, p.started_at, p.proven_until, d.day,
             greatest(p.since, d.begins) as since, least(p.upto, d.ends) as upto
      from (
        select r.*, s.id as session_id, greatest(r.started_at, ${from}) as since,
               greatest(r.started_at, ${from}, least(${to}, case when r.is_open then ${asOf} else r.ended_at end)) as upto
        from usage_records r left join sessions s on s.instance_id = r.instance_id where ${sql.join(conditions, sql` and `)}
      ) as p ${days}
    ) as c)`;
}
