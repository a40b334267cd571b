import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newMachineRecord } from '../../../domain/machine-history.ts';
import { plan } from '../../../domain/provisioning/plan.ts';
import { previewPlan } from '../../../domain/provisioning/preview.ts';
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
  it('tells prices, and chance and time where there is history', () => {
    const known = { ...newMachineRecord('vastai', 'm2'), attempts: 8, successes: 8, meanReadyMs: 42_000 };
    const [first, ...others] = preview({ machines: [known] }).candidates;
    expect(first).toMatchObject({
      offer: { providerOfferId: '2' },
      priceMicroUsdPerHour: 300_000n,
      priceMicroUsdPer30Days: 216_000_000n,
      chanceOfSuccess: 0.9,
      expectedReadyMs: 42_000,
    });
    expect(others).toHaveLength(2);
    for (const one of others) expect(one).toMatchObject({ chanceOfSuccess: null, expectedReadyMs: null });
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
    expect(preview({ limit: 1 })).toMatchObject({ candidates: [{}], fittingOffers: 3, fittingMachines: 3 });
  });

  it('agrees with the plan: same first machine for one, and no racing beyond the stated cost', () => {
    fc.assert(
      fc.property(anySpec, anyOffers, fc.string({ maxLength: 5 }), (one, offers, seed) => {
        const shown = preview({ spec: one, offers, seed });
        const buys = plan(planInput({ spec: one, offers, seed, instances: [instance('a')] })).filter(
          (action) => action.kind === 'buy',
        );
        expect(buys.length).toBe(shown.effectiveRaceWidth);
        expect(shown.worstCaseRaceCostMicroUsd).toBeLessThanOrEqual(one.maxRaceCostMicroUsd);
        if (shown.effectiveRaceWidth === 1) {
          expect(buys[0]?.candidates[0]).toEqual(shown.candidates[0]?.offer);
        }
      }),
    );
  });
});
