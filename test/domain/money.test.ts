import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { accrue, formatUsd, microUsdFromVendorFloat, parseUsd, per30Days } from '../../domain/money.ts';

const amounts = fc.bigInt({ min: 0n, max: 999_999_999_000_000n });

describe('dollars as text', () => {
  it('come back as what they were', () => {
    fc.assert(
      fc.property(amounts, (amount) => {
        expect(parseUsd(formatUsd(amount))).toBe(amount);
      }),
    );
  });

  it.each([
    ['0.60', 600_000n],
    ['0', 0n],
    ['12', 12_000_000n],
    ['0.000001', 1n],
  ])('%s is read exactly', (text, amount) => expect(parseUsd(text)).toBe(amount));

  it.each(['', '-1', '1.', '.5', '0.1234567', '1e3', '1,5', ' 1', '1 ', 'NaN', '1234567890', '0x10'])(
    '%j is refused',
    (text) => expect(parseUsd(text)).toBeNull(),
  );

  it('keeps two decimals and cuts other zeros', () => {
    expect(formatUsd(600_000n)).toBe('0.60');
    expect(formatUsd(1_234_567n)).toBe('1.234567');
    expect(formatUsd(1_230_000n)).toBe('1.23');
    expect(formatUsd(-1_500_000n)).toBe('-1.50');
  });
});

describe("a vendor's float", () => {
  it('is never rounded below what it says', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1000, noNaN: true }), (dollars) => {
        const micro = microUsdFromVendorFloat(dollars) as bigint;
        expect(Number(micro)).toBeGreaterThanOrEqual(dollars * 1e6 - 0.001);
        expect(Number(micro)).toBeLessThan(dollars * 1e6 + 1.001);
      }),
    );
  });

  it('has its float noise ignored', () => expect(microUsdFromVendorFloat(0.1 + 0.2)).toBe(300_000n));

  it.each([Number.NaN, Infinity, -0.1, '0.3', null, undefined, 1e12])('%s is no price', (value) =>
    expect(microUsdFromVendorFloat(value)).toBeNull(),
  );
});

describe('accrual', () => {
  it('never exceeds the exact amount, and two parts never exceed the whole', () => {
    const durations = fc.integer({ min: 0, max: 1_000_000_000 });
    fc.assert(
      fc.property(amounts, durations, durations, (price, a, b) => {
        expect(accrue(price, a) * 3_600_000n <= price * BigInt(a)).toBe(true);
        expect(accrue(price, a) + accrue(price, b) <= accrue(price, a + b)).toBe(true);
      }),
    );
  });

  it('of an hour is the price, of nothing and less is nothing', () => {
    expect(accrue(300_001n, 3_600_000)).toBe(300_001n);
    expect(accrue(300_001n, 0)).toBe(0n);
    expect(accrue(300_001n, -5)).toBe(0n);
    expect(accrue(300_001n, Number.NaN)).toBe(0n);
  });

  it('of 30 days is 720 hours', () => expect(per30Days(1_000n)).toBe(720_000n));
});
