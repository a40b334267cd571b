import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { accrue } from '../../domain/money.ts';
import {
  EVER,
  meterLife,
  priceCharged,
  unprovenCost,
  usageCost,
  type BilledLife,
  type UsageInterval,
} from '../../domain/usage.ts';

const HOUR = 3_600_000;
const life = (change: Partial<BilledLife> = {}): BilledLife => ({
  purchasedAt: 1_000,
  goneAt: null,
  provenAt: null,
  priceMicroUsdPerHour: 400_000n,
  priceChanges: [],
  ...change,
});
const cost = (intervals: UsageInterval[], asOf: number, period = EVER) =>
  intervals.reduce((sum, interval) => sum + usageCost(interval, period, asOf), 0n);

const moment = fc.integer({ min: 0, max: 40 * 86_400_000 });
const price = fc.bigInt({ min: 0n, max: 50_000_000n });
const lives: fc.Arbitrary<BilledLife> = fc
  .record({
    purchasedAt: moment,
    goneAfter: fc.option(moment),
    provenAt: fc.option(moment),
    priceMicroUsdPerHour: price,
    priceChanges: fc.array(fc.record({ at: moment, priceMicroUsdPerHour: price }), { maxLength: 8 }),
  })
  .map(({ goneAfter, ...rest }) => ({ ...rest, goneAt: goneAfter === null ? null : rest.purchasedAt + goneAfter }));

describe('metering a life', () => {
  it('is one open interval from the purchase on while nothing is known to change', () => {
    expect(meterLife(life({ provenAt: 5_000 }), 9_000)).toEqual([
      { from: 1_000, to: 9_000, provenUntil: 5_000, priceMicroUsdPerHour: 400_000n, isOpen: true },
    ]);
  });

  it('goes on charging what is not seen any more, until the provider says not-found', () => {
    const unseen = meterLife(life({ provenAt: 2_000 }), 1_000 + HOUR);
    expect(cost(unseen, 1_000 + HOUR)).toBe(400_000n);
    expect(unprovenCost(unseen[0] as UsageInterval, EVER, 1_000 + HOUR)).toBe(400_000n - accrue(400_000n, 1_000));
    const gone = meterLife(life({ provenAt: 2_000, goneAt: 1_000 + HOUR }), 9 * HOUR);
    expect(gone).toEqual([
      { from: 1_000, to: 1_000 + HOUR, provenUntil: 2_000, priceMicroUsdPerHour: 400_000n, isOpen: false },
    ]);
    expect(cost(gone, 9 * HOUR)).toBe(400_000n);
  });

  it('closes at a changed price and opens at it; the same price changes nothing', () => {
    const intervals = meterLife(
      life({
        provenAt: 8_000,
        priceChanges: [
          { at: 6_000, priceMicroUsdPerHour: 40_000n },
          { at: 3_000, priceMicroUsdPerHour: 400_000n },
        ],
      }),
      9_000,
    );
    expect(intervals).toEqual([
      { from: 1_000, to: 6_000, provenUntil: 6_000, priceMicroUsdPerHour: 400_000n, isOpen: false },
      { from: 6_000, to: 9_000, provenUntil: 8_000, priceMicroUsdPerHour: 40_000n, isOpen: true },
    ]);
  });

  it('has no gap, no overlap and one end, whatever the facts', () => {
    fc.assert(
      fc.property(lives, moment, (facts, now) => {
        const intervals = meterLife(facts, now);
        const end = Math.max(facts.purchasedAt, facts.goneAt ?? now);
        let at = facts.purchasedAt;
        for (const interval of intervals) {
          expect(interval.from).toBe(at);
          expect(interval.to).toBeGreaterThanOrEqual(interval.from);
          if (!interval.isOpen) expect(interval.to).toBeGreaterThan(interval.from);
          expect(interval.provenUntil).toBeGreaterThanOrEqual(interval.from);
          expect(interval.provenUntil).toBeLessThanOrEqual(interval.to);
          at = interval.to;
        }
        expect(at).toBe(end);
        expect(intervals.filter((interval) => interval.isOpen).length).toBe(facts.goneAt === null ? 1 : 0);
        expect(new Set(intervals.map((interval) => interval.from)).size).toBe(intervals.length);
      }),
    );
  });

  it('keeps what was closed when it meters again later with more facts', () => {
    fc.assert(
      fc.property(lives, fc.tuple(moment, moment, moment), price, (facts, moments, next) => {
        const [first, change, last] = moments.toSorted((a, b) => a - b) as [number, number, number];
        const known = facts.priceChanges.filter(({ at }) => at <= first);
        const before = meterLife({ ...facts, goneAt: null, priceChanges: known }, first);
        const more = [...known, { at: change, priceMicroUsdPerHour: next }];
        const after = meterLife({ ...facts, goneAt: null, priceChanges: more }, last);
        for (const closed of before.filter((interval) => !interval.isOpen && interval.to < change)) {
          expect(after).toContainEqual(closed);
        }
      }),
    );
  });

  it('costs the same however the time is cut, and what is proven and unproven are all of it', () => {
    fc.assert(
      fc.property(lives, moment, fc.array(moment, { maxLength: 6 }), (facts, now, cuts) => {
        const intervals = meterLife(facts, now);
        const marks = [-Infinity, ...cuts.toSorted((a, b) => a - b), Infinity];
        const parts = marks.slice(1).map((to, index) => cost(intervals, now, { from: marks[index] as number, to }));
        const whole = cost(intervals, now);
        expect(parts.reduce((sum, part) => sum + part, 0n)).toBe(whole);
        for (const interval of intervals) {
          const unproven = unprovenCost(interval, EVER, now);
          const proven = usageCost(interval, { from: -Infinity, to: interval.provenUntil }, now);
          expect(proven + unproven).toBe(usageCost(interval, EVER, now));
          expect(unproven).toBeGreaterThanOrEqual(0n);
        }
      }),
    );
  });

  it('never costs less as time goes on', () => {
    fc.assert(
      fc.property(lives, fc.tuple(moment, moment), (facts, moments) => {
        const [first, second] = moments.toSorted((a, b) => a - b) as [number, number];
        const before = meterLife({ ...facts, goneAt: null, priceChanges: [] }, first);
        expect(cost(before, second)).toBeGreaterThanOrEqual(cost(before, first));
        // The stored open interval, read later, is what metering then would have stored.
        expect(cost(before, Math.max(second, facts.purchasedAt))).toBe(
          cost(meterLife({ ...facts, goneAt: null, priceChanges: [] }, second), Math.max(second, facts.purchasedAt)),
        );
      }),
    );
  });
});

describe('the price charged', () => {
  it.each([
    ['running', 300_000n, 300_000n],
    ['stopped', 9_000n, 9_000n],
    ['stopped', 0n, 0n],
    ['running', 0n, null],
    ['starting', null, null],
    ['unknown', 300_000n, null],
  ] as const)('of a machine listed %s at %s is %s', (status, listed, charged) => {
    expect(priceCharged({ status, priceMicroUsdPerHour: listed })).toBe(charged);
  });
});
