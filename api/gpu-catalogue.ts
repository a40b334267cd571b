/** The GPU catalogue: which names of GPUs mean anything here. It follows the offers, a few seconds late. */
import { MusterError } from '../domain/error-table.ts';
import { nearestNames } from '../domain/nearest-name.ts';
import { canonicalGpuKey } from '../domain/offer.ts';
import type { Db } from '../db/database.ts';
import { listKnownGpus, rememberGpus } from '../db/known-gpus.ts';

const REFRESH_MS = 5_000;

export interface GpuCatalogue {
  /** The GPU's name as providers spell it. Throws MusterError `invalid_request` naming the nearest known ones. */
  resolve(name: string): Promise<string>;
}

/** While nothing is known yet (no listing ever arrived) every name passes: the request then waits for offers like any other. */
export function createGpuCatalogue(db: Db): GpuCatalogue {
  let known = new Map<string, string>();
  let readAt = -Infinity;
  const refresh = async () => {
    await rememberGpus(db);
    known = new Map((await listKnownGpus(db)).map((row) => [row.gpu_key, row.gpu]));
    readAt = performance.now();
  };
  return {
    async resolve(name) {
      const key = canonicalGpuKey(name);
      if (!known.has(key) && performance.now() - readAt > REFRESH_MS) await refresh();
      const found = known.get(key);
      if (found !== undefined) return found;
      if (known.size === 0) return name;
      const nearest = nearestNames(name, [...known.values()]);
      throw new MusterError('invalid_request', `gpu "${name}" is not known; nearest: ${nearest.join(', ')}`, {
        errors: [{ path: 'gpu', message: `"${name}" is not known; nearest: ${nearest.join(', ')}` }],
        facts: { nearest },
      });
    },
  };
}
