/** Offers: the last believable listing per provider, and the reservations that keep two operations off the same machine. */
import { sql, type Selectable } from 'kysely';
import { canonicalGpuKey, type Offer } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';
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
    cuda_version: offer.cudaVersion,
    driver_version: offer.driverVersion,
    direct_ports: offer.directPorts,
    max_duration_seconds: offer.maxDurationSeconds,
    first_seen_at: seenAt.toISOString(),
    seen_at: seenAt.toISOString(),
    hidden_at: null,
  }));
  await db.transaction().execute(async (tx) => {
    await sql`
      insert into offers
      select * from jsonb_populate_recordset(null::offers, ${JSON.stringify(rows)}::jsonb)
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
];

/**
 * Offers that a plan may use: of the given GPU, not bought by us or refused lately. An interruptible rental is the same
 * listing at its floor price.
 */
export async function listOffersFor(
  executor: Executor,
  wanted: { gpu: string; gpuCount: number; interruptible: boolean },
): Promise<Offer[]> {
  let query = executor
    .selectFrom('offers')
    .selectAll()
    .where('gpu_key', '=', canonicalGpuKey(wanted.gpu))
    .where('gpu_count', '=', wanted.gpuCount)
    .where('hidden_at', 'is', null);
  if (wanted.interruptible) query = query.where('floor_micro_usd_per_hour', 'is not', null);
  const rows = await query.orderBy('price_micro_usd_per_hour').limit(2000).execute();
  return rows.map((row) => ({ ...offerFromRow(row), interruptible: wanted.interruptible }));
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
    cudaVersion: row.cuda_version,
    driverVersion: row.driver_version,
    directPorts: row.direct_ports,
    maxDurationSeconds: row.max_duration_seconds,
  };
}

/** It was bought by us, or the vendor refused to sell it: hidden until a listing some minutes later still shows it. */
export async function hideOffer(executor: Executor, provider: string, providerOfferId: string): Promise<void> {
  await executor
    .updateTable('offers')
    .set({ hidden_at: sql`now()` })
    .where('provider', '=', provider)
    .where('provider_offer_id', '=', providerOfferId)
    .execute();
}

/**
 * Keeps an offer for an attempt; false where another operation's unexpired reservation has it or its machine. Two transactions
 * that want the same offer are serialised by the primary key; the same machine under two offers by an advisory lock.
 */
export async function reserveOffer(tx: Tx, offer: Offer, attemptId: string): Promise<boolean> {
  const machineKey = `${offer.provider}/${offer.machineId ?? offer.providerOfferId}`;
  // Not waited for: whoever holds it is reserving that machine, and two that wait for each other's would deadlock.
  const lock = await sql<{
    got: boolean;
  }>`select pg_try_advisory_xact_lock(hashtextextended(${machineKey}, 0)) as got`.execute(tx);
  if (!lock.rows[0]?.got) return false;
  if (offer.machineId !== null) {
    const held = await tx
      .selectFrom('offer_reservations')
      .select('attempt_id')
      .where('provider', '=', offer.provider)
      .where('machine_id', '=', offer.machineId)
      .where('attempt_id', '<>', attemptId)
      .where('expires_at', '>', sql<Date>`now()`)
      .executeTakeFirst();
    if (held) return false;
  }
  const row = await tx
    .insertInto('offer_reservations')
    .values({
      provider: offer.provider,
      provider_offer_id: offer.providerOfferId,
      machine_id: offer.machineId,
      attempt_id: attemptId,
      expires_at: sql<string>`now() + ${RESERVATION_MS} * interval '1 millisecond'`,
    })
    .onConflict((conflict) =>
      conflict
        .columns(['provider', 'provider_offer_id'])
        .doUpdateSet((eb) => ({
          attempt_id: eb.ref('excluded.attempt_id'),
          machine_id: eb.ref('excluded.machine_id'),
          expires_at: eb.ref('excluded.expires_at'),
        }))
        .where('offer_reservations.expires_at', '<=', sql<Date>`now()`),
    )
    .returning('attempt_id')
    .executeTakeFirst();
  return row !== undefined;
}

/** Keys of what other attempts hold: `<provider>/<offer>` and `<provider>/machine/<machine>`. */
export async function listReservedKeys(executor: Executor): Promise<Set<string>> {
  const rows = await executor
    .selectFrom('offer_reservations')
    .select(['provider', 'provider_offer_id', 'machine_id'])
    .where('expires_at', '>', sql<Date>`now()`)
    .execute();
  const keys = new Set<string>();
  for (const row of rows) {
    keys.add(`${row.provider}/${row.provider_offer_id}`);
    if (row.machine_id !== null) keys.add(`${row.provider}/machine/${row.machine_id}`);
  }
  return keys;
}

export async function forgetReservations(tx: Tx, attemptIds: string[]): Promise<void> {
  if (attemptIds.length === 0) return;
  await tx.deleteFrom('offer_reservations').where('attempt_id', 'in', attemptIds).execute();
}
