import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextBid, openingBid, purchasePrice } from '../../domain/bid.ts';
import { matchesRequirements } from '../../domain/provisioning/match.ts';
import { offer, requirements } from './provisioning/market.ts';

const spot = (floor: bigint) =>
  offer('1', { interruptible: true, floorMicroUsdPerHour: floor, diskMicroUsdPerGibHour: 100n });
const wanted = requirements({ interruptible: true, diskGib: 40, maxPriceMicroUsdPerHour: 300_000n });

describe('an opening bid', () => {
  it('is a little above the floor, and what is asked for where something is', () => {
    expect(openingBid(spot(100_000n), wanted)).toBe(115_000n);
    expect(openingBid(spot(100_000n), { ...wanted, bidMicroUsdPerHour: 200_000n })).toBe(200_000n);
    expect(openingBid(offer('1'), requirements())).toBeNull();
  });

  it('leaves room for the disk within the highest price, and never falls below the floor', () => {
    expect(openingBid(spot(290_000n), wanted)).toBe(296_000n);
    expect(openingBid(spot(299_000n), wanted)).toBe(299_000n);
  });

  it('makes the price of a purchase, with the disk on top', () => {
    expect(purchasePrice(spot(100_000n), wanted)).toBe(119_000n);
    expect(purchasePrice(offer('1'), requirements())).toBe(300_000n);
  });

  it('matches no offer whose floor is above it, and none that would cost too much', () => {
    expect(matchesRequirements(spot(100_000n), { ...wanted, bidMicroUsdPerHour: 100_000n })).toBe(true);
    expect(matchesRequirements(spot(100_001n), { ...wanted, bidMicroUsdPerHour: 100_000n })).toBe(false);
    expect(matchesRequirements(spot(296_000n), wanted)).toBe(true);
    expect(matchesRequirements(spot(296_001n), wanted)).toBe(false);
  });
});

describe('a next bid', () => {
  it('is higher, and never above the highest price with the disk; null where there is no room', () => {
    const price = fc.bigInt({ min: 1_000n, max: 5_000_000n });
    fc.assert(
      fc.property(price, fc.bigInt({ min: 0n, max: 50_000n }), price, (bid, disk, most) => {
        const next = nextBid(bid, disk, most);
        if (next === null) {
          expect(most - disk <= bid).toBe(true);
          return;
        }
        expect(next > bid).toBe(true);
        expect(next + disk <= most).toBe(true);
      }),
    );
    expect(nextBid(100_000n, 4_000n, 300_000n)).toBe(125_000n);
    expect(nextBid(250_000n, 4_000n, 300_000n)).toBe(296_000n);
  });
});
