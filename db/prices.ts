/** Prices over time: the floor of each class now, each change of one, and hours of them. The rule is domain/price-floor.ts's. */
import { sql } from 'kysely';
import { changedFloors, measureFloors } from '../domain/price-floor.ts';
import type { Offer } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { Db, Tx } from './database.ts';
import { EVENTS_CHANNEL } from './operations.ts';

/** Said on EVENTS_CHANNEL when floors changed; no operation has this id. */
export const PRICES_WORD = 'prices';

/**
 * Keeps what a believable listing says of floors: the changes, the state now, and the hour. Returns how many changed. Called with the
 * same listing again it records no further change.
 */
export function recordFloors(db: Db, provider: ProviderName, offers: readonly Offer[], at: Date): Promise<number> {
  const measured = measureFloors(offers);
  return db.transaction().execute(async (tx) => {
    const known = await lockFloors(tx, provider);
    const changes = changedFloors(known, measured);
    if (changes.length > 0) {
      await tx
        .insertInto('price_changes')
        .values(
          changes.map((change) => ({
            provider,
            gpu_key: change.gpuKey,
            gpu: change.gpu,
            interruptible: change.interruptible,
            floor_micro_usd_per_gpu_hour: change.floorMicroUsdPerGpuHour,
            previous_micro_usd_per_gpu_hour: change.previousMicroUsdPerGpuHour,
            at,
          })),
        )
        .execute();
      await sql`select pg_notify(${EVENTS_CHANNEL}, ${PRICES_WORD})`.execute(tx);
    }
    const rows = measured.map((floor) => ({
      gpu_key: floor.gpuKey,
      gpu: floor.gpu,
      interruptible: floor.interruptible,
      floor: floor.floorMicroUsdPerGpuHour.toString(),
      median: floor.medianMicroUsdPerGpuHour.toString(),
      offers: floor.offers,
    }));
    await writeFloors(tx, provider, rows, at);
    await addToHour(tx, provider, rows, at);
    return changes.length;
  });
}

/** The provider's floors as known, held until the end of the transaction: also against a replica that finds none yet. */
async function lockFloors(tx: Tx, provider: string) {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`price_floors/${provider}`}, 0))`.execute(tx);
  const rows = await tx.selectFrom('price_floors').selectAll().where('provider', '=', provider).execute();
  return rows.map((row) => ({
    gpuKey: row.gpu_key,
    gpu: row.gpu,
    interruptible: row.interruptible,
    floorMicroUsdPerGpuHour: row.floor_micro_usd_per_gpu_hour,
  }));
}

interface Measured {
  gpu_key: string;
  gpu: string;
  interruptible: boolean;
  floor: string;
  median: string;
  offers: number;
}

const MEASURED = sql.raw('gpu_key text, gpu text, interruptible boolean, floor bigint, median bigint, offers integer');

async function writeFloors(tx: Tx, provider: string, rows: Measured[], at: Date): Promise<void> {
  await sql`
    insert into price_floors
      (provider, gpu_key, interruptible, gpu, floor_micro_usd_per_gpu_hour, median_micro_usd_per_gpu_hour, offers, changed_at, seen_at)
    select ${provider}, gpu_key, interruptible, gpu, floor, median, offers, ${at}::timestamptz, ${at}::timestamptz
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as measured (${MEASURED})
    on conflict (provider, gpu_key, interruptible) do update set
      gpu = excluded.gpu,
      changed_at = case when price_floors.floor_micro_usd_per_gpu_hour is distinct from excluded.floor_micro_usd_per_gpu_hour
                        then excluded.changed_at else price_floors.changed_at end,
      floor_micro_usd_per_gpu_hour = excluded.floor_micro_usd_per_gpu_hour,
      median_micro_usd_per_gpu_hour = excluded.median_micro_usd_per_gpu_hour,
      offers = excluded.offers,
      seen_at = excluded.seen_at`.execute(tx);
  await sql`
    update price_floors set
      floor_micro_usd_per_gpu_hour = null,
      median_micro_usd_per_gpu_hour = null,
      offers = 0,
      changed_at = case when floor_micro_usd_per_gpu_hour is null then changed_at else ${at}::timestamptz end,
      seen_at = ${at}::timestamptz
    where provider = ${provider} and (gpu_key, interruptible) not in
      (select gpu_key, interruptible from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as measured (${MEASURED}))`.execute(
    tx,
  );
}

async function addToHour(tx: Tx, provider: string, rows: Measured[], at: Date): Promise<void> {
  await sql`
    insert into price_hours
      (gpu_key, provider, interruptible, hour, low_micro_usd_per_gpu_hour, high_micro_usd_per_gpu_hour, sum_micro_usd_per_gpu_hour, samples)
    select gpu_key, ${provider}, interruptible, date_trunc('hour', ${at}::timestamptz, 'UTC'), floor, floor, floor, 1
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as measured (${MEASURED})
    on conflict (gpu_key, provider, interruptible, hour) do update set
      low_micro_usd_per_gpu_hour = least(price_hours.low_micro_usd_per_gpu_hour, excluded.low_micro_usd_per_gpu_hour),
      high_micro_usd_per_gpu_hour = greatest(price_hours.high_micro_usd_per_gpu_hour, excluded.high_micro_usd_per_gpu_hour),
      sum_micro_usd_per_gpu_hour = price_hours.sum_micro_usd_per_gpu_hour + excluded.sum_micro_usd_per_gpu_hour,
      samples = price_hours.samples + 1`.execute(tx);
}
