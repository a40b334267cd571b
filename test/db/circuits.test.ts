import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  claimProbe,
  listCircuits,
  listUnusableProviders,
  recordProviderOutcome,
  resetCircuits,
} from '../../db/circuits.ts';
import { inTransaction } from '../../db/database.ts';
import { readProviderStates } from '../../db/provider-states.ts';
import { recordBelievable, recordQuarantine } from '../../db/providers.ts';
import type { ProviderErrorKind } from '../../domain/provider-error.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterAll(() => fleet?.close());
beforeEach(() => fleet.asOwner('delete from provider_circuits; delete from provider_outcomes'));

async function fail(times: number, errorKind: ProviderErrorKind | null = 'unknown', provider = 'vastai') {
  for (let index = 0; index < times; index++) {
    await recordProviderOutcome(fleet.db, { provider, source: 'purchase', errorKind });
  }
}
const isUsable = async (provider: string) => !(await listUnusableProviders(fleet.db)).has(provider);
const claim = (attemptId: string) => inTransaction(fleet.db, (tx) => claimProbe(tx, 'vastai', attemptId));

describe('circuits in the database', () => {
  it('open for all replicas after failures in a row, and for that provider only', async () => {
    await fail(4);
    expect(await isUsable('vastai')).toBe(true);
    await fail(1);
    expect(await isUsable('vastai')).toBe(false);
    expect(await isUsable('lambda')).toBe(true);
    expect((await listUnusableProviders(fleet.db)).get('vastai')?.reason).toMatch(/5 purchases failed in a row/);
    expect(
      (await readProviderStates(fleet.db)).states.find((one) => one.provider === 'vastai')?.circuit?.reason,
    ).toMatch(/5 p/);
  });

  it('count every outcome once, also when many come at once', async () => {
    await Promise.all(Array.from({ length: 12 }, () => fail(1)));
    expect(await listCircuits(fleet.db)).toMatchObject([
      { provider: 'vastai', source: 'purchase', state: 'open', opens: 1 },
    ]);
  });

  it('let one of several attempts probe, and close when it went well', async () => {
    await fail(1, 'billing');
    expect(await claim('a1')).toBe(false);
    await fleet.passTime(61_000);
    expect(await isUsable('vastai')).toBe(true);
    const claims = await Promise.all(['a1', 'a2', 'a3'].map(claim));
    expect(claims.filter(Boolean)).toHaveLength(1);
    expect(await isUsable('vastai')).toBe(false);
    await fail(1, null);
    expect(await listCircuits(fleet.db)).toMatchObject([{ state: 'closed', opens: 1 }]);
    expect(await claim('a4')).toBe(true);
  });

  it('open for longer when the probe fails', async () => {
    await fail(1, 'auth');
    await fleet.passTime(61_000);
    await claim('a1');
    await fail(1, 'auth');
    await fleet.passTime(61_000);
    expect(await isUsable('vastai')).toBe(false);
    await fleet.passTime(61_000);
    expect(await isUsable('vastai')).toBe(true);
  });

  it('are closed by a person who says that the provider is well', async () => {
    await fail(5);
    await resetCircuits(fleet.db, 'vastai');
    expect(await isUsable('vastai')).toBe(true);
    await fail(4);
    expect(await isUsable('vastai'), 'what was before does not count').toBe(true);
    await fail(1);
    expect(await isUsable('vastai')).toBe(false);
  });

  it('open for a provider whose listings come and go, though each good one ends its quarantine', async () => {
    for (let flap = 0; flap < 3; flap++) {
      expect(await isUsable('vastai')).toBe(true);
      await recordBelievable(fleet.db, 'vastai', { listing: 'offers', count: 50 });
      await recordQuarantine(fleet.db, 'vastai', 'offers', 'quarantined', 'HTTP 502');
    }
    await recordBelievable(fleet.db, 'vastai', { listing: 'offers', count: 50 });
    expect((await listUnusableProviders(fleet.db)).get('vastai')?.reason).toMatch(/come and go/);
    await fleet.passTime(61_000);
    await recordBelievable(fleet.db, 'vastai', { listing: 'offers', count: 50 });
    expect(await isUsable('vastai')).toBe(true);
  });
});
