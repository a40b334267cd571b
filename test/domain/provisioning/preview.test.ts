import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { plan } from '../../../domain/provisioning/plan.ts';
import { previewPlan } from '../../../domain/provisioning/preview.ts';
import { newMachineRecord } from '../../support/machine-record.ts';
import { anyOffers, anySpec, instance, NOW, offer, planInput, spec } from './market.ts';

type PreviewInput = Parameters<typeof previewPlan>[0];
const preview = (over: Partial<PreviewInput> = {}) =>
  previewPlan({
    spec: spec({ maxRaceCostMicroUsd: 160_000n }),
    count: 1,
    offers: [offer('1'), offer('2'), offer('3'), offer('4', { gpu: 'H100 SXM' })],
    machines: [],
    reserved: new Set(),
    seed: 'seed',
    now: NOW,
    ...over,
  });

describe('a preview', () => {
  it("tells prices, chances and times, by history and by the provider's where a machine has none", () => {
    const known = { ...newMachineRecord('vastai', 'm2'), attempts: 8, successes: 8, meanReadyMs: 42_000 };
    const [first, ...others] = preview({ machines: [known] }).candidates;
    expect(first).toMatchObject({
      offer: { providerOfferId: '2' },
      priceMicroUsdPerHour: 300_000n,
      priceMicroUsdPer30Days: 216_000_000n,
      outlook: { evidence: { machine: 8, provider: 8 } },
    });
    expect(others).toHaveLength(2);
    for (const one of others) {
      expect(one.outlook.chance).toBeLessThan(first?.outlook.chance as number);
      expect(one.outlook.p50ReadyMs).toBe(first?.outlook.p50ReadyMs);
    }
  });

  it('advises the fewest racers that make it nearly certain, as far as the money goes', () => {
    const sure = { confidence: 1, reliability: 1 };
    const offers = ['1', '2', '3', '4', '5'].map((id) => offer(id, sure));
    const rich = spec({ maxRaceCostMicroUsd: 10_000_000n });
    // 0.8 each: 1 - 0.2³ = 0.992.
    expect(preview({ offers, spec: rich }).advisedRaceWidth).toBe(3);
    expect(preview({ offers, spec: spec({ maxRaceCostMicroUsd: 80_000n }) }).advisedRaceWidth).toBe(2);
    expect(preview({ offers: offers.slice(0, 1), spec: rich }).advisedRaceWidth).toBe(1);
    expect(preview({ offers: [], spec: rich }).advisedRaceWidth).toBe(0);
  });

  it('tells the chance and the time of the whole request', () => {
    const records = [
      { provider: 'vastai' as const, attempts: 996, successes: 896, p50ReadyMs: 60_000, p95ReadyMs: 90_000 },
    ];
    const offers = ['1', '2', '3', '4'].map((id) => offer(id, { confidence: 1, reliability: 1 }));
    const at = (over: Partial<PreviewInput>) => preview({ offers, providers: records, ...over });
    const coldstart = spec({ strategy: 'coldstart' });
    expect(at({ spec: coldstart }).chanceOfSuccess).toBeCloseTo(0.8992, 4);
    expect(at({ spec: coldstart, count: 2 }).chanceOfSuccess).toBeCloseTo(0.8992 ** 2, 4);
    expect(at({}).chanceOfSuccess).toBeCloseTo(1 - 0.1008 ** 3, 4);
    expect(at({ count: 5 }).chanceOfSuccess).toBeNull();
    expect(at({})).toMatchObject({ p50ReadyMs: 60_000, p95ReadyMs: 90_000 });
  });

  it('tells how wide the race would be and what it may cost beyond the winner', () => {
    expect(preview()).toMatchObject({ effectiveRaceWidth: 3, worstCaseRaceCostMicroUsd: 160_000n, shortage: null });
    expect(preview({ spec: spec({ strategy: 'coldstart' }) })).toMatchObject({
      effectiveRaceWidth: 1,
      worstCaseRaceCostMicroUsd: 0n,
    });
  });

  it('says what is short', () => {
    expect(preview({ count: 5 }).shortage).toBe('3 fitting machines are listed, 5 are asked for.');
    const none = preview({ offers: [offer('4', { gpu: 'H100 SXM' })] });
    expect(none).toMatchObject({ candidates: [], effectiveRaceWidth: 0, worstCaseRaceCostMicroUsd: 0n });
    expect(none.shortage).toContain('1 of another GPU model');
  });

  it('shows no more candidates than wanted, and counts them all', () => {
    const coldstart = spec({ strategy: 'coldstart' });
    expect(preview({ limit: 1, spec: coldstart })).toMatchObject({
      candidates: [{ isFirstChoice: true }],
      fittingOffers: 3,
      fittingMachines: 3,
    });
    expect(preview({ limit: 1 }).candidates).toHaveLength(3); // every first choice
  });

  it('agrees with the plan: the same first choices, and no racing beyond the stated cost', () => {
    fc.assert(
      fc.property(anySpec, anyOffers, fc.string({ maxLength: 5 }), (one, offers, seed) => {
        const shown = preview({ spec: one, offers, seed });
        const buys = plan(planInput({ spec: one, offers, seed, instances: [instance('a')] })).filter(
          (action) => action.kind === 'buy',
        );
        expect(buys.length).toBe(shown.effectiveRaceWidth);
        expect(shown.worstCaseRaceCostMicroUsd).toBeLessThanOrEqual(one.maxRaceCostMicroUsd);
        const first = shown.candidates.filter((candidate) => candidate.isFirstChoice);
        expect(new Set(first.map((candidate) => candidate.offer))).toEqual(
          new Set(buys.map((action) => action.candidates[0])),
        );
      }),
    );
  });
});
