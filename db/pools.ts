/** Pools: what warm instances an org wants kept, what exists for them, and what the last look at them said. The rule is domain/pool.ts's. */
import { sql, type Selectable } from 'kysely';
import type { PoolDecision, WarmInstance } from '../domain/pool.ts';
import type { InstanceStatus } from '../domain/instance.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type PoolRow = Selectable<Schema['pools']> & { wanted: PoolWish };

/** What its warm instances are; each fits a provision request. */
export interface PoolWish {
  gpu: string;
  gpuCount: number;
  minGpuMemoryGib: number | null;
  diskGib: number;
  image: string;
  providers: ProviderName[];
  regions: string[];
}

export interface PoolFields {
  name: string;
  targetSize: number;
  maxSize: number;
  maxPriceMicroUsdPerHour: bigint;
  idleShrinkAfterMs: number;
  /** How many are kept while nobody asks for them. */
  idleSize: number;
  wanted: PoolWish;
  /** To whom it costs until it is handed over. */
  consumer: string;
}

/** null: the org has a pool of that name. */
export async function insertPool(
  tx: Tx,
  pool: PoolFields & { orgId: string; createdBy: string },
): Promise<PoolRow | null> {
  const row = await tx
    .insertInto('pools')
    .values({ id: newId('pool'), org_id: pool.orgId, created_by: pool.createdBy, ...columnsOf(pool) })
    .onConflict((conflict) => conflict.columns(['org_id', 'name']).where('deleted_at', 'is', null).doNothing())
    .returningAll()
    .executeTakeFirst();
  return (row as PoolRow | undefined) ?? null;
}

/** Throws the database's error for a name that is taken. Trouble with what was wanted before is forgotten. */
export async function updatePool(tx: Tx, id: string, pool: PoolFields): Promise<PoolRow> {
  const row = await tx
    .updateTable('pools')
    .set({ ...columnsOf(pool), trouble: null, retry_at: null, changed_at: sql<Date>`now()` })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow();
  return row as PoolRow;
}

export async function markPoolDeleted(tx: Tx, id: string): Promise<void> {
  await tx
    .updateTable('pools')
    .set({ target_size: 0, deleted_at: sql`now()` })
    .where('id', '=', id)
    .execute();
}

export async function lockPool(tx: Tx, id: string): Promise<PoolRow | undefined> {
  return (await livePools(tx).where('id', '=', id).forUpdate().executeTakeFirst()) as PoolRow | undefined;
}

export async function findPool(executor: Executor, orgId: string, id: string): Promise<PoolRow | undefined> {
  const row = await livePools(executor).where('id', '=', id).where('org_id', '=', orgId).executeTakeFirst();
  return row as PoolRow | undefined;
}

export async function listPools(
  executor: Executor,
  filter: { orgId?: string; limit: number; before?: { createdAt: Date; id: string } },
): Promise<PoolRow[]> {
  let query = livePools(executor);
  if (filter.orgId !== undefined) query = query.where('org_id', '=', filter.orgId);
  if (filter.before) {
    const { createdAt, id } = filter.before;
    query = query.where(sql<boolean>`(created_at, id) < (${createdAt}::timestamptz, ${id})`);
  }
  const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
  return rows as PoolRow[];
}

function livePools(executor: Executor) {
  return executor.selectFrom('pools').selectAll().where('deleted_at', 'is', null);
}

/** What the last look found and decided. */
export async function recordRefill(executor: Executor, id: string, decision: PoolDecision, at: Date): Promise<void> {
  await executor
    .updateTable('pools')
    .set({
      above_target_since: decision.aboveTargetSince === null ? null : new Date(decision.aboveTargetSince),
      trouble: decision.trouble,
      retry_at: decision.retryAt === null ? null : new Date(decision.retryAt),
      refilled_at: at,
    })
    .where('id', '=', id)
    .execute();
}

