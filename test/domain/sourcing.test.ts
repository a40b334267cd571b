import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INSTANCE_STATUSES } from '../../domain/instance.ts';
import {
  backoffMs,
  countFailures,
  decideSourcing,
  isTowardTarget,
  type RuleView,
  type SourcedInstance,
  type SourcingInput,
} from '../../domain/sourcing.ts';

const NOW = 1_777_777_777_000;
const MINUTE = 60_000;

const instance = (change: Partial<SourcedInstance>): SourcedInstance => ({
  status: 'ready',
  createdAt: NOW - 60 * MINUTE,
  readyAt: NOW - 50 * MINUTE,
  endedAt: null,
  failure: null,
  ...change,
});
const failed = (minutesAgo: number, failure = 'no machine became ready'): SourcedInstance =>
  instance({ status: 'destroyed', readyAt: null, endedAt: NOW - minutesAgo * MINUTE, failure });
const rule = (change: Partial<RuleView> = {}): RuleView => ({
  id: 'rul_a',
  target: 3,
  maxPriceMicroUsdPerHour: 500_000n,
  instances: [],
  candidates: [300_000n, 400_000n, 450_000n, 500_000n],
  shortage: null,
  ...change,
});
const decide = (change: Partial<SourcingInput> = {}) =>
  decideSourcing({ mode: 'provision', maxInstances: 5, liveSourced: 0, rules: [rule()], now: NOW, ...change });

describe('a sourcing rule', () => {
  it('buys what is missing of its target; what is on its way counts', () => {
    expect(decide()).toMatchObject([{ outcome: 'bought', buy: 3 }]);
    const underWay = (['requested', 'creating', 'booting', 'ready'] as const).map((status) =>
      instance({ status, readyAt: null }),
    );
    expect(decide({ rules: [rule({ instances: underWay.slice(0, 2) })], liveSourced: 2 })).toMatchObject([{ buy: 1 }]);
    expect(decide({ rules: [rule({ instances: underWay })], liveSourced: 4 })).toMatchObject([
      { outcome: 'satisfied', buy: 0, reason: null },
    ]);
  });

  it('only searches where sourcing may not buy, and says what it would buy', () => {
    expect(decide({ mode: 'search' })).toMatchObject([
      { outcome: 'search_only', buy: 0, reason: 'would buy 3; sourcing only searches' },
    ]);
  });

  it('says why nothing can be bought', () => {
    expect(decide({ rules: [rule({ candidates: [], shortage: 'none is listed' })] })).toMatchObject([
      { outcome: 'no_candidates', reason: 'none is listed' },
    ]);
    expect(decide({ liveSourced: 5 })).toMatchObject([
      { outcome: 'capped', buy: 0, reason: '5 sourced instances of at most 5 are live' },
    ]);
  });

  it('shares the room under the cap with the others, those with the least first', () => {
    const rules = [
      rule({ id: 'rul_a', target: 5, instances: [instance({})] }),
      rule({ id: 'rul_b', target: 5 }),
      rule({ id: 'rul_c', target: 1 }),
    ];
    expect(decide({ rules, maxInstances: 5, liveSourced: 1 }).map(({ buy }) => buy)).toEqual([1, 2, 1]);
    expect(decide({ rules, maxInstances: 2, liveSourced: 1 }).map(({ outcome }) => outcome)).toEqual([
      'capped',
      'bought',
      'capped',
    ]);
  });

  it('backs off after failures, longer each time, with the reason; then tries one', () => {
    const twice = rule({ instances: [failed(4, 'SSH never answered'), failed(10)] });
    expect(decide({ rules: [twice] })).toEqual([
      {
        ruleId: 'rul_a',
        outcome: 'backing_off',
        buy: 0,
        until: NOW - 4 * MINUTE + backoffMs(2),
        reason: 'failed 2 times in a row: SSH never answered',
      },
    ]);
    expect(decide({ rules: [twice], now: NOW + 6 * MINUTE })).toMatchObject([{ outcome: 'bought', buy: 1 }]);
    expect([1, 2, 3, 4, 20].map(backoffMs)).toEqual([5, 10, 20, 40, 360].map((minutes) => minutes * MINUTE));
  });

  it('has failed only as often as since the last machine that became ready', () => {
    expect(countFailures([failed(1), instance({ status: 'destroyed' }), failed(5)]).count).toBe(1);
    expect(countFailures([instance({ status: 'booting', readyAt: null }), failed(5)]).count).toBe(1);
    expect(countFailures([])).toEqual({ count: 0, last: null, reason: null });
  });
});

