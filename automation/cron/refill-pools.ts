/** The refill-pools cron: every pool is brought nearer to its target by ordinary operations. What was claimed is refilled at once besides (operations/hand-over.ts). */
import { listPools } from '../../db/pools.ts';
import { refillPool, type RefillServices } from '../../db/refill-pool.ts';
import type { Cron } from './scheduler.ts';

const EVERY_MS = 30_000;
/** Pools looked at in one tick; a deployment has a handful. */
const MAX_POOLS = 500;

export function createRefillPoolsCron(services: RefillServices): Cron {
  return {
    name: 'refill-pools',
    everyMs: EVERY_MS,
    hasWork: async () => (await listPools(services.db, { limit: 1 })).length > 0,
    async run(signal) {
      const sum = { pools: 0, bought: 0, shrunk: 0, refused: 0 };
      for (const pool of await listPools(services.db, { limit: MAX_POOLS })) {
        if (signal.aborted) break;
        const { bought, shrunk, refused } = await refillPool(services, pool.id);
        sum.pools += 1;
        sum.bought += bought;
        sum.shrunk += shrunk;
        sum.refused += refused;
      }
      return sum;
    },
  };
}
