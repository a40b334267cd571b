import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase, type Database } from '../../db/database.ts';
import { createSharedRateLimiter, type SharedRateLimiter } from '../../db/provider-rate-limiter.ts';
import { createFleetDatabase, until, type FleetDatabase } from '../support/fleet-database.ts';

/** Long enough that no booked moment comes while a test runs. */
const SPACING_S = 3_600;
const LIMITS = { vastai: { create: SPACING_S, list: 0 } };

let fleet: FleetDatabase;
let otherProcess: Database;
let limiters: SharedRateLimiter[];
beforeAll(async () => {
  fleet = await createFleetDatabase();
  otherProcess = openDatabase({ url: fleet.url, applicationName: 'other-process' });
  limiters = [createSharedRateLimiter(fleet.db, LIMITS), createSharedRateLimiter(otherProcess.kysely, LIMITS)];
});
beforeEach(async () => {
  await fleet.db.deleteFrom('provider_rate_limits').execute();
});
afterAll(async () => {
  await otherProcess?.close();
  await fleet?.close();
});

describe('the shared rate limiter', () => {
  it('books one moment per call, each a spacing after the last, whichever process asks', async () => {
    const startedAt = Date.now();
    const abort = new AbortController();
    await limiters[0]?.acquire('vastai', 'create');
    const waiting = Array.from({ length: 9 }, (_, index) =>
      limiters[index % 2]?.acquire('vastai', 'create', abort.signal).catch((error: unknown) => error),
    );
    // Ten calls: the last one's moment is nine spacings from now, and the next free one ten.
    const nextAt = await until(async () => {
      const at = await readNextAt('create');
      return at - startedAt > 9.5 * SPACING_S * 1000 && at;
    }, 'ten bookings');
    expect(nextAt - startedAt).toBeGreaterThanOrEqual(10 * SPACING_S * 1000 - 1_000);
    expect(nextAt - startedAt).toBeLessThan(10 * SPACING_S * 1000 + 10_000);
    abort.abort();
    for (const call of waiting) expect(await call).toMatchObject({ kind: 'canceled' });
  });

  it('lets the first call after a pause pass at once: moments that nobody took are not saved up', async () => {
    await limiters[0]?.acquire('vastai', 'create');
    await fleet.passTime(10 * SPACING_S * 1000);
    await limiters[1]?.acquire('vastai', 'create');
    expect((await readNextAt('create')) - Date.now()).toBeGreaterThan(SPACING_S * 1000 - 10_000);
  });

  it('does not touch the database for an endpoint without a limit', async () => {
    await limiters[0]?.acquire('vastai', 'list');
    await limiters[0]?.acquire('vastai', 'never heard of');
    expect(await fleet.db.selectFrom('provider_rate_limits').selectAll().execute()).toEqual([]);
  });

  it('pushes everybody behind what the vendor asked for, and never brings a moment forward', async () => {
    await limiters[0]?.slowDown('vastai', 'create', 7_200_000);
    await limiters[1]?.slowDown('vastai', 'create', 1_000);
    const at = await readNextAt('create');
    expect(at - Date.now()).toBeGreaterThan(7_190_000);
    const abort = new AbortController();
    const waiting = limiters[1]?.acquire('vastai', 'create', abort.signal);
    await until(async () => (await readNextAt('create')) > at, 'the booking');
    expect((await readNextAt('create')) - at).toBe(SPACING_S * 1000);
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ kind: 'canceled' });
  });

  it('spaces each endpoint by itself', async () => {
    await limiters[0]?.acquire('vastai', 'create');
    await limiters[0]?.slowDown('vastai', 'list', 60_000);
    expect((await readNextAt('list')) - Date.now()).toBeLessThan(61_000);
    expect((await readNextAt('create')) - Date.now()).toBeGreaterThan(SPACING_S * 1000 - 10_000);
  });
});

async function readNextAt(endpoint: string): Promise<number> {
  const row = await fleet.db
    .selectFrom('provider_rate_limits')
    .select('next_at')
    .where('endpoint', '=', endpoint)
    .executeTakeFirst();
  return row?.next_at.getTime() ?? 0;
}
