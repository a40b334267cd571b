import { describe, expect, it } from 'vitest';
import { offerKey, placeKey } from '../../../domain/provisioning/match.ts';
import { nextCandidates, plan } from '../../../domain/provisioning/plan.ts';
import {
  MAX_CANDIDATES,
  RESERVED_PATIENCE_MS,
  type PlanAction,
  type PlanInput,
} from '../../../domain/provisioning/planner.ts';
import { worstCaseCost } from '../../../domain/provisioning/race.ts';
import { attempt, instance, NOW, offer, planInput, requirements, spec } from './market.ts';

type Buy = Extract<PlanAction, { kind: 'buy' }>;
const buysOf = (input: PlanInput) => plan(input).filter((action): action is Buy => action.kind === 'buy');
const kindsOf = (input: PlanInput) => plan(input).map((action) => action.kind);
const coldstart = spec({ strategy: 'coldstart' });
const many = (count: number) => Array.from({ length: count }, (_, index) => offer(`o${index}`));

describe('coldstart', () => {
  it('makes one attempt, with further candidates for it', () => {
    const buys = buysOf(planInput({ spec: coldstart, offers: many(50) }));
    expect(buys).toHaveLength(1);
    expect(buys[0]?.candidates).toHaveLength(MAX_CANDIDATES);
  });

  it('gives a machine its full deadline, then abandons it and takes another machine', () => {
    const bought = attempt('1', { machineId: 'm1', purchasedAt: NOW - 899_999 });
    const input = planInput({ spec: coldstart, instances: [instance('a', { status: 'booting' })], attempts: [bought] });
    expect(plan(input)).toEqual([{ kind: 'wait', until: NOW + 1, reason: '1 machine booting' }]);
    const late = plan({ ...input, now: NOW + 1 });
    expect(late).toMatchObject([
      { kind: 'abandon', attemptId: '1', code: 'boot_timeout', reason: 'not ready 15 minutes after its purchase' },
      { kind: 'buy', instanceId: 'a' },
    ]);
    expect((late[1] as Buy).candidates.map((one) => one.machineId)).not.toContain('m1');
  });

  it('prefers the deadline that the attempt was given', () => {
    const bought = attempt('1', { purchasedAt: NOW - 1_000, bootDeadline: NOW });
    expect(kindsOf(planInput({ spec: coldstart, attempts: [bought] }))).toEqual(['abandon', 'buy']);
  });

  it('fails after the last attempt, with why', () => {
    const attempts = [
      attempt('1', { status: 'gone', failureCode: 'boot_timeout', createdAt: NOW - 2 }),
      attempt('2', { status: 'gone', failureCode: 'wrong_hardware', createdAt: NOW - 1 }),
    ];
    const actions = plan(planInput({ spec: { ...coldstart, maxAttemptsPerInstance: 2 }, attempts }));
    expect(actions).toEqual([
      {
        kind: 'fail',
        instanceId: 'a',
        code: 'wrong_hardware',
        reason: '2 attempts failed (1 boot_timeout, 1 wrong_hardware). No more than 2 attempts are made per instance.',
      },
    ]);
  });

  it('does not try a machine again on which an attempt of the request failed', () => {
    const failed = attempt('1', { status: 'gone', machineId: 'm1', failureCode: 'boot_timeout' });
    const actions = plan(
      planInput({ spec: coldstart, offers: [offer('1'), offer('1b', { machineId: 'm1' })], attempts: [failed] }),
    );
    expect(actions).toMatchObject([{ kind: 'fail', code: 'boot_timeout' }]);
    expect(JSON.stringify(actions)).toContain('2 on machines that this request has already used');
  });
});

