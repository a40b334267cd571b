/** Anti-herd: requests made at the same moment, none of which sees the others' plans, only that an offer is reserved already. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { placeKey } from '../../../domain/provisioning/match.ts';
import { plan } from '../../../domain/provisioning/plan.ts';
import type { PlanAction } from '../../../domain/provisioning/planner.ts';
import { offer, planInput, spec } from './market.ts';

type Buy = Extract<PlanAction, { kind: 'buy' }>;

/** Prices within one band, of two vendors. */
const market = (size: number) =>
  Array.from({ length: size }, (_, index) =>
    offer(`o${index}`, {
      provider: index % 3 === 0 ? 'tensordock' : 'vastai',
      confidence: 0.9,
      priceMicroUsdPerHour: 300_000n + BigInt((index * 7) % 29) * 1_000n,
    }),
  );

function planAtOnce(requests: number, offers: number, salt: string): Buy[] {
  const listed = market(offers);
  return Array.from({ length: requests }, (_, index) => {
    const input = planInput({ offers: listed, seed: `op_${salt}_${index}`, spec: spec({ strategy: 'coldstart' }) });
    return plan(input)[0] as Buy;
  });
}

/** Each takes its first candidate that nobody has yet; how many had to look past their first. */
function reserveAll(buys: Buy[]): { taken: Map<string, number>; collisions: number; tries: number; without: number } {
  const taken = new Map<string, number>();
  let [collisions, tries, without] = [0, 0, 0];
  for (const buy of buys) {
    const free = buy.candidates.findIndex((one) => !taken.has(placeKey(one)));
    if (free !== 0) collisions += 1;
    tries += free < 0 ? buy.candidates.length : free + 1;
    if (free < 0) without += 1;
    else taken.set(placeKey(buy.candidates[free] as Buy['candidates'][number]), 1);
  }
  return { taken, collisions, tries, without };
}

describe('requests made at once', () => {
  it('collide no more than blind chance must, and seldom where there is room', () => {
    fc.assert(
      fc.property(fc.integer({ min: 8, max: 40 }), fc.integer({ min: 1, max: 4 }), fc.string(), (n, room, salt) => {
        const { collisions, tries } = reserveAll(planAtOnce(n, n * room, salt));
        // The n-th of n finds at most (n-1)/m of its first choices taken: n²/2m in all; twice that, and a few, is far outside chance.
        expect(collisions).toBeLessThanOrEqual((n * n) / (n * room) + 6);
        expect(tries / n).toBeLessThan(room === 1 ? 5 : 2.5);
      }),
      { numRuns: 40 },
    );
  });

  it('each find an offer of their own where there are twice as many', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.string(), (n, salt) => {
        const { taken, without } = reserveAll(planAtOnce(n, 2 * n, salt));
        expect(without).toBe(0);
        expect(taken.size).toBe(n);
      }),
      { numRuns: 40 },
    );
  });

  it('never leave an offer to one vendor only because it lists more', () => {
    const firsts = planAtOnce(300, 30, 'x').map((buy) => buy.candidates[0]?.provider);
    const share = firsts.filter((provider) => provider === 'tensordock').length / firsts.length;
    expect(share).toBeGreaterThan(0.22);
    expect(share).toBeLessThan(0.45);
  });
});
