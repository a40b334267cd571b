/**
 * A pool: how many warm instances (ready, unassigned GPU instances of one kind) are kept, and what is to be done about it now. This module
 * decides; it neither buys, claims nor destroys. While nobody asks for what it keeps, it keeps fewer. What always holds: what exists of a pool is never more than its maxSize, what is bought
 * never exceeds the room that the deployment's caps leave, and only what is ready and claimed by nobody is given back.
 */
import type { InstanceStatus } from './instance.ts';
import type { MicroUsd } from './money.ts';
import { countFailures, isTowardTarget } from './sourcing.ts';

/** An instance that was bought for a pool. */
export interface WarmInstance {
  id: string;
  status: InstanceStatus;
  /** A request has it: it is handed over, and no longer the pool's. */
  isClaimed: boolean;
  createdAt: number;
  readyAt: number | null;
  /** When it was given up; null while it is not. */
  endedAt: number | null;
  failure: string | null;
  /** null: not bought yet. */
  priceMicroUsdPerHour: MicroUsd | null;
}

export interface PoolView {
  targetSize: number;
  /** Of everything that may exist for it, what is being destroyed included. */
  maxSize: number;
  maxPriceMicroUsdPerHour: MicroUsd;
  /** How long more than is needed is kept: above the target, or while nobody asks. */
  idleShrinkAfterMs: number;
  /** How many are kept while nobody asks; never more than the target. */
  idleSize: number;
  /** When a request last asked for what it keeps; null: not for long. */
  demandedAt: number | null;
  /** Since when there have been more than are needed; null: there are not. */
  aboveTargetSince: number | null;
  /** When somebody last said what is wanted. Failures before it say nothing about that, and it counts like a request. */
  changedAt: number;
  /** Newest first: everything that may exist, and the last that ended. */
  instances: readonly WarmInstance[];
}

/** What the deployment's caps leave for further instances. */
export interface PoolRoom {
  instances: number;
  burnMicroUsdPerHour: MicroUsd;
}

export interface PoolCounts {
  /** Can be claimed now. */
  ready: number;
  /** On their way. */
  filling: number;
  /** Everything that may exist and is the pool's own. */
  existing: number;
}

export interface PoolDecision {
  /** How many to buy now. */
  fill: number;
  /** Which to give back now. */
  shrink: string[];
  aboveTargetSince: number | null;
  /** Why there are too few; null: nothing keeps it from its target. */
  trouble: string | null;
  /** When it is tried again after failures; null: at the next look. */
  retryAt: number | null;
}

/** Waits after 1, 2, 3, … failures in a row: doubled each time. */
const BACKOFF_BASE_MS = 30_000;
const BACKOFF_CAP_MS = 30 * 60_000;

export function countPool(instances: readonly WarmInstance[]): PoolCounts {
  const own = instances.filter((one) => one.status !== 'destroyed' && !isHandedOver(one));
  return {
    ready: own.filter(isClaimable).length,
    filling: own.filter(({ status }) => isTowardTarget(status) && status !== 'ready').length,
    existing: own.length,
  };
}

/** Only what is ready, and nobody's. */
export function isClaimable(instance: WarmInstance): boolean {
  return instance.status === 'ready' && !instance.isClaimed;
}

/** How many are to be ready now: its target, or while idle its idle size. */
export function countNeeded(
  pool: Pick<PoolView, 'targetSize' | 'idleSize' | 'idleShrinkAfterMs' | 'demandedAt' | 'changedAt'>,
  now: number,
): number {
  const isIdle = now - Math.max(pool.changedAt, pool.demandedAt ?? 0) >= pool.idleShrinkAfterMs;
  return isIdle ? Math.min(pool.idleSize, pool.targetSize) : pool.targetSize;
}

export function decidePool(pool: PoolView, room: PoolRoom, now: number): PoolDecision {
  const { ready, filling, existing } = countPool(pool.instances);
  const needed = countNeeded(pool, now);
  const missing = needed - ready - filling;
  // An idle one has waited already.
  const since = needed < pool.targetSize ? Math.max(pool.changedAt, pool.demandedAt ?? 0) : now;
  const aboveTargetSince = missing < 0 ? (pool.aboveTargetSince ?? since) : null;
  const calm = { fill: 0, shrink: [], aboveTargetSince, trouble: null, retryAt: null };
  if (missing < 0) return { ...calm, shrink: listSurplus(pool, aboveTargetSince ?? now, ready - needed, now) };
  if (missing === 0) return calm;
  const failures = countFailures(pool.instances.filter(({ createdAt }) => createdAt >= pool.changedAt));
  const why = failures.reason === null ? '' : `: ${failures.reason}`;
  const trouble = failures.count === 0 ? null : `${countOf(failures.count, 'refill')} in a row failed${why}`;
  if (failures.count > 0 && failures.last !== null) {
    const retryAt = failures.last + backoffMs(failures.count);
    if (retryAt > now) return { ...calm, trouble, retryAt };
  }
  // After failures one is tried, not all at once.
  const wish = failures.count === 0 ? missing : filling === 0 ? 1 : 0;
  const fits = Math.min(pool.maxSize - existing, countAffordable(pool, room));
  const fill = Math.max(0, Math.min(wish, fits));
  if (fill >= wish) return { ...calm, fill, trouble };
  return { ...calm, fill, trouble: trouble ?? describeBound(pool, room, existing) };
}

/** The dearest first, of equally dear ones the oldest; never more than `most`. */
function listSurplus(pool: PoolView, since: number, most: number, now: number): string[] {
  const idle = pool.instances
    .filter(isClaimable)
    .filter(({ readyAt }) => now - Math.max(since, readyAt ?? since) >= pool.idleShrinkAfterMs)
    .sort((a, b) => compare(b.priceMicroUsdPerHour ?? 0n, a.priceMicroUsdPerHour ?? 0n) || a.createdAt - b.createdAt);
  return idle.slice(0, Math.max(0, most)).map(({ id }) => id);
}

function countAffordable(pool: PoolView, room: PoolRoom): number {
  if (pool.maxPriceMicroUsdPerHour <= 0n) return Math.max(0, room.instances);
  const byBurn = room.burnMicroUsdPerHour < 0n ? 0n : room.burnMicroUsdPerHour / pool.maxPriceMicroUsdPerHour;
  return Math.max(0, Math.min(room.instances, Number(byBurn)));
}

function describeBound(pool: PoolView, room: PoolRoom, existing: number): string {
  if (pool.maxSize - existing < pool.targetSize && countAffordable(pool, room) > pool.maxSize - existing)
    return `${countOf(existing, 'machine')} of at most ${pool.maxSize} exist, those being destroyed included`;
  return "the deployment's caps leave no room for more (MUSTER_MAX_INSTANCES, MUSTER_MAX_BURN_USD_PER_HOUR)";
}

/** While a request has it, the request counts it. One that proved dead is the pool's again until it is gone. */
function isHandedOver(instance: WarmInstance): boolean {
  return instance.status === 'ready' && instance.isClaimed;
}

function backoffMs(failures: number): number {
  return Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.max(0, failures - 1));
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