/** Of a long line of failures the last ones tell enough. */
const ENDED_READ = 20;

/** Newest first, by pool: everything that may exist, and the last that ended. */
export async function listWarmInstances(executor: Executor, poolIds: string[]): Promise<Map<string, WarmInstance[]>> {
  if (poolIds.length === 0) return new Map();
  const { rows } = await sql<{
    poolId: string;
    id: string;
    status: InstanceStatus;
    isClaimed: boolean;
    createdAt: Date;
    readyAt: Date | null;
    endedAt: Date | null;
    failure: string | null;
    price: bigint | null;
  }>`
    select i.pool_id as "poolId", i.id, i.status, i.claimed_by is not null as "isClaimed", i.created_at as "createdAt",
           i.ready_at as "readyAt", coalesce(i.destroy_requested_at, i.destroyed_at) as "endedAt",
           coalesce(i.failure_detail, i.failure_code) as failure, a.price_micro_usd_per_hour as price
    from unnest(${sql.val(poolIds)}::text[]) as pool (id) cross join lateral (
      select * from instances where pool_id = pool.id and status <> 'destroyed'
      union all
      (select * from instances where pool_id = pool.id and status = 'destroyed' order by created_at desc limit ${ENDED_READ})
    ) i left join attempts a on a.id = i.winner_attempt_id
    order by i.created_at desc, i.id`.execute(executor);
  return new Map(
    [...Map.groupBy(rows, (row) => row.poolId)].map(([poolId, all]) => [
      poolId,
      all.map((row) => ({
        id: row.id,
        status: row.status,
        isClaimed: row.isClaimed,
        createdAt: row.createdAt.getTime(),
        readyAt: row.readyAt?.getTime() ?? null,
        endedAt: row.endedAt?.getTime() ?? null,
        failure: row.failure,
        priceMicroUsdPerHour: row.price,
      })),
    ]),
  );
}

/**
 * When each was last asked for: by a serverless request for what it keeps, whether that found something warm or started cold. Absent: not
 * within the time after which it counts as idle.
 */
export async function readDemand(executor: Executor, poolIds: string[]): Promise<Map<string, Date>> {
  if (poolIds.length === 0) return new Map();
  const { rows } = await sql<{ id: string; at: Date }>`
    select p.id, max(i.created_at) as at
    from pools p join instances i on i.org_id = p.org_id and i.strategy = 'serverless'
      and i.created_at > now() - p.idle_shrink_after_ms * interval '1 millisecond'
      and i.request->>'gpu' = p.wanted->>'gpu' and i.request->>'gpuCount' = p.wanted->>'gpuCount'
      and i.request->>'image' = p.wanted->>'image'
      and (i.request->>'diskGib')::integer <= (p.wanted->>'diskGib')::integer
    where p.id = any(${sql.val(poolIds)}::text[]) group by p.id`.execute(executor);
  return new Map(rows.map(({ id, at }) => [id, at]));
}

/** How many instances were ever claimed from each. */
export async function countClaimed(executor: Executor, poolIds: string[]): Promise<Map<string, number>> {
  if (poolIds.length === 0) return new Map();
  const rows = await executor
    .selectFrom('instances')
    .select(['pool_id', sql<bigint>`count(*)`.as('count')])
    .where('pool_id', 'in', poolIds)
    .where('claimed_by', 'is not', null)
    .groupBy('pool_id')
    .execute();
  return new Map(rows.map((row) => [row.pool_id as string, Number(row.count)]));
}

function columnsOf(pool: PoolFields) {
  return {
    name: pool.name,
    target_size: pool.targetSize,
    max_size: pool.maxSize,
    max_price_micro_usd_per_hour: pool.maxPriceMicroUsdPerHour,
    idle_shrink_after_ms: BigInt(pool.idleShrinkAfterMs),
    idle_size: pool.idleSize,
    wanted: JSON.stringify(pool.wanted),
    consumer: pool.consumer,
  };
}
