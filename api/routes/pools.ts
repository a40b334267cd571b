/** Routes of pools: which instances an org keeps warm. The cron refill-pools carries them out, requests of strategy `serverless` draw from them. */
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import { parseUsd, per30Days } from '../../domain/money.ts';
import { countNeeded, countPool, isClaimable, type WarmInstance } from '../../domain/pool.ts';
import { acceptPoolDelete } from '../../db/accept-pool.ts';
import { auditRow } from '../../db/audit.ts';
import type { Executor, Tx } from '../../db/database.ts';
import {
  countClaimed,
  findPool,
  insertPool,
  listPools,
  listWarmInstances,
  lockPool,
  readDemand,
  updatePool,
  type PoolFields,
  type PoolRow,
} from '../../db/pools.ts';
import { refillPool } from '../../db/refill-pool.ts';
import type { ApiContext } from '../api-deps.ts';
import { changePoolBody, createPoolBody, pool, poolDeleted, poolPage, poolPlan, type Pool } from '../contract/pools.ts';
import { id, pageQuery } from '../contract/values.ts';
import { awaitFreshOffers } from '../fresh-offers.ts';
import { planPool } from '../pool-plan.ts';
import { pageByTime } from '../cursor.ts';
import { operationRefReply } from '../replies/operation-reply.ts';
import { iso, isoOrNull, micro } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'pools';
const poolParams = z.object({ id: id('pool') });

