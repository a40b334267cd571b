import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalGpuKey, priceWithDisk } from '../../domain/offer.ts';
import { offer } from './provisioning/market.ts';

describe('the price with disk', () => {
  it('is the listed one up to the disk it was listed with', () => {
    for (const disk of [1, 39.5, 40]) expect(priceWithDisk(offer('1'), disk)).toBe(300_000n);
  });

  it('has every further GiB added, parts of one counted whole', () => {
    expect(priceWithDisk(offer('1'), 50)).toBe(302_000n);
    expect(priceWithDisk(offer('1'), 40.1)).toBe(300_200n);
  });

  it('of a bid is the floor and the whole disk', () => {
    const bid = offer('1', { interruptible: true, floorMicroUsdPerHour: 100_000n });
    expect(priceWithDisk(bid, 50)).toBe(110_000n);
  });

  it('never falls when more disk is wanted', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2000 }),
        fc.integer({ min: 0, max: 2000 }),
        fc.boolean(),
        (disk, more, interruptible) => {
          const one = offer('1', { interruptible, floorMicroUsdPerHour: 90_000n });
          expect(priceWithDisk(one, disk + more) >= priceWithDisk(one, disk)).toBe(true);
        },
      ),
    );
  });
});

describe('GPU keys', () => {
  it.each(['rtx_4090', 'RTX-4090', ' NVIDIA GeForce RTX 4090', 'rtx  4090'])('%j is RTX 4090', (name) =>
    expect(canonicalGpuKey(name)).toBe(canonicalGpuKey('RTX 4090')),
  );

  it('tell models apart', () => {
    const keys = ['RTX 4090', 'RTX 4090 D', 'RTX 4080', 'H100 SXM', 'H100 PCIE', 'A100 SXM4'].map(canonicalGpuKey);
    expect(new Set(keys).size).toBe(keys.length);
  });
});
