/**
 * Usage records: written from what is recorded of attempts, by the rule of domain/usage.ts, wherever a purchase, a price or an end is
 * recorded, and by the cron that follows what lives. Reading never writes: an open record is taken to reach to the moment asked about.
 */
import { sql, type Selectable } from 'kysely';
import { priceCharged, meterLife, type UsageInterval } from '../domain/usage.ts';
import type { ObservedInstance } from '../domain/observed-instance.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

export type UsageRow = Selectable<Schema['usage_records']>;

/**
 * Brings the records of these attempts to what their rows say now; metering again changes nothing. Holds the attempts' rows. Those that
 * were never bought have no records. @returns how many records were written or changed
 */
export async function meterAttempts(tx: Tx, attemptIds: string[]): Promise<number> {
  if (attemptIds.length === 0) return 0;
  const lives = await readLives(tx, attemptIds);
  if (lives.length === 0) return 0;
  const records = lives.flatMap(({ row, intervals }) => intervals.map((interval) => toRecord(row, interval)));
  // Only where the clock of a purchase or a price ran behind that of a tick is something there that the rows do not say.
  await sql`
    delete from usage_records u where u.attempt_id = any(${lives.map(({ row }) => row.id)}) and not exists (
      select from jsonb_to_recordset(${JSON.stringify(records)}::jsonb) as r(attempt_id text, started_at timestamptz)
      where r.attempt_id = u.attempt_id and r.started_at = u.started_at)`.execute(tx);
  const written = await upsertRecords(tx, records);
  await tx
    .updateTable('attempts')
    .set({ is_metered: true })
    .where(
      'id',
      'in',
      lives.map(({ row }) => row.id),
    )
    .where('gone_at', 'is not', null)
    .execute();
  return written;
}

/** Attempts whose records are not final, by id; another replica's are skipped. */
export async function lockUnmetered(tx: Tx, after: string, limit: number): Promise<string[]> {
  const rows = await tx
    .selectFrom('attempts')
    .select('id')
    .where('purchased_at', 'is not', null)
    .where('is_metered', '=', false)
    .where('id', '>', after)
    .orderBy('id')
    .limit(limit)
    .forNoKeyUpdate()
    .skipLocked()
    .execute();
  return rows.map((row) => row.id);
}

/** Keeps the price that a believable listing shows, where it is another than before, and closes the interval at it. */
export async function recordPriceCharged(
  executor: Executor,
  attemptId: string,
  observed: ObservedInstance,
): Promise<void> {
  const price = priceCharged(observed);
  if (price === null) return;
  const attempt = await executor
    .selectFrom('attempts as a')
    .select((eb) => [
      'a.price_micro_usd_per_hour as bought',
      eb
        .selectFrom('attempt_prices as p')
        .select('p.price_micro_usd_per_hour')
        .whereRef('p.attempt_id', '=', 'a.id')
        .orderBy('p.from_at', 'desc')
        .limit(1)
        .as('latest'),
    ])
    .where('a.id', '=', attemptId)
    .where('a.purchased_at', 'is not', null)
    .where('a.gone_at', 'is', null)
    .executeTakeFirst();
  if (!attempt || (attempt.latest ?? attempt.bought) === price) return;
  const work = async (tx: Tx) => {
    await sql`
      insert into attempt_prices (attempt_id, from_at, price_micro_usd_per_hour) values (${attemptId}, now(), ${price})
      on conflict (attempt_id, from_at) do update set price_micro_usd_per_hour = excluded.price_micro_usd_per_hour`.execute(
      tx,
    );
    await meterAttempts(tx, [attemptId]);
  };
  await (executor.isTransaction ? work(executor as Tx) : executor.transaction().execute(work));
}

interface LifeRow {
  id: string;
  org_id: string;
  instance_id: string;
  consumer: string | null;
  provider: string;
  gpu: string | null;
  gpu_count: number | null;
  /** Of a machine that was handed over: whose it was before, and until when. */
  pooled_instance_id: string | null;
  pooled_consumer: string | null;
  handed_over_at: Date | null;
}

