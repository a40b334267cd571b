/**
 * Spacing of vendor calls shared by every process on this database: each call books the next free moment of its endpoint in one
 * statement and then waits for it. A booking whose caller died is a moment lost, never a call too many.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { ProviderError } from '../domain/provider-error.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { Db } from './database.ts';

export interface SharedRateLimiter {
  acquire(provider: ProviderName, endpoint: string, signal?: AbortSignal): Promise<void>;
  slowDown(provider: ProviderName, endpoint: string, forMs: number): Promise<void>;
}

/** @param limits seconds between two calls of an endpoint; one that is not listed is limited only after the vendor said 429. */
export function createSharedRateLimiter(db: Db, limits: Record<string, Record<string, number>>): SharedRateLimiter {
  const slowed = new Map<string, number>();
  return {
    async acquire(provider, endpoint, signal) {
      const spacingMs = (limits[provider]?.[endpoint] ?? 0) * 1000;
      const isSlowed = (slowed.get(`${provider}/${endpoint}`) ?? 0) > Date.now();
      if (spacingMs === 0 && !isSlowed) return;
      const waitMs = await bookMoment(db, provider, endpoint, spacingMs);
      if (waitMs <= 0) return;
      try {
        await sleep(waitMs, undefined, signal ? { signal } : {});
      } catch (cause) {
        throw new ProviderError('canceled', `canceled while waiting to call ${provider} ${endpoint}`, { cause });
      }
    },
    async slowDown(provider, endpoint, forMs) {
      slowed.set(`${provider}/${endpoint}`, Date.now() + 2 * forMs);
      await sql`
        insert into provider_rate_limits (provider, endpoint, next_at)
        values (${provider}, ${endpoint}, clock_timestamp() + ${forMs} * interval '1 millisecond')
        on conflict (provider, endpoint) do update set next_at = greatest(provider_rate_limits.next_at, excluded.next_at)`.execute(
        db,
      );
    },
  };
}

async function bookMoment(db: Db, provider: string, endpoint: string, spacingMs: number): Promise<number> {
  const { rows } = await sql<{ waitMs: number }>`
    insert into provider_rate_limits as limits (provider, endpoint, next_at)
    values (${provider}, ${endpoint}, clock_timestamp() + ${spacingMs} * interval '1 millisecond')
    on conflict (provider, endpoint) do update
      set next_at = greatest(limits.next_at, clock_timestamp()) + ${spacingMs} * interval '1 millisecond'
    returning (extract(epoch from next_at - clock_timestamp()) * 1000 - ${spacingMs})::float8 as "waitMs"`.execute(db);
  return rows[0]?.waitMs ?? 0;
}
