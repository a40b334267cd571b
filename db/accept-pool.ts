/**
 * Accepting what a pool needs: a warm instance more, one less, or the end of all. Each is an ordinary provision or destroy, in the
 * caller's transaction, which holds the pool's row. How many is domain/pool.ts's to decide.
 */
import { randomBytes } from 'node:crypto';
import { toBase32 } from '../domain/ids.ts';
import { isClaimable, type PoolRoom, type PoolView } from '../domain/pool.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import { acceptDestroy } from './accept-destroy.ts';
import { acceptProvision } from './accept-provision.ts';
import type { Actor } from './audit.ts';
import type { Executor, Tx } from './database.ts';
import { findInstance, measureFleet } from './instances.ts';
import { newId } from './new-id.ts';
import { lockOperation, type OperationRow } from './operations.ts';
import { listWarmInstances, markPoolDeleted, readDemand, type PoolRow, type PoolWish } from './pools.ts';
import type { Queue } from './queue.ts';

export async function viewPool(executor: Executor, pool: PoolRow): Promise<PoolView> {
  const demand = await readDemand(executor, [pool.id]);
  return {
    targetSize: pool.target_size,
    maxSize: pool.max_size,
    maxPriceMicroUsdPerHour: pool.max_price_micro_usd_per_hour,
    idleShrinkAfterMs: Number(pool.idle_shrink_after_ms),
    idleSize: pool.idle_size,
    demandedAt: demand.get(pool.id)?.getTime() ?? null,
    aboveTargetSince: pool.above_target_since?.getTime() ?? null,
    changedAt: pool.changed_at.getTime(),
    instances: (await listWarmInstances(executor, [pool.id])).get(pool.id) ?? [],
  };
}

/** What the caps leave now; acceptProvision checks them again behind its lock. */
export async function readPoolRoom(executor: Executor): Promise<PoolRoom> {
  const caps = await executor
    .selectFrom('deployment')
    .select(['max_instances', 'max_burn_micro_usd_per_hour'])
    .executeTakeFirstOrThrow();
  const { liveInstances, committedMicroUsdPerHour } = await measureFleet(executor);
  return {
    instances: caps.max_instances - liveInstances,
    burnMicroUsdPerHour: caps.max_burn_micro_usd_per_hour - committedMicroUsdPerHour,
  };
}

/** One more, without an end by declaration. Throws MusterError `cap_exceeded`. */
export async function acceptRefill(tx: Tx, queue: Queue, pool: PoolRow, bootTimeoutMs: number): Promise<OperationRow> {
  const { operation } = await acceptProvision(tx, queue, {
    orgId: pool.org_id,
    actor: actorOf(pool),
    names: [`${pool.name}-${toBase32(randomBytes(4)).slice(0, 6)}`],
    request: warmRequest(pool.wanted, pool.max_price_micro_usd_per_hour, bootTimeoutMs),
    consumer: pool.consumer,
    overrideReason: `warm instance of pool ${pool.name}`,
    stackId: newId('stack'),
    poolId: pool.id,
  });
  return operation;
}

/** Gives one back, unless it is claimed or ending meanwhile. Whether it did. */
export async function acceptShrink(tx: Tx, queue: Queue, pool: PoolRow, instanceId: string): Promise<boolean> {
  const seen = await findInstance(tx, null, instanceId);
  if (!seen) return false;
  await lockOperation(tx, seen.operation_id);
  // A claim that is under way holds it, and is not waited for.
  const held = await tx
    .selectFrom('instances')
    .select('id')
    .where('id', '=', instanceId)
    .where('status', '=', 'ready')
    .where('claimed_by', 'is', null)
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
  if (!held) return false;
  const reason = `pool ${pool.name} has kept more than it needs for a while`;
  await acceptDestroy(tx, queue, { orgId: null, instanceId, actor: actorOf(pool), reason });
  return true;
}

/** The pool ends, and everything of it that is nobody else's. Returns the operations that destroy it. */
export async function acceptPoolDelete(tx: Tx, queue: Queue, pool: PoolRow, actor: Actor): Promise<OperationRow[]> {
  await markPoolDeleted(tx, pool.id);
  const warm = (await listWarmInstances(tx, [pool.id])).get(pool.id) ?? [];
  const operations: OperationRow[] = [];
  for (const one of warm) {
    const isClaimed = one.status === 'ready' && !isClaimable(one);
    if (isClaimed || one.status === 'destroyed') continue;
    const order = { orgId: null, instanceId: one.id, actor, reason: `pool ${pool.name} was deleted` };
    operations.push((await acceptDestroy(tx, queue, order)).operation);
  }
  return operations;
}

function actorOf(pool: PoolRow): Actor {
  return { kind: 'system', id: pool.id };
}

/** What a pool wants, as a provision: the cheapest that comes up. */
export function warmRequest(
  wanted: PoolWish,
  maxPriceMicroUsdPerHour: bigint,
  bootTimeoutMs: number,
): ProvisionRequest {
  return {
    ...wanted,
    maxPriceMicroUsdPerHour: Number(maxPriceMicroUsdPerHour),
    minReliability: null,
    interruptible: false,
    strategy: 'coldstart',
    raceWidth: 1,
    maxRaceCostMicroUsd: 0,
    sshPublicKeys: [],
    envNames: [],
    envSealed: null,
    onStart: null,
    maxLifetimeMs: null,
    bootTimeoutMs,
  };
}
