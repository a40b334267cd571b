import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  interruptionRate,
  MIN_VOLATILITY_HOURS,
  savingBasisPoints,
  volatilityBasisPoints,
} from '../../domain/spot-market.ts';

const price = fc.bigInt({ min: 1n, max: 100_000_000n });

describe('the saving of an interruptible machine', () => {
  it.each([
    [300_000n, 400_000n, 2_500],
    [400_000n, 400_000n, 0],
    [500_000n, 400_000n, -2_500],
    [1n, 3n, 6_666],
    [2n, 3n, 3_333],
    [4n, 3n, -3_334],
    [null, 400_000n, null],
    [300_000n, null, null],
    [300_000n, 0n, null],
  ])('of %s instead of %s is %s basis points', (interruptible, onDemand, expected) => {
    expect(savingBasisPoints(interruptible, onDemand)).toBe(expected);
  });

  it('is never stated too high', () => {
    fc.assert(
      fc.property(price, price, (interruptible, onDemand) => {
        const saving = BigInt(savingBasisPoints(interruptible, onDemand) as number);
        expect(saving * onDemand <= (onDemand - interruptible) * 10_000n).toBe(true);
      }),
    );
  });
});

describe('volatility', () => {
  it('is unknown over too few hours, nothing for a price that never moved, and a share of the mean', () => {
    const hours = (values: bigint[]) => Array.from({ length: 24 }, (_, hour) => values[hour % values.length] as bigint);
    expect(volatilityBasisPoints(hours([5n]).slice(0, MIN_VOLATILITY_HOURS - 1))).toBeNull();
    expect(volatilityBasisPoints(hours([300_000n]))).toBe(0);
    expect(volatilityBasisPoints(hours([90_000n, 110_000n]))).toBe(1_000);
  });

  it('does not depend on the unit of money', () => {
    fc.assert(
      fc.property(fc.array(price, { minLength: MIN_VOLATILITY_HOURS }), (floors) => {
        expect(volatilityBasisPoints(floors.map((floor) => floor * 1_000n))).toBeCloseTo(
          volatilityBasisPoints(floors) as number,
          -0.5,
        );
      }),
    );
  });
});

it('interruptions are counted for each hour that machines ran, and unknown where none did', () => {
  expect(interruptionRate(0, 0)).toBeNull();
  expect(interruptionRate(0, 3)).toBe(0);
  expect(interruptionRate(1, 48)).toBe(0.020833);
});
