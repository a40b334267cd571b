/**
 * How many GPUs of a type are where, and who has them. The vendor shows a word for it, not a number; what is said to be there may
 * be gone all the same (`staleOfferShare`).
 */
import { createRandom } from '../random.ts';
import { holdsGpus } from '../rental/machine.ts';
import type { RentalMarket } from '../rental/vendor.ts';
import { DATA_CENTERS, GPU_TYPES, type DataCenter, type GpuType } from './hardware.ts';
import type { PodDetails } from './pod.ts';
import type { RunpodSwitches } from './switches.ts';

export type Level = 'NONE' | 'LOW' | 'MEDIUM' | 'HIGH';
export type Cloud = 'SECURE' | 'COMMUNITY';

/** GPUs of one type in one data center of the vendor's, or of one type on the hardware of others (no data center). */
export interface Pool {
  key: string;
  cloud: Cloud;
  type: GpuType;
  dataCenter: DataCenter | null;
  /** GPUs of the largest machine. */
  maxCount: number;
  /** GPUs that the vendor has, and that others than this account hold. */
  total: number;
  takenByOthers: number;
}

export interface Stock {
  pools(cloud: Cloud): readonly Pool[];
  find(cloud: Cloud, gpuTypeId: string, dataCenterId: string | null): Pool | undefined;
  /** As the catalogue says it for pods of `count` GPUs. */
  level(pool: Pool, count: number): Level;
  /** Whether a purchase of `count` GPUs would be served now. */
  canServe(pool: Pool, count: number): boolean;
  freeGpus(pool: Pool): number;
  /** Micro-dollars per GPU and hour now. */
  gpuPrice(type: GpuType, cloud: Cloud): number;
  /** From now on nothing is left in this pool. */
  empty(key: string): void;
  /** Offers in the sense of the sandbox: pools times the counts 1, 2, 4 and 8 that they serve. */
  countOffers(): number;
}

const COUNTS = [1, 2, 4, 8];
const EMPTIED = 'runpod/emptied';

export function createStock(market: RentalMarket<PodDetails, RunpodSwitches>): Stock {
  const { fleet, journal, seed } = market;
  const pools = [...makeSecurePools(seed, market.offerCount), ...makeCommunityPools(seed)];
  const byKey = new Map(pools.map((pool) => [pool.key, pool]));
  const emptied = new Set((journal.restored.get(EMPTIED) as string[] | undefined) ?? []);

  const isIn = (names: readonly string[], pool: Pool): boolean =>
    names.includes('*') || names.includes(pool.type.model.name);

  function freeGpus(pool: Pool): number {
    if (emptied.has(pool.key) || isIn(market.switches().drought, pool)) return 0;
    const free = pool.total - pool.takenByOthers;
    if (fleet.occupied(pool.key) === 0) return free;
    let ours = 0;
    for (const machine of fleet.all()) {
      if (machine.offerKey === pool.key && holdsGpus(machine)) ours += machine.gpuCount;
    }
    return Math.max(0, free - ours);
  }

  function isStale(pool: Pool): boolean {
    return createRandom(seed, `runpod stale ${pool.key}`).next() < market.switches().staleOfferShare;
  }

  return {
    pools: (cloud) => pools.filter((pool) => pool.cloud === cloud),
    find: (cloud, gpuTypeId, dataCenterId) => byKey.get(keyOf(cloud, gpuTypeId, dataCenterId)),
    level(pool, count) {
      const free = freeGpus(pool);
      if (count > pool.maxCount || free < count) return 'NONE';
      const share = free / pool.total;
      return share > 0.5 ? 'HIGH' : share > 0.2 ? 'MEDIUM' : 'LOW';
    },
    canServe: (pool, count) => count <= pool.maxCount && freeGpus(pool) >= count && !isStale(pool),
    freeGpus,
    gpuPrice(type, cloud) {
      const price = cloud === 'SECURE' ? type.secureMicroUsd : type.communityMicroUsd;
      return Math.round(price * market.switches().priceFactor);
    },
    empty(key) {
      emptied.add(key);
      journal.put([[EMPTIED, [...emptied]]]);
    },
    countOffers() {
      const listed = pools.filter((pool) => pool.cloud === 'SECURE');
      return listed.reduce((sum, pool) => sum + COUNTS.filter((count) => this.level(pool, count) !== 'NONE').length, 0);
    },
  };
}

export function keyOf(cloud: Cloud, gpuTypeId: string, dataCenterId: string | null): string {
  return `${cloud}/${dataCenterId ?? '*'}/${gpuTypeId}`;
}

/** Pairs of type and data center until so many offers are listed; the common types come first, so that any number has some. */
function makeSecurePools(seed: number, offerCount: number): Pool[] {
  const pools: Pool[] = [];
  let listed = 0;
  for (let round = 0; round < DATA_CENTERS.length && listed < offerCount; round++) {
    for (const [index, type] of GPU_TYPES.entries()) {
      if (listed >= offerCount) break;
      const dataCenter = DATA_CENTERS[(round + index * 5) % DATA_CENTERS.length]!;
      const pool = makePool(seed, 'SECURE', type, dataCenter);
      pools.push(pool);
      const free = pool.total - pool.takenByOthers;
      listed += COUNTS.filter((count) => count <= Math.min(pool.maxCount, free)).length;
    }
  }
  return pools;
}

function makeCommunityPools(seed: number): Pool[] {
  return GPU_TYPES.filter((type) => type.maxCommunity > 0).map((type) => makePool(seed, 'COMMUNITY', type, null));
}

function makePool(seed: number, cloud: Cloud, type: GpuType, dataCenter: DataCenter | null): Pool {
  const key = keyOf(cloud, type.id, dataCenter?.id ?? null);
  const random = createRandom(seed, `runpod pool ${key}`);
  const maxCount = cloud === 'SECURE' ? type.maxSecure : type.maxCommunity;
  const total = maxCount * random.int(2, 6);
  return { key, cloud, type, dataCenter, maxCount, total, takenByOthers: Math.floor(total * random.next() * 0.75) };
}
