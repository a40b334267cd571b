import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HIBERNATION_STATUSES, isOpenHibernation, sumSavings, type Sleep } from '../../domain/hibernation.ts';
import { EVER } from '../../domain/usage.ts';

const HOUR = 3_600_000;
const NIGHT: Sleep = { sleptAt: 0, endedAt: 10 * HOUR, priceMicroUsdPerHour: 400_000n, storageMicroUsdPerHour: 300n };

describe('what a sleep saves', () => {
  it('is what its machine would have cost, less what its files cost', () => {
    expect(sumSavings([NIGHT], EVER, 24 * HOUR)).toEqual({
      asleepMs: 10 * HOUR,
      avoidedMicroUsd: 4_000_000n,
      storageMicroUsd: 3_000n,
      savedMicroUsd: 3_997_000n,
    });
  });

  it('goes on while it sleeps, and is less than nothing where the files are dearer', () => {
    const asleep = { ...NIGHT, endedAt: null, priceMicroUsdPerHour: 100n };
    expect(sumSavings([asleep], EVER, 2 * HOUR)).toMatchObject({ asleepMs: 2 * HOUR, savedMicroUsd: -400n });
  });

  it('is nothing before it slept, or outside the period', () => {
    expect(sumSavings([NIGHT], EVER, 0).asleepMs).toBe(0);
    expect(sumSavings([NIGHT], { from: 11 * HOUR, to: 12 * HOUR }, 24 * HOUR).avoidedMicroUsd).toBe(0n);
    expect(sumSavings([NIGHT], { from: 8 * HOUR, to: 12 * HOUR }, 24 * HOUR).asleepMs).toBe(2 * HOUR);
  });

  it('adds up over adjacent periods, to the micro-dollar of each rounding', () => {
    const sleep = fc.record({
      sleptAt: fc.integer({ min: 0, max: 100 * HOUR }),
      lasts: fc.option(fc.integer({ min: 0, max: 100 * HOUR }), { nil: null }),
      price: fc.bigInt({ min: 0n, max: 10_000_000n }),
    });
    fc.assert(
      fc.property(fc.array(sleep, { maxLength: 6 }), fc.integer({ min: 0, max: 200 * HOUR }), (made, cut) => {
        const sleeps = made.map(({ sleptAt, lasts, price }) => ({
          sleptAt,
          endedAt: lasts === null ? null : sleptAt + lasts,
          priceMicroUsdPerHour: price,
          storageMicroUsdPerHour: 0n,
        }));
        const asOf = 300 * HOUR;
        const whole = sumSavings(sleeps, EVER, asOf);
        const before = sumSavings(sleeps, { from: -Infinity, to: cut }, asOf);
        const after = sumSavings(sleeps, { from: cut, to: Infinity }, asOf);
        expect(before.asleepMs + after.asleepMs).toBe(whole.asleepMs);
        const parts = before.avoidedMicroUsd + after.avoidedMicroUsd;
        expect(parts).toBeLessThanOrEqual(whole.avoidedMicroUsd);
        expect(whole.avoidedMicroUsd - parts).toBeLessThanOrEqual(BigInt(sleeps.length));
      }),
    );
  });
});

describe('a hibernation', () => {
  it('is open until it is woken, failed or ended', () => {
    expect(HIBERNATION_STATUSES.filter((status) => !isOpenHibernation(status))).toEqual(['woken', 'failed', 'ended']);
  });
});
