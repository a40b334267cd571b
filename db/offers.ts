/** Offers: the last believable listing per provider, and the reservations that keep two operations off the same machine. */
import { sql, type Selectable } from 'kysely';
import { canonicalGpuKey, type Offer } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import type { Db, Executor, Tx } from './database.ts';
import { rememberGpus } from './known-gpus.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type OfferRow = Selectable<Schema['offers']>;

/** How long a reservation outlives a crashed operation. */
const RESERVATION_MS = 30 * 60_000;
/** A listing may show an offer for a while after it is gone; one that is shown for longer can be tried again. */
const HIDDEN_MS = 10 * 60_000;

/** Replaces a provider's offers by a believable listing, in one statement; ids of offers that stay are kept. */
export async function replaceOffers(db: Db, provider: ProviderName, offers: Offer[], seenAt: Date): Promise<void> {
  const rows = [...new Map(offers.map((offer) => [offer.providerOfferId, offer])).values()].map((offer) => ({
    id: newId('offer'),
    provider,
    provider_offer_id: offer.providerOfferId,
    machine_id: offer.machineId,
    host_id: offer.hostId,
    gpu: offer.gpu,
    gpu_key: canonicalGpuKey(offer.gpu),
    gpu_count: offer.gpuCount,
    gpu_memory_gib: offer.gpuMemoryGib,
    price_micro_usd_per_hour: offer.priceMicroUsdPerHour.toString(),
    priced_disk_gib: offer.pricedDiskGib,
    disk_micro_usd_per_gib_hour: offer.diskMicroUsdPerGibHour.toString(),
    floor_micro_usd_per_hour: offer.floorMicroUsdPerHour?.toString() ?? null,
    interruptible: offer.interruptible,
    region: offer.region,
    location: offer.location,
    reliability: offer.reliability,
    verified: offer.verified,
    disk_gib: offer.diskGib,
    cpu_cores: offer.cpuCores,
    memory_gib: offer.memoryGib,
    inet_down_mbps: offer.inetDownMbps,
    inet_up_mbps: offer.inetUpMbps,
    inet_down_micro_usd_per_gb: offer.inetDownMicroUsdPerGb?.toString() ?? null,
    inet_up_micro_usd_per_gb: offer.inetUpMicroUsdPerGb?.toString() ?? null,
    cuda_version: offer.cudaVersion,
    driver_version: offer.driverVersion,
    direct_ports: offer.directPorts,
    max_duration_seconds: offer.maxDurationSeconds,
    stock: offer.stock,
    confidence: offer.confidence,
    first_seen_at: seenAt.toISOString(),
    seen_at: seenAt.toISOString(),
    hidden_at: null,
  }));
  await db.transaction().execute(async (tx) => {
    await sql`
      insert into offers
      select * from json_populate_recordset(null::offers, ${JSON.stringify(rows)}::json)
      on conflict (provider, provider_offer_id) do update set
        ${sql.raw(REFRESHED.map((column) => `${column} = excluded.${column}`).join(', '))},
        hidden_at = case when offers.hidden_at < excluded.seen_at - ${HIDDEN_MS} * interval '1 millisecond' then null else offers.hidden_at end`.execute(
      tx,
    );
    await tx.deleteFrom('offers').where('provider', '=', provider).where('seen_at', '<', seenAt).execute();
    await rememberGpus(tx);
  });
}

const REFRESHED = [
  'machine_id',
  'host_id',
  'gpu',
  'gpu_key',
  'gpu_count',
  'gpu_memory_gib',
  'price_micro_usd_per_hour',
  'priced_disk_gib',
  'disk_micro_usd_per_gib_hour',
  'floor_micro_usd_per_hour',
  'interruptible',
  'region',
  'location',
  'reliability',
  'verified',
  'disk_gib',
  'seen_at',
  'max_duration_seconds',
  'stock',
  'confidence',
  'inet_down_micro_usd_per_gb',
  'inet_up_micro_usd_per_gb',
];

