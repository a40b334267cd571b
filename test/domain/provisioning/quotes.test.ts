import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareQuotes, quotedCeiling, type Quote } from '../../../domain/provisioning/quotes.ts';
import { NOW } from './market.ts';

const quote = (id: string, price: bigint, isFirstChoice = true): Quote => ({
  id: `quo_${id}`,
  provider: 'vastai',
  providerOfferId: id,
  machineId: null,
  priceMicroUsdPerHour: price,
  isFirstChoice,
});
const prices = (all: Record<string, bigint>) =>
  new Map(Object.entries(all).map(([id, price]) => [`vastai/${id}`, price]));
const at = { tolerancePercent: 2, expiresAt: NOW + 1, now: NOW };

describe('the quotes of a plan', () => {
  it('hold while nothing differs', () => {
    expect(compareQuotes([quote('1', 300_000n)], prices({ 1: 300_000n, 2: 1n }), at)).toEqual([]);
  });

  it('refuse it when a first choice rose by more than the tolerance, and not by exactly that', () => {
    const moved = (now: bigint) => compareQuotes([quote('1', 300_000n)], prices({ 1: now }), at);
    expect(moved(306_000n)).toMatchObject([{ kind: 'price_moved', movedPercent: 2, isRefusing: false }]);
    expect(moved(306_001n)).toMatchObject([{ kind: 'price_moved', isRefusing: true, nowMicroUsdPerHour: 306_001n }]);
    expect(moved(100_000n)).toMatchObject([{ kind: 'price_moved', movedPercent: -66.66, isRefusing: false }]);
  });

  it('refuse it when a first choice vanished, and tell of the others without refusing', () => {
    const quotes = [quote('1', 300_000n), quote('2', 310_000n, false), quote('3', 320_000n, false)];
    const differences = compareQuotes(quotes, prices({ 3: 400_000n }), at);
    expect(differences.map(({ quote: { providerOfferId: id }, kind, isRefusing }) => [id, kind, isRefusing])).toEqual([
      ['1', 'vanished', true],
      ['2', 'vanished', false],
      ['3', 'price_moved', false],
    ]);
  });

  it('refuse it when their time is over, whatever the market', () => {
    const late = compareQuotes([quote('1', 1n), quote('2', 1n, false)], prices({ 1: 1n, 2: 1n }), {
      ...at,
      now: NOW + 1,
    });
    expect(late).toMatchObject([
      { kind: 'expired', isRefusing: true },
      { kind: 'expired', isRefusing: true },
    ]);
  });

  const anyPrice = fc.bigInt({ min: 0n, max: 5_000_000n });
  const anyQuotes = fc
    .array(fc.record({ price: anyPrice, isFirst: fc.boolean(), now: fc.option(anyPrice) }), { maxLength: 12 })
    .map((rows) => ({
      quotes: rows.map((row, index) => quote(String(index), row.price, row.isFirst)),
      market: new Map<string, bigint>(
        rows.flatMap((row, index) => (row.now === null ? [] : [[`vastai/${index}`, row.now] as const])),
      ),
    }));
  const anyTolerance = fc.integer({ min: 0, max: 10_000 }).map((points) => points / 100);

  it('let through only what costs no more than quoted and its tolerance; more tolerance refuses no more', () => {
    fc.assert(
      fc.property(anyQuotes, anyTolerance, anyTolerance, ({ quotes, market }, tolerancePercent, more) => {
        const differences = compareQuotes(quotes, market, { ...at, tolerancePercent });
        const refusing = differences.filter((one) => one.isRefusing);
        for (const one of quotes.filter(({ isFirstChoice }) => isFirstChoice)) {
          const now = market.get(`vastai/${one.providerOfferId}`);
          const isFine =
            now !== undefined &&
            now * 10_000n <= one.priceMicroUsdPerHour * BigInt(10_000 + Math.round(tolerancePercent * 100));
          expect(refusing.some(({ quote: { id } }) => id === one.id)).toBe(!isFine);
        }
        const wider = compareQuotes(quotes, market, {
          ...at,
          tolerancePercent: Math.min(100, tolerancePercent + more),
        });
        expect(wider.filter((one) => one.isRefusing).length).toBeLessThanOrEqual(refusing.length);
        expect(wider).toHaveLength(differences.length);
      }),
    );
  });

  it("bound the price of what is bought: at least every quote, never above the request's maximum", () => {
    expect(quotedCeiling([], 2, 1n)).toBeNull();
    expect(quotedCeiling([quote('1', 300_000n), quote('2', 400_000n, false)], 2, 600_000n)).toBe(408_000n);
    fc.assert(
      fc.property(anyQuotes, anyTolerance, anyPrice, ({ quotes }, tolerancePercent, maximum) => {
        const ceiling = quotedCeiling(quotes, tolerancePercent, maximum);
        if (ceiling === null) return;
        expect(ceiling <= maximum).toBe(true);
        const reachable = quotes.filter(({ priceMicroUsdPerHour: price }) => price <= maximum);
        for (const { priceMicroUsdPerHour: price } of reachable) expect(price <= ceiling).toBe(true);
      }),
    );
  });
});
