import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_IDLE_RULE, judgeIdle, MAX_SAMPLE_GAP_MS, type IdleInput, type IdleSample } from '../../domain/idle.ts';

const MINUTE = 60_000;
const NOW = 1_800_000_000_000;

/** One a minute, the last one 10 s old. */
function samples(...percents: (number | null)[]): IdleSample[] {
  return percents.map((gpuPercent, index) => ({
    at: NOW - 10_000 - (percents.length - 1 - index) * MINUTE,
    gpuPercent,
    isActivityDeclared: false,
  }));
}
function judge(change: Partial<IdleInput>) {
  return judgeIdle({
    rule: DEFAULT_IDLE_RULE,
    samples: [],
    readyAt: NOW - 3_600_000,
    busyWith: null,
    now: NOW,
    ...change,
  });
}

describe('an instance is idle', () => {
  it('after three minutes below five percent, by default', () => {
    expect(judge({ samples: samples(0, 1, 4, 0) })).toEqual({ kind: 'idle', since: NOW - 10_000 - 3 * MINUTE });
    expect(judge({ samples: samples(0, 0, 0) }).kind).toBe('busy');
    expect(judge({ samples: samples(5, 0, 0, 0) }).kind).toBe('busy');
    expect(judge({ samples: samples(80, 0, 0, 0, 0) }).kind).toBe('idle');
  });

  it('by its own rule', () => {
    const rule = { belowPercent: 20, forMs: MINUTE };
    expect(judge({ rule, samples: samples(90, 19, 19) }).kind).toBe('idle');
    expect(judge({ rule, samples: samples(19, 20, 19) }).kind).toBe('busy');
  });
});

describe('an instance is not idle', () => {
  it('while its workload declares activity, whatever its GPUs do', () => {
    const quiet = samples(0, 0, 0, 0, 0);
    expect(judge({ samples: quiet.map((one) => ({ ...one, isActivityDeclared: true })) }).kind).toBe('busy');
    expect(judge({ samples: quiet.with(2, { ...(quiet[2] as IdleSample), isActivityDeclared: true }) }).kind).toBe(
      'busy',
    );
  });

  it('where something is not known', () => {
    expect(judge({ samples: [] }).kind).toBe('unknown');
    expect(judge({ samples: samples(0, 0, 0, 0, null) }).kind).toBe('unknown');
    expect(judge({ samples: samples(0, 0, null, 0, 0) }).kind).not.toBe('idle');
    expect(judge({ samples: samples(0, 0, 0, 0, -1) }).kind).toBe('unknown');
    const undeclared = samples(0, 0, 0, 0).map((one) => ({ ...one, isActivityDeclared: null }));
    expect(judge({ samples: undeclared }).kind).toBe('unknown');
  });

  it('while it boots, is set up, restored or copied, nor by what was measured before it was ready', () => {
    const quiet = samples(0, 0, 0, 0, 0);
    expect(judge({ samples: quiet, readyAt: null }).kind).toBe('busy');
    expect(judge({ samples: quiet, busyWith: 'a snapshot is taken' })).toEqual({
      kind: 'busy',
      reason: 'a snapshot is taken',
    });
    expect(judge({ samples: quiet, readyAt: NOW - 2 * MINUTE }).kind).toBe('busy');
  });

  it('across a gap in its readings', () => {
    const quiet = samples(0, 0, 0, 0, 0);
    const torn = quiet.map((one, index) => (index < 3 ? { ...one, at: one.at - MAX_SAMPLE_GAP_MS } : one));
    expect(judge({ samples: torn }).kind).toBe('busy');
  });

  it('when its node is silent, or the clock jumped', () => {
    const quiet = samples(0, 0, 0, 0, 0);
    expect(judge({ samples: quiet, now: NOW + MAX_SAMPLE_GAP_MS }).kind).toBe('unknown');
    expect(judge({ samples: quiet, now: NOW - 10 * MINUTE }).kind).toBe('unknown');
    expect(judge({ samples: quiet.map((one) => ({ ...one, at: one.at + 3_600_000 })) }).kind).toBe('unknown');
  });
});

const sample = fc.record({
  gapMs: fc.integer({ min: 1_000, max: 400_000 }),
  gpuPercent: fc.option(fc.integer({ min: 0, max: 100 }), { nil: null }),
  isActivityDeclared: fc.option(fc.boolean(), { nil: null }),
});
const history = fc.array(sample, { maxLength: 12 }).map((all) => {
  let at = NOW - 5_000;
  return all
    .map(({ gapMs, ...rest }) => {
      const made = { ...rest, at };
      at -= gapMs;
      return made;
    })
    .reverse();
});

describe('whatever was reported', () => {
  it('idle means that every reading of the whole window is known, quiet and near the next', () => {
    fc.assert(
      fc.property(
        history,
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 0, max: 600_000 }),
        (all, below, forMs) => {
          const verdict = judge({ samples: all, rule: { belowPercent: below, forMs } });
          if (verdict.kind !== 'idle') return;
          expect(NOW - verdict.since).toBeGreaterThanOrEqual(forMs);
          const within = all.filter((one) => one.at >= verdict.since);
          const moments = [...within.map((one) => one.at), NOW];
          for (const [index, at] of moments.entries())
            if (index > 0) expect(at - (moments[index - 1] as number)).toBeLessThanOrEqual(MAX_SAMPLE_GAP_MS);
          for (const one of within) {
            expect(one.gpuPercent).not.toBeNull();
            expect(one.gpuPercent as number).toBeLessThan(below);
            expect(one.isActivityDeclared).toBe(false);
          }
        },
      ),
    );
  });

  it('knowing less never makes it idle', () => {
    fc.assert(
      fc.property(history, fc.nat(11), (all, index) => {
        const forgotten = all.map((one, at) => (at === index ? { ...one, gpuPercent: null } : one));
        if (judge({ samples: all }).kind !== 'idle') expect(judge({ samples: forgotten }).kind).not.toBe('idle');
      }),
    );
  });
});
