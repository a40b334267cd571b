/** The plan of a pool: what a dry run of POST /pools answers. It reads, and keeps and buys nothing: a pool buys at the prices of its day. */
import { per30Days } from '../domain/money.ts';
import { decidePool } from '../domain/pool.ts';
import { specOf } from '../domain/provision-request.ts';
import { previewPlan } from '../domain/provisioning/preview.ts';
import { readPoolRoom, warmRequest } from '../db/accept-pool.ts';
import type { Executor } from '../db/database.ts';
import { readMarket } from '../db/market.ts';
import { newId } from '../db/new-id.ts';
import type { PoolFields } from '../db/pools.ts';
import type { PoolPlan } from './contract/pools.ts';
import { micro } from './reply-values.ts';

export async function planPool(executor: Executor, fields: PoolFields, bootTimeoutMs: number): Promise<PoolPlan> {
  const request = warmRequest(fields.wanted, fields.maxPriceMicroUsdPerHour, bootTimeoutMs);
  const market = await readMarket(executor, request);
  const now = Date.now();
  const preview = previewPlan({
    spec: specOf(request),
    count: fields.targetSize,
    ...market,
    seed: newId('plan'),
    limit: 1,
    now,
  });
  const room = await readPoolRoom(executor);
  const first = decidePool(
    { ...fields, demandedAt: null, aboveTargetSince: null, changedAt: now, instances: [] },
    room,
    now,
  );
  const atMost = fields.maxPriceMicroUsdPerHour * BigInt(fields.targetSize);
  return {
    targetSize: fields.targetSize,
    maxSize: fields.maxSize,
    fittingOffers: preview.fittingOffers,
    fittingMachines: preview.fittingMachines,
    priceMicroUsdPerHour: micro(preview.priceMicroUsdPerHour),
    priceMicroUsdPer30Days: micro(per30Days(preview.priceMicroUsdPerHour)),
    maxPriceAtTargetMicroUsdPerHour: micro(atMost),
    maxPriceAtTargetMicroUsdPer30Days: micro(per30Days(atMost)),
    p50ReadyMs: preview.p50ReadyMs,
    p95ReadyMs: preview.p95ReadyMs,
    room: {
      instances: Math.max(0, room.instances),
      burnMicroUsdPerHour: micro(room.burnMicroUsdPerHour > 0n ? room.burnMicroUsdPerHour : 0n),
    },
    fillNow: first.fill,
    shortage: preview.shortage,
    trouble: first.trouble,
  };
}
