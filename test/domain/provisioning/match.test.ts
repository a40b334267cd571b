import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Offer, OfferRequirements } from '../../../domain/offer.ts';
import { explainNoMatch, matchesRequirements, sortOut, type Market } from '../../../domain/provisioning/match.ts';
import { newMachineRecord } from '../../support/machine-record.ts';
import { anyOffers, NOW, offer, requirements } from './market.ts';

function market(over: Partial<Market> = {}): Market {
  return {
    requirements: requirements(),
    offers: [offer('1')],
    machines: [],
    reserved: new Set(),
    used: new Set(),
    bootTimeoutMs: 900_000,
    now: NOW,
    ...over,
  };
}

describe('an offer', () => {
  const cases: [string, Partial<Offer>, Partial<OfferRequirements>, boolean][] = [
    ['of the same GPU in another spelling', { gpu: 'RTX 4090' }, { gpu: 'nvidia_geforce_rtx_4090' }, true],
    ['of another GPU', { gpu: 'RTX 3090' }, {}, false],
    ['with more GPUs than asked for', { gpuCount: 2 }, {}, false],
    ['with exactly the memory', {}, { minGpuMemoryGib: 24 }, true],
    ['with less memory', {}, { minGpuMemoryGib: 25 }, false],
    ['with unknown memory, where some is asked for', { gpuMemoryGib: null }, { minGpuMemoryGib: 1 }, false],
    ['with unknown memory, where none is', { gpuMemoryGib: null }, {}, true],
    ['of a wanted provider', {}, { providers: ['vastai'] }, true],
    ['at exactly the maximum price', {}, { maxPriceMicroUsdPerHour: 300_000n }, true],
    ['a micro-dollar dearer', {}, { maxPriceMicroUsdPerHour: 299_999n }, false],
    ['too dear with the wanted disk', {}, { maxPriceMicroUsdPerHour: 300_000n, diskGib: 41 }, false],
    ['with exactly the disk', {}, { diskGib: 500 }, true],
    ['with less disk', {}, { diskGib: 501 }, false],
    ['with unknown disk', { diskGib: null }, { diskGib: 501 }, true],
    ['in a wanted region', {}, { regions: ['US', 'se'] }, true],
    ['elsewhere', {}, { regions: ['US'] }, false],
    ['nobody knows where', { region: null }, { regions: ['US'] }, false],
    ['with exactly the reliability', {}, { minReliability: 0.99 }, true],
    ['less reliable', {}, { minReliability: 0.991 }, false],
    ['of unknown reliability', { reliability: null }, { minReliability: 0.1 }, false],
    ['only interruptible', { interruptible: true }, {}, false],
    ['interruptible as wanted', { interruptible: true, floorMicroUsdPerHour: 1n }, { interruptible: true }, true],
    ['not interruptible', {}, { interruptible: true }, false],
  ];
  it.each(cases)('%s', (_, over, wanted, expected) => {
    expect(matchesRequirements(offer('1', over), requirements(wanted))).toBe(expected);
  });
});

describe('the market', () => {
  it('has no denylisted, used or reserved machine or offer left, nor one that ends too soon', () => {
    const denylisted = { ...newMachineRecord('vastai', 'm2'), denylistedUntil: NOW + 1 };
    const pardoned = { ...newMachineRecord('vastai', 'm1'), denylistedUntil: NOW };
    const { fitting, tally } = sortOut(
      market({
        offers: ['1', '2', '3', '4', '5', '6'].map((id) => offer(id, { maxDurationSeconds: id === '6' ? 899 : 900 })),
        machines: [pardoned, denylisted],
        used: new Set(['vastai/machine/m3']),
        reserved: new Set(['vastai/4', 'vastai/machine/m5']),
      }),
    );
    expect(fitting.map((one) => one.providerOfferId)).toEqual(['1']);
    expect(tally).toMatchObject({ seen: 6, excluded: { denylisted: 1, used: 1, reserved: 2, ends_too_soon: 1 } });
  });

  it('counts every offer once: as fitting or under one rule', () => {
    fc.assert(
      fc.property(anyOffers, fc.bigInt({ min: 0n, max: 900_000n }), (offers, maxPriceMicroUsdPerHour) => {
        const { fitting, tally } = sortOut(market({ offers, requirements: requirements({ maxPriceMicroUsdPerHour }) }));
        const excluded = Object.values(tally.excluded).reduce((sum, count) => sum + count, 0);
        expect(fitting.length + excluded).toBe(offers.length);
      }),
    );
  });

  it('explains to a person why nothing fits, with numbers', () => {
    const offers = [
      offer('1', { gpu: 'RTX 3090' }),
      offer('2', { gpu: 'RTX 3090' }),
      offer('3', { priceMicroUsdPerHour: 720_000n }),
      offer('4', { priceMicroUsdPerHour: 650_000n }),
      offer('5', { region: 'CN' }),
    ];
    const wanted = requirements({ regions: ['SE', 'US'] });
    const { tally } = sortOut(market({ offers, requirements: wanted }));
    expect(explainNoMatch(tally, wanted)).toBe(
      '5 offers were seen and none can be bought: 2 of another GPU model than RTX 4090, 1 outside SE, US, 2 over $0.60 an hour (cheapest $0.65).',
    );
    expect(explainNoMatch({ seen: 0, excluded: {}, cheapestTooDear: null }, wanted)).toBe(
      'No offers of 1 × RTX 4090 are listed.',
    );
  });
});
