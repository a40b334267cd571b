import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chanceOfAny, foresee, sumProviderRecords, type ProviderRecord } from '../../../domain/provisioning/outlook.ts';
import { newMachineRecord } from '../../support/machine-record.ts';

const listed = { reliability: 1, confidence: 1 };
const machine = (attempts: number, successes: number, meanReadyMs: number | null = null) => ({
  ...newMachineRecord('vastai', 'm'),
  attempts,
  successes,
  meanReadyMs,
});
const provider = (over: Partial<ProviderRecord> = {}): ProviderRecord => ({
  provider: 'vastai',
  attempts: 0,
  successes: 0,
  p50ReadyMs: null,
  p95ReadyMs: null,
  ...over,
});

describe('an outlook', () => {
  it('is the prior where nothing is known', () => {
    expect(foresee(listed, undefined, undefined)).toEqual({
      chance: 0.8,
      p50ReadyMs: null,
      p95ReadyMs: null,
      evidence: { machine: 0, provider: 0 },
    });
  });

  it('follows the formula in the module', () => {
    const seen = foresee(
      { reliability: 0.9, confidence: 0.5 },
      machine(3, 3),
      provider({ attempts: 16, successes: 12 }),
    );
    const atProvider = (12 + 4 * 0.8) / (16 + 4);
    expect(seen.chance).toBeCloseTo(0.5 * ((3 + 2 * atProvider * 0.9) / (3 + 2)), 12);
  });

  it('blends the times of machine and provider by what each has seen', () => {
    const times = provider({ p50ReadyMs: 60_000, p95ReadyMs: 120_000 });
    expect(foresee(listed, undefined, times)).toMatchObject({ p50ReadyMs: 60_000, p95ReadyMs: 120_000 });
    const own = foresee(listed, machine(2, 2, 30_000), undefined);
    expect(own.p50ReadyMs).toBeLessThan(30_000);
    expect(own.p95ReadyMs).toBeGreaterThan(30_000);
    expect(foresee(listed, machine(2, 2, 30_000), times).p50ReadyMs).toBe(
      Math.round(((own.p50ReadyMs as number) * 2 + 60_000 * 2) / 4),
    );
  });

  it('takes measured times of the machine before guessed ones', () => {
    const measured = { p50ReadyMs: 10_000, p95ReadyMs: 11_000 };
    expect(foresee(listed, machine(2, 2, 30_000), undefined, measured)).toMatchObject(measured);
  });

  it('is a chance, grows with a success, shrinks with a failure, and never rises with doubt about the listing', () => {
    const history = fc.record({ n: fc.nat({ max: 50 }), share: fc.double({ min: 0, max: 1, noNaN: true }) });
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(history, history, share, share, (own, theirs, reliability, confidence) => {
        const successes = Math.floor(own.n * own.share);
        const record = provider({ attempts: theirs.n, successes: Math.floor(theirs.n * theirs.share) });
        const chanceWith = (attempts: number, won: number, trust = confidence) =>
          foresee({ reliability, confidence: trust }, machine(attempts, won), record).chance;
        const chance = chanceWith(own.n, successes);
        expect(chance).toBeGreaterThanOrEqual(0);
        expect(chance).toBeLessThanOrEqual(1);
        expect(chanceWith(own.n + 1, successes + 1)).toBeGreaterThanOrEqual(chance - 1e-12);
        expect(chanceWith(own.n + 1, successes)).toBeLessThanOrEqual(chance + 1e-12);
        expect(chanceWith(own.n, successes, confidence / 2)).toBeLessThanOrEqual(chance);
      }),
    );
  });
});

describe("a provider's record", () => {
  it('sums its machines up, times weighted by successes', () => {
    const records = [machine(4, 2, 30_000), machine(2, 1, 60_000), { ...machine(1, 0), provider: 'lambda' as const }];
    const [vastai, lambda] = sumProviderRecords(records);
    expect(vastai).toMatchObject({ provider: 'vastai', attempts: 6, successes: 3 });
    expect(vastai?.p50ReadyMs).toBe(foresee(listed, machine(1, 1, 40_000), undefined).p50ReadyMs);
    expect(lambda).toMatchObject({ provider: 'lambda', attempts: 1, successes: 0, p50ReadyMs: null });
  });
});

describe('the chance of any', () => {
  it('is that of the only one, none for none, and grows with each', () => {
    expect(chanceOfAny([])).toBe(0);
    expect(chanceOfAny([0.3])).toBeCloseTo(0.3, 12);
    expect(chanceOfAny([0.9, 0.9])).toBeCloseTo(0.99, 12);
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 10 }), (all) => {
        expect(chanceOfAny([...all, 0.5])).toBeGreaterThanOrEqual(chanceOfAny(all));
      }),
    );
  });
});
