import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MachineRecord } from '../../../domain/machine-history.ts';
import type { Offer } from '../../../domain/offer.ts';
import { groupByPlace, PRICE_BAND_PERCENT, rankOffers } from '../../../domain/provisioning/rank.ts';
import { newMachineRecord } from '../../support/machine-record.ts';
import { anyOffers, offer, requirements } from './market.ts';

function order(offers: Offer[], over: { machines?: MachineRecord[]; seed?: string } = {}): string[] {
  return rankOffers(offers, { requirements: requirements(), machines: [], seed: 'seed', ...over }).map(
    (one) => one.offer.providerOfferId,
  );
}

const price = (id: string, micro: bigint, over: Partial<Offer> = {}) =>
  offer(id, { priceMicroUsdPerHour: micro, ...over });

describe('ranking', () => {
  it('puts the cheaper band first, whatever the reliability', () => {
    expect(order([price('dear', 330_000n), price('cheap', 300_000n, { reliability: 0.5 })])).toEqual(['cheap', 'dear']);
  });

  it('compares the price with the wanted disk', () => {
    const hungry = price('hungry', 290_000n, { pricedDiskGib: 8, diskMicroUsdPerGibHour: 5_000n });
    expect(order([hungry, price('plain', 300_000n)])).toEqual(['plain', 'hungry']);
  });

  it('within a band puts first what is likelier to become ready, by history, reliability and how far the listing is trusted', () => {
    const offers = [
      price('unreliable', 300_000n, { reliability: 0.7 }),
      price('failed', 301_000n),
      price('unknown', 302_000n),
      price('worked', 303_000n),
      price('doubtful', 304_000n, { confidence: 0.5 }),
    ];
    const machines = [
      { ...newMachineRecord('vastai', 'mfailed'), attempts: 4, successes: 0 },
      { ...newMachineRecord('vastai', 'mworked'), attempts: 4, successes: 4 },
    ];
    for (const seed of ['a', 'b', 'c', 'd']) {
      expect(order(offers, { machines, seed })).toEqual(['worked', 'unknown', 'unreliable', 'doubtful', 'failed']);
    }
  });

  it('takes a provider that fails more often for a worse choice, where nothing else tells', () => {
    const offers = [price('a', 300_000n, { provider: 'lambda' }), price('b', 300_000n, { provider: 'runpod' })];
    const record = { attempts: 20, p50ReadyMs: null, p95ReadyMs: null };
    const ranked = rankOffers(offers, {
      requirements: requirements(),
      machines: [],
      providers: [
        { ...record, provider: 'lambda', successes: 4 },
        { ...record, provider: 'runpod', successes: 18 },
      ],
      seed: 's',
    });
    expect(ranked.map(({ offer: { provider } }) => provider)).toEqual(['runpod', 'lambda']);
  });

  it('sends simultaneous requests to different machines of one band', () => {
    const offers = Array.from({ length: 20 }, (_, index) => price(`o${index}`, 300_000n + BigInt(index) * 1_000n));
    const firsts = new Map<string, number>();
    for (let request = 0; request < 1_000; request += 1) {
      const first = order(offers, { seed: `op_${request}` })[0] as string;
      firsts.set(first, (firsts.get(first) ?? 0) + 1);
    }
    expect(firsts.size).toBe(20);
    expect(Math.max(...firsts.values())).toBeLessThan(100);
  });

  it('never puts an offer after one that is dearer by more than a band', () => {
    fc.assert(
      fc.property(anyOffers, fc.string(), (offers, seed) => {
        const ranked = rankOffers(offers, { requirements: requirements(), machines: [], seed });
        const cheapest = ranked.map((one) => one.price).reduce((a, b) => (a < b ? a : b), ranked[0]?.price ?? 0n);
        let dearest = 0n;
        for (const one of ranked) {
          expect((dearest - one.price) * 100n <= cheapest * PRICE_BAND_PERCENT).toBe(true);
          if (one.price > dearest) dearest = one.price;
        }
      }),
    );
  });

  it('keeps every offer, and groups each machine once', () => {
    fc.assert(
      fc.property(anyOffers, fc.string(), (offers, seed) => {
        const ranked = rankOffers(offers, { requirements: requirements(), machines: [], seed });
        expect(new Set(ranked.map((one) => one.offer))).toEqual(new Set(offers));
        const places = groupByPlace(ranked);
        expect(new Set(places.map((place) => place.key)).size).toBe(places.length);
        expect(places.flatMap((place) => place.offers).length).toBe(offers.length);
      }),
    );
  });

  it('takes a free machine without dividing by its price', () => {
    expect(order([price('free', 0n), price('one', 1n)])).toEqual(['free', 'one']);
  });
});