async function readLives(tx: Tx, attemptIds: string[]): Promise<{ row: LifeRow; intervals: UsageInterval[] }[]> {
  const rows = await tx
    .selectFrom('attempts as a')
    .innerJoin('instances as i', 'i.id', 'a.instance_id')
    .leftJoin('nodes as n', 'n.attempt_id', 'a.id')
    .leftJoin('instances as pooled', 'pooled.id', 'a.pooled_instance_id')
    .select(['a.id', 'a.org_id', 'a.instance_id', 'i.consumer', 'a.provider', 'a.gpu', 'a.gpu_count'])
    .select(['a.pooled_instance_id', 'pooled.consumer as pooled_consumer', 'a.handed_over_at'])
    // Milliseconds as Postgres rounds them, for all alike: cut off here and rounded there, a price would begin after its end.
    .select([
      sql<Date>`a.purchased_at::timestamptz(3)`.as('purchased_at'),
      sql<Date | null>`a.gone_at::timestamptz(3)`.as('gone_at'),
      'a.price_micro_usd_per_hour',
      // A heartbeat comes from the very machine: its token belongs to the attempt. The end caps what comes after it.
      sql<Date>`greatest(a.purchased_at, a.ready_at, a.observed_at, n.heartbeat_at)::timestamptz(3)`.as('proven_at'),
      // The clock that stamps purchases and ends.
      sql<Date>`now()::timestamptz(3)`.as('now'),
    ])
    .where('a.id', 'in', attemptIds)
    .where('a.purchased_at', 'is not', null)
    .orderBy('a.id')
    // No stronger than a row that refers to the attempt allows: raising that lock would deadlock two who insert one each.
    .forNoKeyUpdate('a')
    .execute();
  const prices = Map.groupBy(
    await tx.selectFrom('attempt_prices').selectAll().where('attempt_id', 'in', attemptIds).execute(),
    (price) => price.attempt_id,
  );
  return rows.map((row) => ({
    row,
    intervals: meterLife(
      {
        purchasedAt: row.purchased_at.getTime(),
        goneAt: row.gone_at?.getTime() ?? null,
        provenAt: row.proven_at.getTime(),
        handedOverAt: row.handed_over_at?.getTime() ?? null,
        priceMicroUsdPerHour: row.price_micro_usd_per_hour ?? 0n,
        priceChanges: (prices.get(row.id) ?? []).map((price) => ({
          at: price.from_at.getTime(),
          priceMicroUsdPerHour: price.price_micro_usd_per_hour,
        })),
      },
      row.now.getTime(),
    ),
  }));
}

function toRecord(row: LifeRow, interval: UsageInterval) {
  const isPooled = row.handed_over_at !== null && interval.from < row.handed_over_at.getTime();
  return {
    attempt_id: row.id,
    started_at: new Date(interval.from).toISOString(),
    ended_at: new Date(interval.to).toISOString(),
    proven_until: new Date(interval.provenUntil).toISOString(),
    is_open: interval.isOpen,
    price_micro_usd_per_hour: interval.priceMicroUsdPerHour.toString(),
    org_id: row.org_id,
    instance_id: isPooled ? (row.pooled_instance_id as string) : row.instance_id,
    consumer: isPooled ? row.pooled_consumer : row.consumer,
    provider: row.provider,
    gpu: row.gpu,
    gpu_count: row.gpu_count,
  };
}

/** In the order of time, so that an interval is closed before the next is opened. */
async function upsertRecords(tx: Tx, records: ReturnType<typeof toRecord>[]): Promise<number> {
  // What was proven once stays so, also when the node that has proven it is forgotten.
  const proven = sql`least(excluded.ended_at, greatest(u.proven_until, excluded.proven_until))`;
  const { numAffectedRows } = await sql`
    insert into usage_records as u (attempt_id, started_at, ended_at, proven_until, is_open, price_micro_usd_per_hour,
                                    org_id, instance_id, consumer, provider, gpu, gpu_count)
    select attempt_id, started_at, ended_at, proven_until, is_open, price_micro_usd_per_hour,
           org_id, instance_id, consumer, provider, gpu, gpu_count
    from jsonb_populate_recordset(null::usage_records, ${JSON.stringify(records)}::jsonb)
    order by attempt_id, started_at
    on conflict (attempt_id, started_at) do update
      set ended_at = excluded.ended_at, is_open = excluded.is_open,
          proven_until = ${proven},
          price_micro_usd_per_hour = excluded.price_micro_usd_per_hour
      where (u.ended_at, u.proven_until, u.is_open, u.price_micro_usd_per_hour)
        is distinct from (excluded.ended_at, ${proven}, excluded.is_open, excluded.price_micro_usd_per_hour)`.execute(
    tx,
  );
  return Number(numAffectedRows ?? 0n);
}

/** Whose it was: a machine that was handed over was another instance's before. */
export interface OwnedInterval extends UsageInterval {
  instanceId: string;
}

/** An attempt's records as the domain has them, oldest first. */
export type UsageByAttempt = ReadonlyMap<string, readonly OwnedInterval[]>;

export function readUsage(executor: Executor, instanceIds: string[]): Promise<UsageByAttempt> {
  return readRecords(executor, 'instance_id', instanceIds);
}

/** Whosever the machines were at the time. */
export function readUsageOfAttempts(executor: Executor, attemptIds: string[]): Promise<UsageByAttempt> {
  return readRecords(executor, 'attempt_id', attemptIds);
}

async function readRecords(
  executor: Executor,
  by: 'instance_id' | 'attempt_id',
  ids: string[],
): Promise<UsageByAttempt> {
  if (ids.length === 0) return new Map();
  const rows = await executor
    .selectFrom('usage_records')
    .selectAll()
    .where(by, 'in', ids)
    .orderBy('started_at')
    .execute();
  return new Map(
    [...Map.groupBy(rows, (row) => row.attempt_id)].map(([attemptId, own]) => [attemptId, own.map(intervalFromRow)]),
  );
}

function intervalFromRow(row: UsageRow): OwnedInterval {
  return {
    instanceId: row.instance_id,
    from: row.started_at.getTime(),
    to: row.ended_at.getTime(),
    provenUntil: row.proven_until.getTime(),
    priceMicroUsdPerHour: row.price_micro_usd_per_hour,
    isOpen: row.is_open,
  };
}