const anyInstance: fc.Arbitrary<SourcedInstance> = fc
  .record({
    status: fc.constantFrom(...INSTANCE_STATUSES),
    age: fc.nat(10_000),
    wasReady: fc.boolean(),
  })
  .map(({ status, age, wasReady }) =>
    instance({
      status,
      createdAt: NOW - age * MINUTE,
      readyAt: wasReady ? NOW - age * MINUTE : null,
      endedAt: isTowardTarget(status) ? null : NOW - Math.floor(age / 2) * MINUTE,
    }),
  );
const anyRule: fc.Arbitrary<RuleView> = fc
  .record({
    target: fc.nat(12),
    ceiling: fc.bigInt({ min: 1n, max: 1_000_000n }),
    instances: fc.array(anyInstance, { maxLength: 8 }),
    candidates: fc.array(fc.bigInt({ min: 1n, max: 1_000_000n }), { maxLength: 12 }),
  })
  .map(({ ceiling, ...view }) => rule({ ...view, maxPriceMicroUsdPerHour: ceiling }));
const anyInput = fc
  .record({
    mode: fc.constantFrom('search' as const, 'provision' as const),
    maxInstances: fc.nat(12),
    others: fc.nat(6),
    rules: fc.array(anyRule, { maxLength: 6 }),
  })
  .map(({ others, rules, ...input }) => {
    const named = rules.map((view, index) => ({ ...view, id: `rul_${index}` }));
    const live = named.flatMap((view) => view.instances).filter(({ status }) => status !== 'destroyed').length;
    return { ...input, rules: named, liveSourced: live + others, now: NOW };
  });

describe('sourcing, whatever the rules and the market', () => {
  const property = (check: (input: SourcingInput) => void) => () => fc.assert(fc.property(anyInput, check));

  it(
    'never buys above the cap',
    property((input) => {
      const bought = decideSourcing(input).reduce((sum, { buy }) => sum + buy, 0);
      expect(bought).toBeLessThanOrEqual(Math.max(0, input.maxInstances - input.liveSourced));
    }),
  );

  it(
    'never buys above a target, and nothing for what is backing off or only searched',
    property((input) => {
      for (const [index, decision] of decideSourcing(input).entries()) {
        const view = input.rules[index] as RuleView;
        const counted = view.instances.filter(({ status }) => isTowardTarget(status)).length;
        expect(decision.buy).toBeLessThanOrEqual(Math.max(0, view.target - counted));
        expect(decision.buy > 0).toBe(decision.outcome === 'bought');
        if (input.mode === 'search') expect(decision.buy).toBe(0);
      }
    }),
  );

  it(
    'never buys above the price ceiling, nor more than there is at or below it',
    property((input) => {
      for (const [index, { buy }] of decideSourcing(input).entries()) {
        const view = input.rules[index] as RuleView;
        expect(buy).toBeLessThanOrEqual(
          view.candidates.filter((price) => price <= view.maxPriceMicroUsdPerHour).length,
        );
      }
    }),
  );

  it(
    'leaves no room unused that a rule could use',
    property((input) => {
      const decisions = decideSourcing(input);
      const bought = decisions.reduce((sum, { buy }) => sum + buy, 0);
      const isFull = bought >= Math.max(0, input.maxInstances - input.liveSourced);
      expect(decisions.some(({ outcome }) => outcome === 'capped') && !isFull).toBe(false);
    }),
  );
});