/**
 * Offers that a plan may use: of the given GPU, not bought by us or refused lately. An interruptible rental is the same
 * listing at its floor price.
 */
export async function listOffersFor(
  executor: Executor,
  wanted: Pick<ProvisionRequest, 'gpu' | 'gpuCount' | 'interruptible' | 'onlyOffer'>,
): Promise<Offer[]> {
  let query = executor
    .selectFrom('offers')
    .selectAll()
    .where('gpu_key', '=', canonicalGpuKey(wanted.gpu))
    .where('gpu_count', '=', wanted.gpuCount)
    .where('hidden_at', 'is', null);
  if (wanted.interruptible) query = query.where('floor_micro_usd_per_hour', 'is not', null);
  if (wanted.onlyOffer) {
    const { provider, providerOfferId } = wanted.onlyOffer;
    query = query.where('provider', '=', provider).where('provider_offer_id', '=', providerOfferId);
  }
  const rows = await query.orderBy('price_micro_usd_per_hour').limit(2000).execute();
  return rows.map((row) => ({ ...offerFromRow(row), interruptible: wanted.interruptible }));
}

/** Machines of the kind that were bought or refused in the last minutes: why a market may look empty. */
export async function countHiddenFor(executor: Executor, wanted: { gpu: string; gpuCount: number }): Promise<number> {
  const row = await executor
    .selectFrom('offers')
    .select(({ fn }) => fn.countAll<bigint>().as('count'))
    .where('gpu_key', '=', canonicalGpuKey(wanted.gpu))
    .where('gpu_count', '=', wanted.gpuCount)
    .where('hidden_at', 'is not', null)
    .executeTakeFirstOrThrow();
  return Number(row.count);
}

export function offerFromRow(row: OfferRow): Offer {
  return {
    provider: row.provider as ProviderName,
    providerOfferId: row.provider_offer_id,
    machineId: row.machine_id,
    hostId: row.host_id,
    gpu: row.gpu,
    gpuCount: row.gpu_count,
    gpuMemoryGib: row.gpu_memory_gib,
    priceMicroUsdPerHour: row.price_micro_usd_per_hour,
    pricedDiskGib: row.priced_disk_gib,
    diskMicroUsdPerGibHour: row.disk_micro_usd_per_gib_hour,
    floorMicroUsdPerHour: row.floor_micro_usd_per_hour,
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
    ...(row.inet_down_micro_usd_per_gb === null ? {} : { inetDownMicroUsdPerGb: row.inet_down_micro_usd_per_gb }),
    ...(row.inet_up_micro_usd_per_gb === null ? {} : { inetUpMicroUsdPerGb: row.inet_up_micro_usd_per_gb }),
    cudaVersion: row.cuda_version,
    driverVersion: row.driver_version,
    directPorts: row.direct_ports,
    maxDurationSeconds: row.max_duration_seconds,
    stock: row.stock,
    confidence: row.confidence,
  };
}

/** The vendor refused to sell it: hidden until a listing some minutes later still shows it. */
export async function hideOffer(executor: Executor, provider: string, providerOfferId: string): Promise<void> {
  await executor
    .updateTable('offers')
    .set({ hidden_at: sql`now()` })
    .where('provider', '=', provider)
    .where('provider_offer_id', '=', providerOfferId)
    .execute();
}

/** We bought one: the last in stock is hidden until a listing some minutes later still shows it. */
export async function countPurchase(executor: Executor, provider: string, providerOfferId: string): Promise<void> {
  await executor
    .updateTable('offers')
    .set({
      stock: sql`case when stock > 0 then stock - 1 else stock end`,
      hidden_at: sql`case when stock <= 1 then now() else hidden_at end`,
    })
    .where('provider', '=', provider)
    .where('provider_offer_id', '=', providerOfferId)
    .execute();
}

/**
 * Keeps an offer for an attempt; false where other operations' unexpired reservations leave nothing of its stock. Transactions that
 * want the same machine (or the same offer, where the vendor names no machine) are serialised by an advisory lock.
 */
