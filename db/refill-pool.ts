/**
 * Refilling one pool: reads what exists, lets domain/pool.ts decide, and accepts ordinary provisions and destroys. Asked by the cron,
 * whenever something was claimed, and when a pool is made or changed. What keeps it from its target is kept in its row.
 */
import { MusterError } from '../domain/error-table.ts';
import { decidePool, type PoolDecision } from '../domain/pool.ts';
import { acceptRefill, acceptShrink, readPoolRoom, viewPool } from './accept-pool.ts';
import { inTransaction, type Db } from './database.ts';
import { lockPool, recordRefill } from './pools.ts';
import type { Queue } from './queue.ts';

export interface RefillServices {
  db: Db;
  queue: Queue;
  bootTimeoutMs: number;
  now: () => Date;
}

export interface RefillCounts {
  bought: number;
  shrunk: number;
  refused: number;
}

/** Each purchase in a transaction of its own that decides anew: any number of refills at once buy no more than one. */
export async function refillPool(services: RefillServices, poolId: string): Promise<RefillCounts> {
  const counts: RefillCounts = { bought: 0, shrunk: 0, refused: 0 };
  for (;;) {
    try {
      const decision = await decideAndApply(services, poolId, counts);
      if (decision === null || decision.fill === 0) return counts;
    } catch (error) {
      if (!(error instanceof MusterError)) throw error;
      counts.refused += 1;
      await recordRefusal(services, poolId, error.detail);
      return counts;
    }
  }
}

/** null: there is no such pool any more. */
function decideAndApply(
  { db, queue, bootTimeoutMs, now }: RefillServices,
  poolId: string,
  counts: RefillCounts,
): Promise<PoolDecision | null> {
  return inTransaction(db, async (tx) => {
    const pool = await lockPool(tx, poolId);
    if (!pool) return null;
    const at = now();
    const decision = decidePool(await viewPool(tx, pool), await readPoolRoom(tx), at.getTime());
    await recordRefill(tx, pool.id, decision, at);
    for (const id of decision.shrink) counts.shrunk += Number(await acceptShrink(tx, queue, pool, id));
    if (decision.fill > 0) {
      await acceptRefill(tx, queue, pool, bootTimeoutMs);
      counts.bought += 1;
    }
    return decision;
  });
}

function recordRefusal({ db, now }: RefillServices, poolId: string, trouble: string): Promise<void> {
  return inTransaction(db, async (tx) => {
    const pool = await lockPool(tx, poolId);
    if (!pool) return;
    const aboveTargetSince = pool.above_target_since?.getTime() ?? null;
    await recordRefill(tx, pool.id, { fill: 0, shrink: [], aboveTargetSince, trouble, retryAt: null }, now());
  });
}
