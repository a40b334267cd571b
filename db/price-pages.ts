/** Prices for people: the history of floors in buckets, and the feed of their changes. The rows are written by prices.ts. */
import { sql } from 'kysely';
import { canonicalGpuKey } from '../domain/offer.ts';
import type { Executor } from './database.ts';
import { isSince, type FeedNow } from './event-feed.ts';

export interface PriceFilter {
  gpu?: string;
  provider?: string;
  interruptible?: boolean;
}

export type PriceBucket = 'change' | 'hour' | 'day';

export interface PricePoint {
  at: Date;
  provider: string;
  gpu: string;
  gpuKey: string;
  interruptible: boolean;
  /** Of a change: the new floor, null where none is offered any more. Of a bucket: the mean over its listings. */
  floor: bigint | null;
  low: bigint | null;
  high: bigint | null;
  samples: number;
}

/** Oldest first; `after` is the last point of the page before. */
export async function listPriceHistory(
  executor: Executor,
  filter: PriceFilter & {
    bucket: PriceBucket;
    from: Date;
    to: Date;
    limit: number;
    after?: { at: Date; provider: string; gpuKey: string; interruptible: boolean };
  },
): Promise<PricePoint[]> {
  const { bucket, from, to, after } = filter;
  const points =
    bucket === 'change'
      ? sql`
        select at, provider, gpu_key, interruptible,
               floor_micro_usd_per_gpu_hour as floor, floor_micro_usd_per_gpu_hour as low, floor_micro_usd_per_gpu_hour as high, 1 as samples
        from price_changes`
      : sql`
        select date_trunc(${sql.lit(bucket)}, hour, 'UTC') as at, provider, gpu_key, interruptible,
               ceil(sum(sum_micro_usd_per_gpu_hour) / sum(samples))::bigint as floor,
               min(low_micro_usd_per_gpu_hour) as low, max(high_micro_usd_per_gpu_hour) as high, sum(samples)::integer as samples
        from price_hours
        where hour >= date_trunc(${sql.lit(bucket)}, ${from}::timestamptz, 'UTC') and hour < ${to}::timestamptz
        group by 1, 2, 3, 4`;
  const { rows } = await sql<PricePoint>`
    select points.at, points.provider, coalesce(known.gpu, points.gpu_key) as gpu, points.gpu_key as "gpuKey", points.interruptible,
           points.floor, points.low, points.high, points.samples
    from (${points}) as points left join known_gpus known on known.gpu_key = points.gpu_key
    where points.at >= ${bucket === 'change' ? sql`${from}::timestamptz` : sql`date_trunc(${sql.lit(bucket)}, ${from}::timestamptz, 'UTC')`}
      and points.at < ${to}::timestamptz and ${conditionsOf(filter, 'points')}
      and ${
        after
          ? sql`(points.at, points.provider, points.gpu_key, points.interruptible)
                > (${after.at}::timestamptz, ${after.provider}, ${after.gpuKey}, ${after.interruptible})`
          : sql`true`
      }
    order by points.at, points.provider, points.gpu_key, points.interruptible
    limit ${filter.limit}`.execute(executor);
  return rows;
}

/** A position in the feed: changes are ordered by (xid, seq), and none appears later behind a position already passed. */
export interface PricePosition {
  xid: string;
  seq: string;
}

export interface PriceChange extends PricePosition {
  at: Date;
  provider: string;
  gpu: string;
  interruptible: boolean;
  floor: bigint | null;
  previous: bigint | null;
}

export function formatPricePosition({ xid, seq }: PricePosition): string {
  return `${xid}-${seq}`;
}

export function parsePricePosition(text: string): PricePosition | null {
  const match = /^(\d{1,19})-(\d{1,18})$/.exec(text);
  return match ? { xid: match[1] as string, seq: match[2] as string } : null;
}

/** Changes after the position. `isSettled` false: some were committed that cannot be read yet (an older transaction still runs). */
export async function readPriceFeed(
  executor: Executor,
  filter: PriceFilter & { since?: FeedNow },
  after: PricePosition,
  limit: number,
): Promise<{ changes: PriceChange[]; isSettled: boolean }> {
  const { rows } = await sql<PriceChange & { isReadable: boolean }>`
    select xid::text as xid, seq::text as seq, at, provider, gpu, interruptible,
           floor_micro_usd_per_gpu_hour as floor, previous_micro_usd_per_gpu_hour as previous,
           xid < pg_snapshot_xmin(pg_current_snapshot()) as "isReadable"
    from price_changes
    where (xid, seq) > (${after.xid}::xid8, ${after.seq}::bigint) and ${conditionsOf(filter, 'price_changes')}
      and ${filter.since === undefined ? sql`true` : isSince('price_changes', filter.since)}
    order by price_changes.xid, price_changes.seq
    limit ${limit}`.execute(executor);
  const changes = rows.filter((row) => row.isReadable).map(({ isReadable: _, ...change }) => change);
  return { changes, isSettled: changes.length === rows.length };
}

function conditionsOf({ gpu, provider, interruptible }: PriceFilter, table: string) {
  const column = (name: string) => sql.ref(`${table}.${name}`);
  const conditions = [
    gpu === undefined ? null : sql`${column('gpu_key')} = ${canonicalGpuKey(gpu)}`,
    provider === undefined ? null : sql`${column('provider')} = ${provider}`,
    interruptible === undefined ? null : sql`${column('interruptible')} = ${interruptible}`,
  ].flatMap((condition) => (condition === null ? [] : [condition]));
  return conditions.length === 0 ? sql`true` : sql.join(conditions, sql` and `);
}