export async function reserveOffer(tx: Tx, offer: Offer, attemptId: string): Promise<boolean> {
  if (offer.stock !== null) {
    const key = `${offer.provider}/${offer.machineId ?? offer.providerOfferId}`;
    // Not waited for: whoever holds it is reserving that machine, and two that wait for each other's would deadlock.
    const lock = await sql<{
      got: boolean;
    }>`select pg_try_advisory_xact_lock(hashtextextended(${key}, 0)) as got`.execute(tx);
    if (!lock.rows[0]?.got) return false;
    const stock = await readStock(tx, offer, offer.stock);
    if ((await countHeldGpus(tx, offer, attemptId)) + offer.gpuCount > stock * offer.gpuCount) return false;
  }
  await tx
    .insertInto('offer_reservations')
    .values({
      provider: offer.provider,
      provider_offer_id: offer.providerOfferId,
      machine_id: offer.machineId,
      gpu_count: offer.gpuCount,
      attempt_id: attemptId,
      expires_at: sql<string>`now() + ${RESERVATION_MS} * interval '1 millisecond'`,
    })
    .onConflict((conflict) =>
      conflict
        .columns(['provider', 'provider_offer_id', 'attempt_id'])
        .doUpdateSet((eb) => ({ expires_at: eb.ref('excluded.expires_at') })),
    )
    .execute();
  return true;
}

/** What is left of it now: since the plan was made it may have been bought, which ended the reservation too. */
async function readStock(tx: Tx, offer: Offer, planned: number): Promise<number> {
  const row = await tx
    .selectFrom('offers')
    .select(['stock', 'hidden_at'])
    .where('provider', '=', offer.provider)
    .where('provider_offer_id', '=', offer.providerOfferId)
    .executeTakeFirst();
  if (!row) return planned;
  return row.hidden_at === null ? Math.min(planned, row.stock ?? planned) : 0;
}

/** GPUs of the offer's machine that other attempts hold, under whichever offer; of the offer itself where no machine is named. */
async function countHeldGpus(tx: Tx, offer: Offer, attemptId: string): Promise<number> {
  const held = tx
    .selectFrom('offer_reservations')
    .select(({ fn }) => fn.coalesce(fn.sum<string>('gpu_count'), sql<string>`0`).as('gpus'))
    .where('provider', '=', offer.provider)
    .where('attempt_id', '<>', attemptId)
    .where('expires_at', '>', sql<Date>`now()`);
  const row = await (
    offer.machineId === null
      ? held.where('provider_offer_id', '=', offer.providerOfferId)
      : held.where('machine_id', '=', offer.machineId)
  ).executeTakeFirstOrThrow();
  return Number(row.gpus);
}

/** Keys `<provider>/<offer>` of listed offers of which reservations leave no stock. */
export async function listReservedKeys(executor: Executor): Promise<Set<string>> {
  const { rows } = await sql<{ provider: string; provider_offer_id: string }>`
    with held as (select * from offer_reservations where expires_at > now()),
      on_machine as (select provider, machine_id, sum(gpu_count) as gpus from held where machine_id is not null group by 1, 2),
      on_offer as (select provider, provider_offer_id, sum(gpu_count) as gpus from held where machine_id is null group by 1, 2)
    select offers.provider, offers.provider_offer_id
      from offers join on_machine using (provider, machine_id)
      where on_machine.gpus + offers.gpu_count > offers.stock * offers.gpu_count
    union all
    select offers.provider, offers.provider_offer_id
      from offers join on_offer using (provider, provider_offer_id)
      where on_offer.gpus + offers.gpu_count > offers.stock * offers.gpu_count`.execute(executor);
  return new Set(rows.map((row) => `${row.provider}/${row.provider_offer_id}`));
}

export async function forgetReservations(tx: Tx, attemptIds: string[]): Promise<void> {
  if (attemptIds.length === 0) return;
  await tx.deleteFrom('offer_reservations').where('attempt_id', 'in', attemptIds).execute();
}
