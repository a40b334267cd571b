import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decideFailover,
  FAILOVER_NEXT,
  FAILOVER_PHASES,
  isFailoverOver,
  STORM_WINDOW_MS,
  type FailoverPhase,
  type FailoverPolicy,
  type FailoverQuestion,
} from '../../domain/failover.ts';

const T0 = 1_800_000_000_000;
const MINUTE = 60_000;
const DAY = 86_400_000;
const POLICY: FailoverPolicy = {
  mode: 'replace',
  rpoMs: 5 * MINUTE,
  maxPriceMicroUsdPerHour: null,
  budgetMicroUsdPerDay: null,
  cooldownMs: 10 * MINUTE,
  maxPerDay: 4,
  failback: 'automatic',
};

function ask(change: Partial<FailoverQuestion> = {}) {
  return decideFailover({
    cause: 'detected',
    policy: POLICY,
    instanceStatus: 'ready',
    hasRunning: false,
    begun: [],
    spentMicroUsd: 0n,
    begunAnywhere: [],
    stormLimit: 10,
    workspace: { hasVerifiedSnapshot: true },
    isStandbyReady: false,
    wantedMode: null,
    acceptsDataLoss: false,
    now: T0,
    ...change,
  });
}
const ago = (ms: number) => T0 - ms;

describe('the phases of a failover', () => {
  it('all are reached from detected, and each leads to an end', () => {
    const reach = (start: FailoverPhase) => {
      const seen = new Set<FailoverPhase>([start]);
      for (const phase of seen) for (const one of FAILOVER_NEXT[phase]) seen.add(one);
      return seen;
    };
    expect([...reach('detected')].sort()).toEqual([...FAILOVER_PHASES].sort());
    for (const phase of FAILOVER_PHASES) expect([...reach(phase)].some(isFailoverOver)).toBe(true);
  });

  it('none but those of the end is skipped on the way to complete: nobody switches before the lost machine is fenced', () => {
    const before = (wanted: FailoverPhase) => FAILOVER_PHASES.filter((one) => FAILOVER_NEXT[one].includes(wanted));
    expect(before('fencing')).toEqual(['detected', 'promoting']);
    expect(before('complete')).toEqual(['switching']);
    expect(before('serving')).not.toContain('detected');
    expect(before('provisioning')).not.toContain('detected');
  });
});

describe('a failover that would begin by itself', () => {
  it.each([
    ['no policy', { policy: null }],
    ['a policy that says off', { policy: { ...POLICY, mode: 'off' as const } }],
    ['one under way', { hasRunning: true }],
    ['an instance that is not ready', { instanceStatus: 'hibernating' }],
  ])('does not with %s', (_what, change) => {
    expect(ask(change).kind).toBe('none');
  });

  it('waits for its cool-down, its daily and the storm limit, and says until when', () => {
    expect(ask({ begun: [ago(MINUTE)] })).toMatchObject({ kind: 'hold', until: T0 + 9 * MINUTE });
    const four = [ago(DAY - MINUTE), ago(DAY / 2), ago(DAY / 3), ago(DAY / 4)];
    expect(ask({ begun: four })).toMatchObject({ kind: 'hold', until: T0 + MINUTE });
    expect(ask({ begun: four.slice(1) })).toMatchObject({ kind: 'begin' });
    const storm = Array.from({ length: 10 }, (_, index) => ago(STORM_WINDOW_MS - (index + 1) * 1_000));
    expect(ask({ begunAnywhere: storm })).toMatchObject({ kind: 'hold', until: T0 + 1_000 });
    expect(ask({ begunAnywhere: storm.slice(1) })).toMatchObject({ kind: 'begin' });
  });

  it('waits where the day has cost its budget', () => {
    const policy = { ...POLICY, cooldownMs: 0, budgetMicroUsdPerDay: 500_000n };
    const begun = [ago(DAY / 2)];
    expect(ask({ policy, begun, spentMicroUsd: 500_000n })).toMatchObject({ kind: 'hold', until: T0 + DAY / 2 });
    expect(ask({ policy, begun, spentMicroUsd: 499_999n })).toMatchObject({ kind: 'begin' });
    expect(ask({ policy, begun, spentMicroUsd: 9_000_000n, cause: 'requested' })).toMatchObject({ kind: 'begin' });
  });

  it('does not where nothing of the workspace was ever verified; without a workspace there is nothing to lose', () => {
    const bare = { workspace: { hasVerifiedSnapshot: false } };
    expect(ask(bare)).toMatchObject({ kind: 'hold' });
    expect(ask({ ...bare, cause: 'requested' })).toMatchObject({ kind: 'hold', until: null });
    expect(ask({ ...bare, cause: 'requested', acceptsDataLoss: true })).toMatchObject({ kind: 'begin' });
    expect(ask({ workspace: null })).toMatchObject({ kind: 'begin' });
  });

  it('goes to the standby where that is at rest, and directly to another machine where not', () => {
    const policy = { ...POLICY, mode: 'standby' as const };
    expect(ask({ policy, isStandbyReady: true })).toEqual({ kind: 'begin', mode: 'standby', reason: null });
    expect(ask({ policy })).toMatchObject({ kind: 'begin', mode: 'replace', reason: expect.any(String) as string });
    expect(ask({ cause: 'requested', wantedMode: 'standby' })).toMatchObject({ kind: 'none' });
    expect(ask({ cause: 'drill', policy: null, wantedMode: 'standby', isStandbyReady: true })).toMatchObject({
      kind: 'begin',
      mode: 'standby',
    });
  });

  it('whatever came before, no more begin than the limits allow, and what is held may begin at the time told', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 3 * DAY }), { maxLength: 40 }),
        fc.integer({ min: 0, max: 60 * MINUTE }),
        fc.integer({ min: 1, max: 5 }),
        (losses, cooldownMs, maxPerDay) => {
          const policy = { ...POLICY, cooldownMs, maxPerDay };
          const begun: number[] = [];
          for (const at of losses.sort((a, b) => a - b)) {
            const now = T0 + at;
            const decision = ask({ policy, begun, begunAnywhere: begun, now });
            if (decision.kind === 'begin') begun.push(now);
            if (decision.kind !== 'hold') continue;
            expect(decision.until).toBeGreaterThan(now);
            let later: number = decision.until as number;
            for (let round = 0; round < 10; round++) {
              const next = ask({ policy, begun, begunAnywhere: begun, now: later });
              if (next.kind !== 'hold') break;
              later = next.until as number;
            }
            expect(ask({ policy, begun, begunAnywhere: begun, now: later }).kind).toBe('begin');
          }
          begun.forEach((at, index) => {
            if (index > 0) expect(at - (begun[index - 1] as number)).toBeGreaterThanOrEqual(cooldownMs);
            expect(begun.filter((one) => one <= at && at - one < DAY).length).toBeLessThanOrEqual(maxPerDay);
          });
        },
      ),
    );
  });
});

describe('a failover that a person asks for', () => {
  it('passes over cool-down, daily and storm limit, and needs no policy', () => {
    const limits = { begun: [ago(1)], begunAnywhere: Array.from({ length: 50 }, () => ago(1)), stormLimit: 0 };
    expect(ask({ cause: 'requested', policy: null, ...limits })).toMatchObject({ kind: 'begin', mode: 'replace' });
    expect(ask({ cause: 'requested', hasRunning: true })).toMatchObject({ kind: 'none' });
  });
});
