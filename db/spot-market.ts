/** The spot market as rows tell it: floors of each class with interruptible offers, their hours, and what became of our attempts. */
import { sql } from 'kysely';
import { canonicalGpuKey } from '../domain/offer.ts';
import { INTERRUPTION_DAYS, VOLATILITY_DAYS } from '../domain/spot-market.ts';
import type { Executor } from './database.ts';
import { gpuKeyOf } from './known-gpus.ts';

export interface SpotRow {
  provider: string;
  gpu: string;
  gpuKey: string;
  floor: bigint | null;
  median: bigint | null;
  offers: number;
  onDemandFloor: bigint | null;
  changedAt: Date;
  seenAt: Date;
  /** Mean floor of each hour that is known, of the last VOLATILITY_DAYS. */
  hourlyFloors: string[];
  /** Over all orgs, of the last INTERRUPTION_DAYS. */
  attempts: number;
  interruptions: number;
  machineHours: number;
}

/** Classes that have, or had, interruptible offers; by GPU and provider. */
export async function listSpotMarket(
  executor: Executor,
  filter: { gpu?: string; provider?: string; limit: number; after?: { gpuKey: string; provider: string } },
): Promise<SpotRow[]> {
  const { gpu, provider, after } = filter;
  const { rows } = await sql<SpotRow>`
    with classes as (
      select * from price_floors
      where interruptible
        and ${gpu === undefined ? sql`true` : sql`gpu_key = ${canonicalGpuKey(gpu)}`}
        and ${provider === undefined ? sql`true` : sql`provider = ${provider}`}
        and ${after ? sql`(gpu_key, provider) > (${after.gpuKey}, ${after.provider})` : sql`true`}
      order by gpu_key, provider limit ${filter.limit}
    ), ours as (
      select a.provider, ${gpuKeyOf('a.gpu')} as gpu_key, count(*)::integer as attempts,
             sum(a.interruptions)::integer as interruptions,
             coalesce(sum(extract(epoch from coalesce(a.gone_at, now()) - coalesce(a.running_at, a.purchased_at))) / 3600, 0)::float8 as machine_hours
      from attempts a join instances i on i.id = a.instance_id
      where a.purchased_at > now() - ${INTERRUPTION_DAYS} * interval '1 day' and (i.request->>'interruptible')::boolean
      group by 1, 2
    )
    select c.provider, c.gpu, c.gpu_key as "gpuKey", c.floor_micro_usd_per_gpu_hour as floor,
           c.median_micro_usd_per_gpu_hour as median, c.offers, c.changed_at as "changedAt", c.seen_at as "seenAt",
           d.floor_micro_usd_per_gpu_hour as "onDemandFloor",
           array(select (sum_micro_usd_per_gpu_hour / samples)::text from price_hours h
                 where h.gpu_key = c.gpu_key and h.provider = c.provider and h.interruptible
                   and h.hour > now() - ${VOLATILITY_DAYS} * interval '1 day' order by h.hour) as "hourlyFloors",
           coalesce(ours.attempts, 0) as attempts, coalesce(ours.interruptions, 0) as interruptions,
           coalesce(ours.machine_hours, 0) as "machineHours"
    from classes c
    left join price_floors d on d.provider = c.provider and d.gpu_key = c.gpu_key and not d.interruptible
    left join ours on ours.provider = c.provider and ours.gpu_key = c.gpu_key
    order by c.gpu_key, c.provider`.execute(executor);
  return rows;
}
