/** Plans over several providers: which is asked, which is left out, and how a race spreads. */
import { describe, expect, it } from 'vitest';
import { PROVIDER_NAMES, type ProviderName } from '../../../domain/provider.ts';
import { findClosed, isMarketBelieved, type ProviderState } from '../../../domain/provisioning/closed-providers.ts';
import { nextCandidates, plan } from '../../../domain/provisioning/plan.ts';
import { RESERVED_PATIENCE_MS, type PlanAction, type PlanInput } from '../../../domain/provisioning/planner.ts';
import { attempt, instance, NOW, offer, planInput, requirements, spec } from './market.ts';

type Buy = Extract<PlanAction, { kind: 'buy' }>;
const buysOf = (input: PlanInput) => plan(input).filter((action): action is Buy => action.kind === 'buy');
const firstsOf = (input: PlanInput) => buysOf(input).map((buy) => buy.candidates[0]?.providerOfferId);
const providersOf = (input: PlanInput) => buysOf(input).map((buy) => buy.candidates[0]?.provider);
const coldstart = spec({ strategy: 'coldstart' });
const at = (provider: ProviderName, id: string, over: Parameters<typeof offer>[1] = {}) =>
  offer(id, { provider, ...over });

describe('a race', () => {
  it('spreads equally good machines over providers, then over regions', () => {
    const offers = [
      ...['1', '2', '3', '4'].map((id) => at('vastai', `v${id}`, { region: id < '3' ? 'SE' : 'US' })),
      at('runpod', 'r1'),
      at('lambda', 'l1'),
    ];
    for (const seed of ['a', 'b', 'c', 'd', 'e']) {
      const four = planInput({ offers, seed, spec: spec({ raceWidth: 4 }) });
      expect(new Set(providersOf(four)).size).toBe(3);
      const vastai = buysOf(four)
        .flatMap((buy) => buy.candidates.slice(0, 1))
        .filter((one) => one.provider === 'vastai');
      expect(new Set(vastai.map((one) => one.region)).size).toBe(2);
    }
  });

  it('takes no dearer machine for the sake of another provider', () => {
    const offers = [offer('1'), offer('2'), at('lambda', 'dear', { priceMicroUsdPerHour: 500_000n })];
    expect(firstsOf(planInput({ offers, spec: spec({ raceWidth: 2 }) })).toSorted(compareTexts)).toEqual(['1', '2']);
  });

  it('may run several racers on one offer whose vendor names no machine, as many as there are', () => {
    const shared = at('runpod', 'r', { machineId: null, stock: null });
    expect(firstsOf(planInput({ offers: [shared], spec: spec({ raceWidth: 4 }) }))).toEqual(['r', 'r', 'r', 'r']);
    const two = { ...shared, stock: 2 };
    expect(firstsOf(planInput({ offers: [two], spec: spec({ raceWidth: 4 }) }))).toEqual(['r', 'r']);
  });

  it('prefers other machines to a second racer on the same offer', () => {
    const offers = [
      at('runpod', 'r', { machineId: null, stock: null }),
      at('lambda', 'l', { machineId: null, stock: null }),
      offer('1'),
    ];
    expect(firstsOf(planInput({ offers })).toSorted(compareTexts)).toEqual(['1', 'l', 'r']);
  });

  it('never runs two racers of an instance on one machine that has a name, whatever its stock; two instances may', () => {
    const shared = at('tensordock', 't', { stock: 4 });
    expect(firstsOf(planInput({ offers: [shared] }))).toEqual(['t']);
    const two = [instance('a'), instance('b')];
    expect(buysOf(planInput({ offers: [shared], instances: two })).map((buy) => buy.instanceId)).toEqual(['a', 'b']);
  });

  it('counts what it is about to buy off the stock', () => {
    const shared = at('runpod', 'r', { machineId: null, stock: 2 });
    const buying = attempt('1', {
      instanceId: 'b',
      status: 'reserved',
      provider: 'runpod',
      providerOfferId: 'r',
      machineId: null,
      purchasedAt: null,
    });
    const instances = [instance('a'), instance('b', { status: 'creating' })];
    expect(firstsOf(planInput({ offers: [shared], instances, attempts: [buying] }))).toEqual(['r']);
  });
});

describe('an offer of many machines', () => {
  const shared = at('runpod', 'r', { machineId: null, stock: null });
  const failed = attempt('1', { status: 'gone', provider: 'runpod', providerOfferId: 'r', machineId: null });

  it('is tried again after a machine of it failed, but after everything as good', () => {
    expect(firstsOf(planInput({ spec: coldstart, offers: [shared], attempts: [failed] }))).toEqual(['r']);
    expect(firstsOf(planInput({ spec: coldstart, offers: [shared, offer('1')], attempts: [failed] }))).toEqual(['1']);
  });

  it('is not tried again in this request after the vendor refused it', () => {
    const refused = { ...failed, purchasedAt: null, failureCode: 'no_capacity' };
    expect(plan(planInput({ spec: coldstart, offers: [shared], attempts: [refused] }))).toMatchObject([
      { kind: 'fail', code: 'no_capacity' },
    ]);
  });
});

