import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Offer } from '../../domain/offer.ts';
import { changedFloors, measureFloors, type KnownFloor } from '../../domain/price-floor.ts';
import { makeOffer } from '../support/fleet-database.ts';

describe('the floor of a class', () => {
  it('is the lowest price of one GPU with the listed disk, over all counts', () => {
    const floors = measureFloors([
      makeOffer(1, { priceMicroUsdPerHour: 400_000n }),
      makeOffer(2, { priceMicroUsdPerHour: 1_000_000n, gpuCount: 3 }),
      makeOffer(3, { priceMicroUsdPerHour: 900_000n, gpu: 'rtx_4090' }),
    ]);
    expect(floors).toEqual([
      {
        gpuKey: 'rtx 4090',
        gpu: 'RTX 4090',
        interruptible: false,
        floorMicroUsdPerGpuHour: 333_334n,
        medianMicroUsdPerGpuHour: 400_000n,
        offers: 3,
      },
    ]);
  });

  it('of interruptible rentals is of its own, and includes the whole disk', () => {
    const floors = measureFloors([
      makeOffer(1, { floorMicroUsdPerHour: 100_000n, diskMicroUsdPerGibHour: 100n, pricedDiskGib: 40 }),
    ]);
    expect(floors.map((floor) => [floor.interruptible, floor.floorMicroUsdPerGpuHour])).toEqual([
      [false, 350_000n],
      [true, 104_000n],
    ]);
  });
});

describe('the change of a floor', () => {
  const known: KnownFloor[] = [
    { gpuKey: 'rtx 4090', gpu: 'RTX 4090', interruptible: false, floorMicroUsdPerGpuHour: 300_000n },
    { gpuKey: 'h100', gpu: 'H100', interruptible: false, floorMicroUsdPerGpuHour: 2_000_000n },
    { gpuKey: 'a100', gpu: 'A100', interruptible: false, floorMicroUsdPerGpuHour: null },
  ];

  it('is a new price, a class that is new, and one of which a believable listing has none any more', () => {
    const measured = measureFloors([makeOffer(1), makeOffer(2, { gpu: 'L40S' })]);
    expect(changedFloors(known, measured)).toMatchObject([
      { gpuKey: 'rtx 4090', previousMicroUsdPerGpuHour: 300_000n, floorMicroUsdPerGpuHour: 350_000n },
      { gpuKey: 'l40s', previousMicroUsdPerGpuHour: null, floorMicroUsdPerGpuHour: 350_000n },
      { gpuKey: 'h100', previousMicroUsdPerGpuHour: 2_000_000n, floorMicroUsdPerGpuHour: null },
    ]);
  });

  it('is none when the same listing comes again, whatever was known before', () => {
    const offer: fc.Arbitrary<Offer> = fc
      .record({
        gpu: fc.constantFrom('RTX 4090', 'H100 SXM', 'A100'),
        gpuCount: fc.integer({ min: 1, max: 8 }),
        priceMicroUsdPerHour: fc.bigInt({ min: 1n, max: 9_000_000n }),
        floorMicroUsdPerHour: fc.option(fc.bigInt({ min: 1n, max: 9_000_000n })),
      })
      .map((change) => makeOffer(1, change));
    fc.assert(
      fc.property(fc.array(offer), fc.array(offer), (before, now) => {
        const earlier = measureFloors(before);
        const measured = measureFloors(now);
        const state = new Map<string, KnownFloor>(
          earlier.map((floor) => [`${floor.gpuKey}/${floor.interruptible}`, floor] as const),
        );
        for (const change of changedFloors(earlier, measured)) {
          expect(change.floorMicroUsdPerGpuHour).not.toBe(change.previousMicroUsdPerGpuHour);
          state.set(`${change.gpuKey}/${change.interruptible}`, change);
        }
        expect(changedFloors([...state.values()], measured)).toEqual([]);
        // What was applied is what is offered now: nothing more, nothing less.
        const open = [...state.values()].filter((floor) => floor.floorMicroUsdPerGpuHour !== null);
        expect(open).toHaveLength(measured.length);
      }),
    );
  });
});
