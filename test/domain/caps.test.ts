import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkCaps, type CapsInput } from '../../domain/caps.ts';

const within: CapsInput = {
  liveInstances: 15,
  burnMicroUsdPerHour: 40_000_000n,
  requestedInstances: 5,
  requestedMaxPrice: 2_000_000n,
  maxInstances: 20,
  maxBurn: 50_000_000n,
};

describe('caps', () => {
  it('may be reached exactly', () => expect(checkCaps(within)).toBeNull());

  it('on instances are exceeded by one', () => {
    const exceeded = checkCaps({ ...within, liveInstances: 16, requestedMaxPrice: 1n });
    expect(exceeded?.detail).toBe(
      '16 live and 5 requested instances are more than the maximum of 20 (MUSTER_MAX_INSTANCES)',
    );
    expect(exceeded?.facts).toMatchObject({
      cap: 'instances',
      liveInstances: 16,
      requestedInstances: 5,
      maxInstances: 20,
    });
  });

  it('on burn are exceeded by a micro-dollar', () => {
    const exceeded = checkCaps({ ...within, burnMicroUsdPerHour: 40_000_001n });
    expect(exceeded?.facts).toMatchObject({
      cap: 'burn',
      burnMicroUsdPerHour: 40_000_001,
      requestedMicroUsdPerHour: 10_000_000,
      maxBurnMicroUsdPerHour: 50_000_000,
    });
    expect(exceeded?.detail).toContain('$40.000001');
  });

  it('that are both exceeded are both named', () => {
    const detail = checkCaps({ ...within, requestedInstances: 100 })?.detail;
    expect(detail).toContain('MUSTER_MAX_INSTANCES');
    expect(detail).toContain('MUSTER_MAX_BURN_USD_PER_HOUR');
  });

  it('hold: what is let through never exceeds one', () => {
    const money = fc.bigInt({ min: 0n, max: 100_000_000n });
    const count = fc.integer({ min: 0, max: 200 });
    fc.assert(
      fc.property(count, money, count, money, count, money, (live, burn, requested, price, maxInstances, maxBurn) => {
        const exceeded = checkCaps({
          liveInstances: live,
          burnMicroUsdPerHour: burn,
          requestedInstances: requested,
          requestedMaxPrice: price,
          maxInstances,
          maxBurn,
        });
        const fits = live + requested <= maxInstances && burn + price * BigInt(requested) <= maxBurn;
        expect(exceeded === null).toBe(fits);
      }),
    );
  });
});