describe('a refusal of our credentials or of the order', () => {
  const refusal = (failureCode: string) =>
    attempt('1', { status: 'gone', purchasedAt: null, failureCode, failureDetail: 'HTTP 401: who are you' });

  it.each(['provider_auth', 'invalid_request'])('(%s) moves the request on to another provider', (code) => {
    const offers = [offer('1'), offer('2'), at('lambda', 'l', { priceMicroUsdPerHour: 500_000n })];
    expect(firstsOf(planInput({ spec: coldstart, offers, attempts: [refusal(code)] }))).toEqual(['l']);
  });

  it('fails the request only when no other provider fits, with what the vendor said', () => {
    const [action] = plan(planInput({ spec: coldstart, attempts: [refusal('provider_auth')] }));
    expect(action).toMatchObject({ kind: 'fail', code: 'provider_auth' });
    expect(JSON.stringify(action)).toContain('HTTP 401: who are you');
    expect(JSON.stringify(action)).toContain('8 of providers that refused this order or our credentials');
  });
});

describe('a provider at which nothing may be bought', () => {
  const offers = [offer('1'), at('lambda', 'l', { priceMicroUsdPerHour: 500_000n })];
  const closed = new Map([['vastai' as const, { reason: 'its listing fell by half', mayReopen: true }]]);

  it('is left out while others go on', () => {
    expect(firstsOf(planInput({ spec: coldstart, offers, closed }))).toEqual(['l']);
  });

  it('is waited for a while where only it fits, then the request fails and says why', () => {
    const input = planInput({ spec: coldstart, offers: [offer('1')], closed, requestedAt: NOW });
    expect(plan(input)).toMatchObject([{ kind: 'wait', reason: expect.stringContaining('fell by half') as string }]);
    const later = plan({ ...input, now: NOW + RESERVED_PATIENCE_MS });
    expect(later).toMatchObject([
      { kind: 'fail', reason: expect.stringContaining('vastai: its listing fell by half') as string },
    ]);
  });

  it('gives an attempt under way there no further candidate', () => {
    const buying = attempt('1', { status: 'buying', purchasedAt: null });
    const input = planInput({ attempts: [buying], offers: [offer('1'), at('lambda', 'l')] });
    expect(nextCandidates(input, '1').map((one) => one.providerOfferId)).toEqual(['1']);
    expect(nextCandidates({ ...input, closed }, '1')).toEqual([]);
  });

  it('does not keep the deadlines of machines elsewhere from being enforced', () => {
    const late = { purchasedAt: 0, bootDeadline: NOW - 1 };
    const attempts = [attempt('v', late), attempt('l', { ...late, provider: 'lambda' })];
    expect(plan(planInput({ attempts, unseenProviders: new Set(['vastai'] as const) }))).toMatchObject([
      { kind: 'abandon', attemptId: 'l' },
    ]);
  });

  it('takes back what was never sent without counting it as a try, nor its offer as used', () => {
    const unsent = attempt('1', {
      status: 'gone',
      purchasedAt: null,
      failureCode: 'provider_quarantined',
      machineId: 'm1',
      providerOfferId: '1',
    });
    const once = { ...coldstart, maxAttemptsPerInstance: 1 };
    expect(firstsOf(planInput({ spec: once, offers: [offer('1')], attempts: [unsent] }))).toEqual(['1']);
  });
});

describe("a container image of one's own", () => {
  it('is bought only where containers are rented', () => {
    const offers = PROVIDER_NAMES.map((provider) => at(provider, provider));
    const input = planInput({
      offers,
      spec: spec({ raceWidth: 4, requirements: requirements({ needsContainer: true }) }),
    });
    expect(providersOf(input).toSorted(compareTexts)).toEqual(['runpod', 'vastai']);
  });
});

describe('which providers are closed', () => {
  const state = (over: Partial<ProviderState> = {}): ProviderState => ({
    provider: 'vastai',
    isOn: true,
    status: 'ok',
    reason: null,
    hasOffers: true,
    circuit: null,
    ...over,
  });
  const cases: [string, Partial<ProviderState>, boolean | null][] = [
    ['one that is ok', {}, null],
    ['one that a person switched off', { isOn: false }, false],
    ['one without an account', { status: 'off' }, false],
    ['one that never listed offers', { status: 'unknown', hasOffers: false }, true],
    ['one in quarantine', { status: 'quarantined', reason: 'fell' }, true],
    ['one that refuses our key', { status: 'auth_failed', reason: 'HTTP 401' }, true],
    ['one with an open circuit', { circuit: { reason: '5 of 6 purchases failed', mayReopen: true } }, true],
  ];
  it.each(cases)('%s', (_, over, mayReopen) => {
    const closed = findClosed([state(over)], []);
    expect(closed.get('vastai')?.mayReopen ?? null).toBe(mayReopen);
    expect(isMarketBelieved([state(over)], [], closed)).toBe(mayReopen !== true);
  });

  it('asks only those that the request wants', () => {
    const states = [state({ status: 'quarantined' }), state({ provider: 'lambda' })];
    expect([...findClosed(states, ['lambda']).keys()]).toEqual([]);
    const closed = findClosed(states, ['vastai']);
    expect(isMarketBelieved(states, ['vastai'], closed)).toBe(false);
    expect(isMarketBelieved(states, [], findClosed(states, []))).toBe(true);
  });
});

function compareTexts(a = '', b = ''): number {
  return a < b ? -1 : Number(a > b);
}
