/**
 * Work at every provider in one tick: all at once, each for itself. One that is slow or fails takes nothing from the others; what
 * it took is cut off at a bound, so that it cannot hold up the next tick for all.
 */
import type { Logger } from 'pino';
import { isConnectionError, type Db } from '../../db/database.ts';
import type { Queue } from '../../db/queue.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import type { TickCounts } from './scheduler.ts';

/** What crons that look at the providers' machines work with. */
export interface FleetCronOptions {
  db: Db;
  queue: Queue;
  client: (provider: ProviderName) => ProviderClient;
  providers: ProviderName[];
  listLagMs: (provider: ProviderName) => number;
  now: () => Date;
  everyMs: number;
  log: Logger;
}

/** Far above a listing of many pages under the vendors' rate limits. */
const MAX_PROVIDER_MS = 120_000;

/**
 * Counts come back as `<provider>.<name>`; `<provider>.failed` is 1 where the work threw (it is logged), `<provider>.cut_off` 1
 * where it ran past its bound. Throws only where the database is away, when all have ended.
 */
export async function forEachProvider(
  providers: readonly ProviderName[],
  work: (provider: ProviderName, signal: AbortSignal) => Promise<TickCounts>,
  options: { signal: AbortSignal; log: Logger; maxMs?: number },
): Promise<TickCounts> {
  const counts: TickCounts = {};
  let away: unknown;
  await Promise.all(
    providers.map(async (provider) => {
      const bound = AbortSignal.timeout(options.maxMs ?? MAX_PROVIDER_MS);
      const signal = AbortSignal.any([options.signal, bound]);
      try {
        const made = await work(provider, signal);
        for (const [name, count] of Object.entries(made)) counts[`${provider}.${name}`] = count;
      } catch (error) {
        if (isConnectionError(error)) away ??= error;
        else options.log.error({ err: error, provider }, 'work at a provider failed');
        counts[`${provider}.failed`] = 1;
      }
      if (bound.aborted && !options.signal.aborted) counts[`${provider}.cut_off`] = 1;
    }),
  );
  if (away !== undefined) throw away as Error;
  return counts;
}
