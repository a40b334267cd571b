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
  minConfidence?: number;
  /** true: only what can be rented interruptible, compared by its interruptible price; false: only what is sold on demand. */
  interruptible?: boolean;
  /** Prices are compared with so much disk, and offers with less of it are left out. Absent: with the disk each is listed with. */
  diskGib?: number;
  includeDenylist: boolean;
  sort: InventorySort;
  limit: number;
  after?: { value: string; id: string };
}

export type InventorySort =
  'price' | '-price' | 'price_per_gpu' | '-price_per_gpu' | 'reliability' | 'memory' | 'confidence' | 'network';

export interface InventoryRow extends OfferRow {
  sort_value: string;
  /** null, or in the past: nothing speaks against the machine. */
  denylisted_until: Date | null;
}

interface Order {
  by: RawBuilder<unknown>;
  type: RawBuilder<unknown>;
  isDescending: boolean;
}

/** Offers that may be had, with the value that they are sorted by, for the next page's cursor. */
export function listInventory(executor: Executor, filter: InventoryFilter): Promise<InventoryRow[]> {
  const price = priceOf(filter);
  const { by, type, isDescending } = orderOf(filter.sort, price);
  const { after, diskGib } = filter;
  const beyond = (value: RawBuilder<unknown>) => (isDescending ? sql`(${by}) < ${value}` : sql`(${by}) > ${value}`);
  const conditions = [
    // What is switched off keeps its last offers in the table, and sells none.
    sql`o.provider = any(array(select name from providers where enabled and mode <> 'off'))`,
    filter.gpu === undefined ? null : sql`o.gpu_key = ${canonicalGpuKey(filter.gpu)}`,
    filter.gpuCount === undefined ? null : sql`o.gpu_count = ${filter.gpuCount}`,
    filter.minGpuMemoryGib === undefined ? null : sql`o.gpu_memory_gib >= ${filter.minGpuMemoryGib}`,
    filter.maxPriceMicroUsdPerHour === undefined ? null : sql`(${price}) <= ${filter.maxPriceMicroUsdPerHour}`,
    filter.provider === undefined ? null : sql`o.provider = ${filter.provider}`,
    filter.region === undefined ? null : sql`o.region = ${filter.region.toUpperCase()}`,
    filter.minReliability === undefined ? null : sql`o.reliability >= ${filter.minReliability}`,
    filter.minConfidence === undefined ? null : sql`o.confidence >= ${filter.minConfidence}`,
    filter.interruptible === undefined
      ? null
      : filter.interruptible
        ? sql`o.floor_micro_usd_per_hour is not null`
        : sql`not o.interruptible`,
    diskGib === undefined ? null : sql`(o.disk_gib is null or o.disk_gib >= ${diskGib})`,
    filter.includeDenylist
      ? null
      : sql`(o.machine_id is null or (o.provider, o.machine_id) not in
             (select provider, machine_id from machine_history where denylisted_until > now()))`,
    after
      ? sql`(${beyond(sql`${after.value}::${type}`)} or ((${by}) = ${after.value}::${type} and o.id > ${after.id}))`
      : null,
  ].flatMap((condition) => (condition === null ? [] : [condition]));
  // Sub-selects, not joins: without fresh statistics a join would visit every offer, and these stop at the page's end.
  return sql<InventoryRow>`
    select page.*, page.sort_key::text as sort_value, m.denylisted_until
    from (
      select o.*, (${by}) as sort_key
      from offers o
      where o.hidden_at is null and ${sql.join(conditions, sql` and `)}
      order by (${by}) ${isDescending ? sql`desc` : sql`asc`}, o.id
      limit ${filter.limit}
    ) page
    left join machine_history m
      on m.provider = page.provider and m.machine_id = page.machine_id and m.denylisted_until > now()
    order by page.sort_key ${isDescending ? sql`desc` : sql`asc`}, page.id`
    .execute(executor)
    .then((result) => result.rows);
}

/** As domain/offer.ts prices an offer with a disk. */
function priceOf({ interruptible, diskGib }: InventoryFilter): RawBuilder<unknown> {
  if (interruptible === true) {
    const disk = diskGib === undefined ? sql`o.priced_disk_gib` : sql`${diskGib}::bigint`;
    return sql`o.floor_micro_usd_per_hour + o.disk_micro_usd_per_gib_hour * ${disk}`;
  }
  if (diskGib === undefined) return sql`o.price_micro_usd_per_hour`;
  return sql`o.price_micro_usd_per_hour + o.disk_micro_usd_per_gib_hour * greatest(0, ${diskGib}::bigint - o.priced_disk_gib)`;
}

/** Unknown values come last. */
function orderOf(sort: InventorySort, price: RawBuilder<unknown>): Order {
  switch (sort) {
    case 'price':
      return { by: price, type: sql`bigint`, isDescending: false };
    case '-price':
      return { by: price, type: sql`bigint`, isDescending: true };
    case 'price_per_gpu':
      return { by: sql`(${price})::numeric / o.gpu_count`, type: sql`numeric`, isDescending: false };
    case '-price_per_gpu':
      return { by: sql`(${price})::numeric / o.gpu_count`, type: sql`numeric`, isDescending: true };
    case 'reliability':
      return { by: sql`coalesce(o.reliability, -1)`, type: sql`float8`, isDescending: true };
    case 'memory':
      return { by: sql`coalesce(o.gpu_memory_gib, -1)`, type: sql`integer`, isDescending: true };
    case 'confidence':
      return { by: sql`o.confidence`, type: sql`float8`, isDescending: true };
    case 'network':
      return { by: sql`coalesce(o.inet_down_mbps, -1)`, type: sql`float8`, isDescending: true };
  }
}

export async function findOffer(executor: Executor, offerId: string): Promise<InventoryRow | undefined> {
  const { rows } = await sql<InventoryRow>`
    select o.*, '' as sort_value, m.denylisted_until
    from offers o
    left join machine_history m
      on m.provider = o.provider and m.machine_id = o.machine_id and m.denylisted_until > now()
    where o.id = ${offerId}`.execute(executor);
  return rows[0];
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
