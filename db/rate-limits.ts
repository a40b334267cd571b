/** Rate limits: counters shared by all replicas, in an unlogged table, so that counting waits for no disk. */
import pg from 'pg';
import { RateLimiterMemory, RateLimiterPostgres, type RateLimiterRes } from 'rate-limiter-flexible';

export interface RateLimit {
  /** Takes one point; null when it may pass, otherwise the milliseconds until it may. */
  take(key: string): Promise<number | null>;
}

/**
 * `points` per `seconds` for each key. While Postgres is away each process counts for itself. A key over its limit is refused
 * from memory until its window ends, so a flood costs no statements.
 */
export function createRateLimit(pool: pg.Pool, options: { name: string; points: number; seconds: number }): RateLimit {
  const { name: keyPrefix, points, seconds: duration } = options;
  const limiter = new RateLimiterPostgres({
    // The limiter subtracts numbers from `expire`; our pool gives bigints for int8, the standard parsers do not.
    storeClient: { query: (query: pg.QueryConfig) => pool.query({ ...query, types: pg.types }) },
    storeType: 'pool',
    tableName: 'rate_limits',
    tableCreated: true,
    clearExpiredByTimeout: true,
    keyPrefix,
    points,
    duration,
    inMemoryBlockOnConsumed: points,
    inMemoryBlockDuration: duration,
    insuranceLimiter: new RateLimiterMemory({ keyPrefix, points, duration }),
  });
  return {
    async take(key) {
      try {
        await limiter.consume(key);
        return null;
      } catch (refusal) {
        if (refusal instanceof Error) throw refusal;
        return Math.max(1, (refusal as RateLimiterRes).msBeforeNext);
      }
    },
  };
}