describe('race', () => {
  it('starts on as many distinct machines as asked for', () => {
    const buys = buysOf(planInput());
    expect(buys).toHaveLength(3);
    expect(new Set(buys.map((buy) => buy.candidates[0]?.machineId)).size).toBe(3);
  });

  it('takes the first that was ready, and abandons every rival', () => {
    const attempts = [
      attempt('late', { status: 'ready', readyAt: NOW - 1 }),
      attempt('first', { status: 'ready', readyAt: NOW - 2 }),
      attempt('boots'),
      attempt('buys', { status: 'buying', purchasedAt: null }),
      attempt('lost', { status: 'lost' }),
      attempt('over', { status: 'destroying' }),
      attempt('gone', { status: 'gone' }),
    ];
    const actions = plan(planInput({ instances: [instance('a', { status: 'booting' })], attempts }));
    expect(actions[0]).toEqual({ kind: 'win', instanceId: 'a', attemptId: 'first' });
    expect(actions.slice(1)).toMatchObject(
      ['late', 'boots', 'buys', 'lost'].map((attemptId) => ({ kind: 'abandon', attemptId, code: 'canceled' })),
    );
  });

  it('still abandons rivals after a crash between the winner and them, and is done when they are', () => {
    const won = instance('a', { status: 'ready', winnerAttemptId: 'w' });
    const winner = attempt('w', { status: 'ready', readyAt: NOW });
    expect(plan(planInput({ instances: [won], attempts: [winner, attempt('r')] }))).toMatchObject([
      { kind: 'abandon', attemptId: 'r' },
    ]);
    expect(plan(planInput({ instances: [won], attempts: [winner, attempt('r', { status: 'destroying' })] }))).toEqual(
      [],
    );
  });

  it('does not replace a failed racer while another boots', () => {
    const attempts = [attempt('1', { status: 'gone', failureCode: 'boot_failed' }), attempt('2')];
    expect(kindsOf(planInput({ attempts }))).toEqual(['wait']);
    expect(kindsOf(planInput({ attempts: [attempt('1', { status: 'lost' }), attempt('2')] }))).toEqual(['abandon']);
  });

  it('is as wide as the money allows: all racers but one within the bound', () => {
    const price = 300_000n;
    const loser = worstCaseCost(spec(), price);
    expect(loser).toBe(80_000n);
    const widthWith = (maxRaceCostMicroUsd: bigint) =>
      buysOf(planInput({ spec: spec({ raceWidth: 5, maxRaceCostMicroUsd }) })).length;
    expect(widthWith(0n)).toBe(1);
    expect(widthWith(loser - 1n)).toBe(1);
    expect(widthWith(loser)).toBe(2);
    expect(widthWith(loser * 4n - 1n)).toBe(4);
    expect(widthWith(loser * 4n)).toBe(5);
  });

  it('shares its bound among the instances of the request', () => {
    const twice = { instances: [instance('a'), instance('b')], spec: spec({ maxRaceCostMicroUsd: 160_000n }) };
    const buys = buysOf(planInput(twice));
    expect(buys.map((buy) => buy.instanceId)).toEqual(['a', 'a', 'b', 'b']);
    expect(buysOf(planInput({ ...twice, spec: spec({ maxRaceCostMicroUsd: 159_999n }) }))).toHaveLength(2);
  });

  it('has what earlier waves cost taken off its bound', () => {
    const attempts = [attempt('1', { status: 'gone', failureCode: 'boot_failed' })];
    const widthWith = (maxRaceCostMicroUsd: bigint) =>
      buysOf(planInput({ attempts, spec: spec({ maxRaceCostMicroUsd }) })).length;
    expect(widthWith(160_000n)).toBe(2);
    expect(widthWith(159_999n)).toBe(1);
  });

  it('leaves out racers that only dearer machines could be', () => {
    const offers = [offer('1'), offer('2'), offer('3', { priceMicroUsdPerHour: 590_000n })];
    const buys = buysOf(planInput({ offers, spec: spec({ maxRaceCostMicroUsd: 100_000n }) }));
    expect(buys).toHaveLength(2);
    expect(buys.flatMap((buy) => buy.candidates.map((one) => one.providerOfferId)).sort()).toEqual(['1', '2']);
  });

  it('makes no more attempts than are left', () => {
    expect(buysOf(planInput({ spec: spec({ maxAttemptsPerInstance: 2 }) }))).toHaveLength(2);
  });
});

describe('a request for several instances', () => {
  const three = { instances: [instance('a'), instance('b'), instance('c')], spec: coldstart };

  it('shares no machine among its attempts, not even as a further candidate', () => {
    const buys = buysOf(planInput({ ...three, offers: many(30) }));
    const places = buys.flatMap((buy) => buy.candidates.map(placeKey));
    expect(buys).toHaveLength(3);
    expect(new Set(places).size).toBe(places.length);
    expect(places).toHaveLength(30);
  });

  it('gives every instance a machine before any gets a second racer', () => {
    const buys = buysOf(planInput({ ...three, spec: spec(), offers: many(4) }));
    expect(buys.map((buy) => buy.instanceId)).toEqual(['a', 'a', 'b', 'c']);
  });

  it('fails those for which there is no machine, and says so', () => {
    const actions = plan(planInput({ ...three, offers: many(2) }));
    expect(actions.map((action) => action.kind)).toEqual(['buy', 'buy', 'fail']);
    expect(actions[2]).toMatchObject({
      instanceId: 'c',
      reason: '2 fitting offers went to the other instances of this request.',
    });
  });

  it('does not have one instance use a machine of another', () => {
    const attempts = [attempt('1', { instanceId: 'a', machineId: 'm1', providerOfferId: '1' })];
    const buys = buysOf(
      planInput({ instances: [instance('a'), instance('b')], attempts, offers: [offer('1'), offer('2')] }),
    );
    expect(buys).toMatchObject([{ instanceId: 'b', candidates: [{ providerOfferId: '2' }] }]);
  });
});

