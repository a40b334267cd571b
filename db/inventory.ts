/** Inventory: the filtered, sorted view of offers. What a plan chooses from is offers.ts's. */
import { sql, type RawBuilder } from 'kysely';
import { canonicalGpuKey } from '../domain/offer.ts';
import type { Executor } from './database.ts';
import type { OfferRow } from './offers.ts';

export interface InventoryFilter {
  gpu?: string;
  gpuCount?: number;
  minGpuMemoryGib?: number;
  maxPriceMicroUsdPerHour?: bigint;
  provider?: string;
  region?: string;
  minReliability?: number;
  interruptible?: boolean;
  sort: InventorySort;
  limit: number;
  after?: { value: string; id: string };
}

export type InventorySort = 'price' | '-price' | 'price_per_gpu' | 'reliability' | 'memory';

/** What each order compares; unknown values come last. */
const SORTS: Record<InventorySort, { by: RawBuilder<unknown>; type: RawBuilder<unknown>; isDescending: boolean }> = {
  price: { by: sql`price_micro_usd_per_hour`, type: sql`bigint`, isDescending: false },
  '-price': { by: sql`price_micro_usd_per_hour`, type: sql`bigint`, isDescending: true },
  price_per_gpu: { by: sql`price_micro_usd_per_hour::numeric / gpu_count`, type: sql`numeric`, isDescending: false },
  reliability: { by: sql`coalesce(reliability, -1)`, type: sql`float8`, isDescending: true },
  memory: { by: sql`coalesce(gpu_memory_gib, -1)`, type: sql`integer`, isDescending: true },
};

/** Offers that may be had, with the value that they are sorted by, for the next page's cursor. */
export function listInventory(
  executor: Executor,
  filter: InventoryFilter,
): Promise<(OfferRow & { sort_value: string })[]> {
  const { by, type, isDescending } = SORTS[filter.sort];
  let query = executor
    .selectFrom('offers')
    .selectAll()
    .select(sql<string>`(${by})::text`.as('sort_value'))
    .where('hidden_at', 'is', null);
  if (filter.gpu !== undefined) query = query.where('gpu_key', '=', canonicalGpuKey(filter.gpu));
  if (filter.gpuCount !== undefined) query = query.where('gpu_count', '=', filter.gpuCount);
  if (filter.minGpuMemoryGib !== undefined) query = query.where('gpu_memory_gib', '>=', filter.minGpuMemoryGib);
  if (filter.maxPriceMicroUsdPerHour !== undefined) {
    query = query.where('price_micro_usd_per_hour', '<=', filter.maxPriceMicroUsdPerHour);
  }
  if (filter.provider !== undefined) query = query.where('provider', '=', filter.provider);
  if (filter.region !== undefined) query = query.where('region', '=', filter.region.toUpperCase());
  if (filter.minReliability !== undefined) query = query.where('reliability', '>=', filter.minReliability);
  if (filter.interruptible !== undefined) query = query.where('interruptible', '=', filter.interruptible);
  if (filter.after) {
    const value = sql`${filter.after.value}::${type}`;
    const beyond = isDescending ? sql`(${by}) < ${value}` : sql`(${by}) > ${value}`;
    query = query.where(sql<boolean>`(${beyond} or ((${by}) = ${value} and id > ${filter.after.id}))`);
  }
  return query
    .orderBy(sql`(${by})`, isDescending ? 'desc' : 'asc')
    .orderBy('id')
    .limit(filter.limit)
    .execute();
}

export function findOffer(executor: Executor, offerId: string): Promise<OfferRow | undefined> {
  return executor.selectFrom('offers').selectAll().where('id', '=', offerId).executeTakeFirst();
}

/** Ids of our rows for these listings: `<provider>/<providerOfferId>` → id. */
export async function findOfferIds(
  executor: Executor,
  offers: { provider: string; providerOfferId: string }[],
): Promise<Map<string, string>> {
  if (offers.length === 0) return new Map();
  const rows = await executor
    .selectFrom('offers')
    .select(['id', 'provider', 'provider_offer_id'])
    .where(
      'provider_offer_id',
      'in',
      offers.map((offer) => offer.providerOfferId),
    )
    .execute();
  return new Map(rows.map((row) => [`${row.provider}/${row.provider_offer_id}`, row.id]));
}