export const poolRoutes: Route[] = [
  route({
    method: 'get',
    path: '/pools',
    access: 'read',
    area: AREA,
    summary: 'List pools, newest first',
    query: pageQuery,
    replies: { 200: poolPage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const body = await pageByTime(
        query,
        (page) => listPools(db, { orgId: caller.orgId, ...page }),
        (rows) => poolsReply(db, rows),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'post',
    path: '/pools',
    access: 'change',
    area: AREA,
    summary: 'Keep instances warm',
    description:
      'It is filled by ordinary instances without an end, within the caps of the deployment; requests of strategy `serverless` claim those that fit, and what was claimed is refilled at once. With `dryRun` it answers what the pool would cost.',
    body: createPoolBody,
    isIdempotent: true,
    replies: { 200: poolPlan, 201: pool },
    problems: ['conflict'],
    handle: async ({ body, caller, actor, deps, once }) => {
      const { name, targetSize, maxSize, maxPriceUsdPerHour, idleShrinkAfter, idleSize, consumer, dryRun, ...wanted } =
        body;
      const fields: PoolFields = {
        name,
        targetSize,
        maxSize: maxSize ?? Math.max(1, 2 * targetSize),
        maxPriceMicroUsdPerHour: parseUsd(maxPriceUsdPerHour) as bigint,
        idleShrinkAfterMs: parseDuration(idleShrinkAfter) as number,
        idleSize,
        consumer: consumer ?? name,
        wanted: {
          ...wanted,
          gpu: await deps.gpus.resolve(wanted.gpu),
          minGpuMemoryGib: wanted.minGpuMemoryGib ?? null,
        },
      };
      assertSizes(fields);
      if (dryRun) {
        await awaitFreshOffers(deps, caller, body.providers);
        return { status: 200, body: await planPool(deps.database.kysely, fields, deps.bootTimeoutMs) };
      }
      const made = await once(async (tx) => {
        const row = await insertPool(tx, { ...fields, orgId: caller.orgId, createdBy: caller.id });
        if (row === null) throw nameTaken(name);
        await auditPool(tx, actor, row, 'pool.create');
        return { status: 201, body: (await poolsReply(tx, [row]))[0] };
      });
      await fillAtOnce(deps, (made.body as Pool).id);
      return made;
    },
  }),
  route({
    method: 'get',
    path: '/pools/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a pool',
    params: poolParams,
    replies: { 200: pool },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await findPool(db, caller.orgId, params.id);
      if (!row) throw noPool(params.id);
      return { status: 200, body: (await poolsReply(db, [row]))[0] };
    },
  }),
  route({
    method: 'patch',
    path: '/pools/:id',
    access: 'change',
    area: AREA,
    summary: 'Change a pool',
    description: 'What is warm stays: above a smaller target until `idleShrinkAfter` has passed.',
    params: poolParams,
    body: changePoolBody,
    replies: { 200: pool },
    problems: ['conflict'],
    handle: async ({ params, body, caller, actor, deps }) => {
      const resolved = body.gpu === undefined ? body : { ...body, gpu: await deps.gpus.resolve(body.gpu) };
      const answer = await deps.database.kysely
        .transaction()
        .execute(async (tx) => {
          const row = await requirePool(tx, caller.orgId, params.id);
          const fields = changedFields(row, resolved);
          assertSizes(fields);
          const changed = await updatePool(tx, row.id, fields);
          await auditPool(tx, actor, changed, 'pool.change');
          return { status: 200, body: (await poolsReply(tx, [changed]))[0] };
        })
        .catch((error: unknown) => {
          if ((error as { constraint?: string }).constraint === 'pools_name') throw nameTaken(body.name ?? '');
          throw error;
        });
      await fillAtOnce(deps, params.id);
      return answer;
    },
  }),
  route({
    method: 'delete',
    path: '/pools/:id',
    access: 'change',
    area: AREA,
    summary: 'Delete a pool and destroy what it keeps warm',
    description: 'What was claimed belongs to whom claimed it, and stays.',
    params: poolParams,
    isIdempotent: true,
    replies: { 202: poolDeleted },
    handle: ({ params, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await requirePool(tx, caller.orgId, params.id);
        const operations = await acceptPoolDelete(tx, deps.queue, row, actor);
        await auditPool(tx, actor, row, 'pool.delete');
        return { status: 202, body: { id: row.id, operations: operations.map(operationRefReply) } };
      }),
  }),
];

/** What this does not buy, the cron does: the pool stands either way. */
async function fillAtOnce({ database, queue, bootTimeoutMs, logger }: ApiContext, poolId: string): Promise<void> {
  const services = { db: database.kysely, queue, bootTimeoutMs, now: () => new Date() };
  await refillPool(services, poolId).catch((error: unknown) => {
    logger.warn({ err: error, pool: poolId }, 'a pool could not be filled at once');
  });
}

async function requirePool(tx: Tx, orgId: string, poolId: string): Promise<PoolRow> {
  const row = await lockPool(tx, poolId);
  if (row?.org_id !== orgId) throw noPool(poolId);
  return row;
}

function noPool(poolId: string): MusterError {
  return new MusterError('not_found', `there is no pool ${poolId}`);
}

function assertSizes({ targetSize, maxSize }: PoolFields): void {
  if (targetSize <= maxSize) return;
  const message = `must not be below targetSize (${targetSize}), got ${maxSize}`;
  throw new MusterError('invalid_request', `maxSize ${message}`, { errors: [{ path: 'maxSize', message }] });
}

function changedFields(row: PoolRow, body: z.output<typeof changePoolBody>): PoolFields {
  const { name, targetSize, maxSize, maxPriceUsdPerHour, idleShrinkAfter, idleSize, consumer, ...wanted } = body;
  const given = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
  return {
    name: name ?? row.name,
    targetSize: targetSize ?? row.target_size,
    maxSize: maxSize ?? row.max_size,
    maxPriceMicroUsdPerHour:
      maxPriceUsdPerHour === undefined ? row.max_price_micro_usd_per_hour : (parseUsd(maxPriceUsdPerHour) as bigint),
    idleShrinkAfterMs:
      idleShrinkAfter === undefined ? Number(row.idle_shrink_after_ms) : (parseDuration(idleShrinkAfter) as number),
    idleSize: idleSize ?? row.idle_size,
    consumer: consumer ?? row.consumer,
    wanted: { ...row.wanted, ...given },
  };
}

function auditPool(tx: Tx, actor: Call['actor'], row: PoolRow, action: `pool.${string}`): Promise<void> {
  return auditRow(tx, actor, row, action, {
    name: row.name,
    gpu: row.wanted.gpu,
    targetSize: row.target_size,
    maxSize: row.max_size,
    maxPriceMicroUsdPerHour: micro(row.max_price_micro_usd_per_hour),
  });
}

function nameTaken(name: string): MusterError {
  return new MusterError('conflict', `a pool named "${name}" exists already`, {
    errors: [{ path: 'name', message: 'is taken by a pool of this org' }],
  });
}

async function poolsReply(executor: Executor, rows: PoolRow[]): Promise<Pool[]> {
  const ids = rows.map((row) => row.id);
  const warm = await listWarmInstances(executor, ids);
  const claimed = await countClaimed(executor, ids);
  const demand = await readDemand(executor, ids);
  return rows.map((row) =>
    poolReply(row, warm.get(row.id) ?? [], {
      claimed: claimed.get(row.id) ?? 0,
      demandedAt: demand.get(row.id) ?? null,
    }),
  );
}

function poolReply(
  row: PoolRow,
  instances: readonly WarmInstance[],
  { claimed, demandedAt }: { claimed: number; demandedAt: Date | null },
): Pool {
  const atMost = row.max_price_micro_usd_per_hour * BigInt(row.target_size);
  const sizes = {
    targetSize: row.target_size,
    idleSize: row.idle_size,
    idleShrinkAfterMs: Number(row.idle_shrink_after_ms),
  };
  const asked = { demandedAt: demandedAt?.getTime() ?? null, changedAt: row.changed_at.getTime() };
  return {
    id: row.id,
    name: row.name,
    ...row.wanted,
    maxPriceMicroUsdPerHour: micro(row.max_price_micro_usd_per_hour),
    ...sizes,
    maxSize: row.max_size,
    needed: countNeeded({ ...sizes, ...asked }, Date.now()),
    demandedAt: isoOrNull(demandedAt),
    consumer: row.consumer,
    maxPriceAtTargetMicroUsdPerHour: micro(atMost),
    maxPriceAtTargetMicroUsdPer30Days: micro(per30Days(atMost)),
    counts: { ...countPool(instances), claimed },
    burnMicroUsdPerHour: micro(
      instances.filter(isClaimable).reduce((sum, one) => sum + (one.priceMicroUsdPerHour ?? 0n), 0n),
    ),
    trouble: row.trouble,
    retryAt: isoOrNull(row.retry_at),
    refilledAt: isoOrNull(row.refilled_at),
    createdAt: iso(row.created_at),
  };
}
