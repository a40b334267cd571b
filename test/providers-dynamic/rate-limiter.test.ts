import { describe, expect, it } from 'vitest';
import { createRateLimiter } from '../../providers-dynamic/rate-limiter.ts';

/** Resolution of timers, and then some. */
const EARLY_MS = 3;

describe('the in-process rate limiter', () => {
  it('spaces the calls of one endpoint in the order of asking, and leaves other endpoints alone', async () => {
    const limiter = createRateLimiter({ vastai: { create: 0.05 } });
    const startedAt = performance.now();
    const turns: [number, number][] = [];
    await Promise.all(
      [0, 1, 2].map(async (index) => {
        await limiter.acquire('vastai', 'create');
        turns.push([index, performance.now() - startedAt]);
      }),
    );
    expect(turns.map(([index]) => index)).toEqual([0, 1, 2]);
    expect(turns[1]?.[1]).toBeGreaterThanOrEqual(50 - EARLY_MS);
    expect(turns[2]?.[1]).toBeGreaterThanOrEqual(100 - EARLY_MS);
    const before = performance.now();
    await Promise.all([limiter.acquire('vastai', 'unlisted'), limiter.acquire('vastai', 'unlisted')]);
    expect(performance.now() - before).toBeLessThan(40);
  });

  it('lets an aborted caller leave without costing the next one a turn', async () => {
    const limiter = createRateLimiter({ vastai: { create: 0.05 } });
    await limiter.acquire('vastai', 'create');
    const controller = new AbortController();
    const startedAt = performance.now();
    const left = limiter.acquire('vastai', 'create', controller.signal);
    const stays = limiter.acquire('vastai', 'create');
    controller.abort();
    await expect(left).rejects.toMatchObject({ kind: 'canceled' });
    await stays;
    expect(performance.now() - startedAt).toBeLessThan(95);
    await expect(limiter.acquire('vastai', 'create', AbortSignal.abort())).rejects.toMatchObject({ kind: 'canceled' });
  });

  it('holds back everybody, those who wait already too, after a slow-down', async () => {
    const limiter = createRateLimiter({});
    const startedAt = performance.now();
    await limiter.slowDown('vastai', 'list', 60);
    await limiter.slowDown('vastai', 'list', 10);
    await limiter.acquire('vastai', 'list');
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(60 - EARLY_MS);
  });
});