describe('any planner', () => {
  it.each(['destroying', 'destroyed'] as const)('leaves an instance that is %s alone', (status) => {
    const attempts = [attempt('1', { purchasedAt: 0 }), attempt('2', { status: 'ready' })];
    expect(plan(planInput({ instances: [instance('a', { status })], attempts }))).toEqual([]);
  });

  it('waits while a purchase is under way', () => {
    const buying = attempt('1', { status: 'buying', purchasedAt: null, createdAt: 0 });
    expect(plan(planInput({ attempts: [buying] }))).toMatchObject([{ kind: 'wait', reason: '1 purchase under way' }]);
  });

  it('waits instead of failing or buying while offers are not believed', () => {
    const wait = [{ kind: 'wait', reason: 'the listing of offers is not believed' }];
    expect(plan(planInput({ offersBelievable: false }))).toMatchObject(wait);
    expect(plan(planInput({ offersBelievable: false, offers: [] }))).toMatchObject(wait);
    expect(plan(planInput({ offersBelievable: false, spec: spec({ maxAttemptsPerInstance: 0 }) }))).toMatchObject(wait);
  });

  it('enforces no deadline while the listing of machines is not believed', () => {
    const overdue = planInput({ attempts: [attempt('1', { purchasedAt: 0 }), attempt('2', { status: 'lost' })] });
    expect(kindsOf({ ...overdue, unseenProviders: new Set(['vastai'] as const) })).toEqual(['wait']);
    expect(kindsOf(overdue)).toEqual(['abandon', 'abandon', 'buy', 'buy', 'buy']);
  });

  it('fails with what was seen where nothing fits', () => {
    const input = planInput({ spec: spec({ requirements: requirements({ maxPriceMicroUsdPerHour: 1n }) }) });
    expect(plan(input)).toEqual([
      {
        kind: 'fail',
        instanceId: 'a',
        code: 'no_capacity',
        reason: '8 offers were seen and none can be bought: 8 over $0.000001 an hour (cheapest $0.30).',
      },
    ]);
  });

  it('waits a while for offers that only other requests hold', () => {
    const held = planInput({ offers: [offer('1')], reserved: new Set(['vastai/machine/m1']), requestedAt: NOW });
    expect(plan(held)).toMatchObject([{ kind: 'wait', reason: 'other requests hold the 1 offer that would fit' }]);
    expect(kindsOf({ ...held, now: NOW + RESERVED_PATIENCE_MS })).toEqual(['fail']);
    const { requestedAt: _, ...impatient } = held;
    expect(kindsOf(impatient)).toEqual(['fail']);
  });
});

describe('the next candidates of an attempt', () => {
  const racers = [
    attempt('1', { machineId: 'm1', providerOfferId: '1', status: 'buying', purchasedAt: null }),
    attempt('2', { machineId: 'm2', providerOfferId: '2' }),
  ];

  it('are on machines that no attempt of the request has, and not what it was refused', () => {
    const next = nextCandidates(planInput({ attempts: racers }), '1', new Set([offerKey(offer('3'))]));
    expect(next.map((one) => one.providerOfferId).sort()).toEqual(['4', '5', '6', '7', '8']);
  });

  it('keep to the price at which the race stays within its bound', () => {
    const offers = [offer('3', { priceMicroUsdPerHour: 310_000n }), offer('4')];
    const input = planInput({ attempts: racers, offers, spec: spec({ maxRaceCostMicroUsd: 80_000n }) });
    expect(nextCandidates(input, '1').map((one) => one.providerOfferId)).toEqual(['4']);
    const alone = { ...input, attempts: racers.slice(0, 1) };
    expect(
      nextCandidates(alone, '1')
        .map((one) => one.providerOfferId)
        .sort(),
    ).toEqual(['3', '4']);
  });

  it('are none for an attempt that is over or unknown', () => {
    expect(nextCandidates(planInput({ attempts: [attempt('1', { status: 'destroying' })] }), '1')).toEqual([]);
    expect(nextCandidates(planInput(), 'nobody')).toEqual([]);
  });
});
