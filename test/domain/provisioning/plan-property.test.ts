/**
 * The planners against a simulated market: a worker that carries plans out, a vendor that refuses, fails, loses and delivers at
 * random, until the plan is empty. The rules are checked after every step.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isWanted } from '../../../domain/attempt.ts';
import { priceWithDisk, type Offer } from '../../../domain/offer.ts';
import { matchesRequirements, offerKey, placeKey } from '../../../domain/provisioning/match.ts';
import { nextCandidates, plan } from '../../../domain/provisioning/plan.ts';
import type { PlanAction, PlanInput, PlannedAttempt } from '../../../domain/provisioning/planner.ts';
import { racerCeiling, worstCaseCost } from '../../../domain/provisioning/race.ts';
import { anyOffers, anySpec, instance, NOW } from './market.ts';

interface World {
  input: PlanInput;
  made: number;
  /** What each attempt may still try. */
  queues: Map<string, Offer[]>;
  /** Offers bought, in order. */
  bought: Offer[];
  everListed: Offer[];
  random: () => number;
}

const anyWorld = fc.record({
  spec: anySpec,
  offers: anyOffers,
  count: fc.integer({ min: 1, max: 4 }),
  seed: fc.string({ maxLength: 8 }),
  // Ends in zeros: a market that has calmed down.
  outcomes: fc.array(
    fc.integer({ min: 0, max: 999 }).map((n) => n / 1000),
    { minLength: 1, maxLength: 60 },
  ),
});

function startWorld(given: {
  spec: PlanInput['spec'];
  offers: Offer[];
  count: number;
  seed: string;
  outcomes: number[];
}): World {
  let next = 0;
  const instances = Array.from({ length: given.count }, (_, index) => instance(`i${index}`));
  return {
    input: {
      spec: given.spec,
      instances,
      attempts: [],
      offers: given.offers,
      machines: [],
      reserved: new Set(),
      seed: given.seed,
      offersBelievable: true,
      now: NOW,
    },
    made: 0,
    queues: new Map(),
    bought: [],
    everListed: given.offers,
    random: () => given.outcomes[next++ % given.outcomes.length] as number,
  };
}

/** Carries an action out as the worker and the engine do, with an outcome drawn at random. */
function apply(world: World, action: PlanAction): void {
  const { input } = world;
  switch (action.kind) {
    case 'buy':
      return reserve(world, action.instanceId, action.candidates);
    case 'win':
      findInstance(input, action.instanceId).winnerAttemptId = action.attemptId;
      findInstance(input, action.instanceId).status = 'ready';
      return;
    case 'abandon': {
      const attempt = findAttempt(input, action.attemptId);
      attempt.status = world.random() < 0.5 ? 'destroying' : 'gone';
      attempt.failureCode = action.code;
      return;
    }
    case 'fail':
      findInstance(input, action.instanceId).status = 'destroying';
      return;
    case 'wait':
      return passTime(world, action.until);
  }
}

/** The worker commits every attempt of a plan with its first free candidate before the engine buys any. */
function reserve(world: World, instanceId: string, candidates: Offer[]): void {
  const { input } = world;
  const first = candidates[0] as Offer;
  const attempt: PlannedAttempt = {
    id: `att${world.made++}`,
    instanceId,
    status: 'reserved',
    provider: first.provider,
    providerOfferId: null,
    machineId: null,
    priceMicroUsdPerHour: null,
    purchasedAt: null,
    readyAt: null,
    bootDeadline: null,
    createdAt: input.now,
    failureCode: null,
  };
  // A plan hands out no more of an offer than there is: the first candidate is free without asking.
  expect(isFree(world, attempt, first)).toBe(true);
  assign(world, attempt, first);
  input.attempts.push(attempt);
  findInstance(input, instanceId).status = 'creating';
  world.queues.set(attempt.id, candidates);
}

/** The engine buys what is reserved; after a refusal the next free candidate, from the list dealt or asked for anew. */
function buyReserved(world: World): void {
  const { input } = world;
  for (const attempt of input.attempts.filter((one) => one.status === 'reserved')) {
    const refused = new Set<string>();
    let queue = world.queues.get(attempt.id) ?? [];
    for (let offer = queue[0]; offer !== undefined; offer = queue[0]) {
      assign(world, attempt, offer);
      if (world.random() < 0.6) {
        attempt.status = 'bought';
        attempt.purchasedAt = input.now;
        attempt.bootDeadline = input.now + input.spec.bootTimeoutMs;
        world.bought.push(offer);
        countPurchase(world, offer);
        findInstance(input, attempt.instanceId).status = 'booting';
        break;
      }
      refused.add(offerKey(offer));
      if (world.random() < 0.5) input.offers = input.offers.filter((one) => offerKey(one) !== offerKey(offer));
      queue = world.random() < 0.5 ? queue.slice(1) : nextCandidates(input, attempt.id, refused);
      queue = queue.filter((one) => one.provider === attempt.provider && isFree(world, attempt, one));
    }
    if (attempt.status === 'bought') continue;
    attempt.status = 'gone';
    attempt.failureCode = 'no_capacity';
  }
}

/** What the database does: one less of every offer of the machine. */
function countPurchase(world: World, bought: Offer): void {
  world.input.offers = world.input.offers.flatMap((offer) => {
    if (placeKey(offer) !== placeKey(bought) || offer.stock === null) return [offer];
    return offer.stock > 1 ? [{ ...offer, stock: offer.stock - 1 }] : [];
  });
}

/** What the reservation in the database decides, and that two attempts of an instance never share a named machine. */
function isFree(world: World, attempt: PlannedAttempt, offer: Offer): boolean {
  const others = world.input.attempts.filter((one) => one !== attempt && one.provider === offer.provider);
  const onIt = others.filter((one) =>
    offer.machineId === null ? one.providerOfferId === offer.providerOfferId : one.machineId === offer.machineId,
  );
  if (offer.stock === 1) return onIt.length === 0;
  if (offer.machineId !== null && onIt.some((one) => one.instanceId === attempt.instanceId)) return false;
  const listed = world.everListed.find((one) => offerKey(one) === offerKey(offer));
  return onIt.filter((one) => isWanted(one.status)).length < (listed?.stock ?? Infinity);
}

function assign(world: World, attempt: PlannedAttempt, offer: Offer): void {
  attempt.providerOfferId = offer.providerOfferId;
  attempt.machineId = offer.machineId;
  attempt.priceMicroUsdPerHour = priceWithDisk(offer, world.input.spec.requirements.diskGib);
}

function passTime(world: World, until: number): void {
  expect(until).toBeGreaterThan(world.input.now);
  world.input.now += Math.ceil((until - world.input.now) * Math.max(0.3, world.random()));
  for (const attempt of world.input.attempts.filter((one) => one.status === 'bought')) {
    const draw = world.random();
    if (draw < 0.3) {
      attempt.status = 'ready';
      attempt.readyAt = world.input.now;
    } else if (draw < 0.4) attempt.status = 'lost';
    else if (draw < 0.5) {
      attempt.status = 'destroying';
      attempt.failureCode = 'boot_failed';
    }
  }
  // Somebody who cannot wait.
  if (world.random() > 0.97) (world.input.instances[0] as { status: string }).status = 'destroying';
}

function checkRules(world: World): void {
  const { input } = world;
  const alive = input.attempts.filter((one) => isWanted(one.status));
  for (const [, sharing] of Map.groupBy(alive, (one) => `${one.provider}/${one.machineId ?? one.providerOfferId}`)) {
    const offer = world.everListed.find(
      (one) => one.provider === sharing[0]?.provider && one.providerOfferId === sharing[0].providerOfferId,
    );
    expect(sharing.length).toBeLessThanOrEqual(offer?.stock ?? Infinity);
    if (offer?.machineId == null) continue;
    expect(new Set(sharing.map((one) => one.instanceId)).size).toBe(sharing.length);
  }
  for (const one of input.instances) {
    const own = input.attempts.filter((attempt) => attempt.instanceId === one.id);
    const width = own.filter((attempt) => isWanted(attempt.status)).length;
    expect(width).toBeLessThanOrEqual(input.spec.strategy === 'race' ? input.spec.raceWidth : 1);
    expect(own.length).toBeLessThanOrEqual(input.spec.maxAttemptsPerInstance);
    if (width > 1) checkExtraSpend(world, own);
  }
  for (const offer of world.bought) {
    expect(
      priceWithDisk(offer, input.spec.requirements.diskGib) <= input.spec.requirements.maxPriceMicroUsdPerHour,
    ).toBe(true);
  }
}

/** Whoever of those alive wins, all others ever bought for the instance stay within its share of the race budget. */
function checkExtraSpend(world: World, attempts: PlannedAttempt[]): void {
  const { spec, instances } = world.input;
  const cost = (one: PlannedAttempt) => worstCaseCost(spec, one.priceMicroUsdPerHour ?? 0n);
  const alive = attempts.filter((one) => isWanted(one.status));
  const dead = attempts.filter((one) => !isWanted(one.status) && one.purchasedAt !== null);
  const total = [...alive, ...dead].reduce((sum, one) => sum + cost(one), 0n);
  const cheapest = alive.map(cost).reduce((least, one) => (one < least ? one : least));
  expect(total - cheapest).toBeLessThanOrEqual(spec.maxRaceCostMicroUsd / BigInt(instances.length));
}

function checkPlan(world: World, actions: PlanAction[]): void {
  const buys = actions.filter((action) => action.kind === 'buy');
  const places = buys.map((action) => new Set(action.candidates.map(placeKey)));
  for (const action of buys) {
    expect(action.candidates.length).toBeGreaterThan(0);
    expect(['requested', 'creating', 'booting']).toContain(findInstance(world.input, action.instanceId).status);
  }
  const dealt = buys.flatMap((action) => [...new Set(action.candidates)]);
  for (const [, same] of Map.groupBy(dealt, offerKey)) {
    expect(same.length).toBeLessThanOrEqual(same[0]?.stock ?? Infinity);
  }
  for (const place of new Set(places.flatMap((one) => [...one]))) {
    const [offer] = dealt.filter((one) => placeKey(one) === place);
    if (offer?.stock === 1) expect(places.filter((one) => one.has(place))).toHaveLength(1);
  }
  if (actions.some((action) => action.kind === 'wait')) expect(actions).toHaveLength(1);
}

function findAttempt(input: PlanInput, id: string): PlannedAttempt {
  return input.attempts.find((one) => one.id === id) as PlannedAttempt;
}

function findInstance(input: PlanInput, id: string) {
  return input.instances.find((one) => one.id === id) as PlanInput['instances'][number];
}

describe('planners in a random market', () => {
  it('keep every rule at every step, and come to an end with one winner alone or none', () => {
    fc.assert(
      fc.property(anyWorld, (given) => {
        const world = startWorld(given);
        // Per attempt at most: buy, a bounded number of waits until its deadline, abandon; plus one win or fail per instance.
        let steps = 0;
        for (let actions = plan(world.input); actions.length > 0; actions = plan(world.input)) {
          checkPlan(world, actions);
          for (const action of actions) apply(world, action);
          checkRules(world);
          buyReserved(world);
          checkRules(world);
          steps += 1;
          expect(steps).toBeLessThan(2_000);
        }
        for (const one of world.input.instances) {
          const alive = world.input.attempts.filter((a) => a.instanceId === one.id && isWanted(a.status));
          if (one.status === 'destroying') continue;
          expect(one.status).toBe('ready');
          expect(world.input.attempts.some((a) => a.instanceId === one.id && a.status === 'lost')).toBe(false);
          expect(alive.map((a) => a.id)).toEqual([one.winnerAttemptId]);
        }
      }),
      { numRuns: 150, endOnFailure: true },
    );
  });

  it('buy and fail nothing while the offers are not believed', () => {
    fc.assert(
      fc.property(anyWorld, (given) => {
        const world = startWorld(given);
        for (let step = 0; step < 3; step += 1) {
          const disbelieving = plan({ ...world.input, offersBelievable: false });
          expect(disbelieving.filter((action) => action.kind === 'buy' || action.kind === 'fail')).toEqual([]);
          for (const attempt of world.input.attempts) {
            expect(nextCandidates({ ...world.input, offersBelievable: false }, attempt.id)).toEqual([]);
          }
          for (const action of plan(world.input)) apply(world, action);
          buyReserved(world);
        }
      }),
    );
  });

  it('give the same plan for the same state, whatever the order of the offers', () => {
    fc.assert(
      fc.property(anyWorld, (given) => {
        const { input } = startWorld(given);
        expect(plan({ ...input, offers: [...input.offers].reverse() })).toEqual(plan(input));
      }),
    );
  });
});

describe('round robin in a random market', () => {
  it('asks another provider than the last whenever one fits, and whose turn is longest ago', () => {
    fc.assert(
      fc.property(anyWorld, (given) => {
        const world = startWorld({ ...given, count: 1, spec: { ...given.spec, strategy: 'round_robin' } });
        for (let actions = plan(world.input); actions.length > 0; actions = plan(world.input)) {
          for (const action of actions.filter((one) => one.kind === 'buy')) checkTurn(world, action);
          for (const action of actions) apply(world, action);
          buyReserved(world);
        }
      }),
      { endOnFailure: true },
    );
  });
});

/** The turns of all providers that have something for this attempt: nobody whose turn is longer ago is passed over. */
function checkTurn(world: World, buy: Extract<PlanAction, { kind: 'buy' }>): void {
  const { attempts, spec } = world.input;
  const turns = new Map(attempts.map((one, index) => [one.provider, index]));
  const turnOf = (provider: Offer['provider']) => turns.get(provider) ?? -1;
  const chosen = (buy.candidates[0] as Offer).provider;
  const failed = new Set(attempts.map((one) => `${one.provider}/${one.machineId ?? one.providerOfferId}`));
  for (const offer of world.input.offers) {
    if (turnOf(offer.provider) >= turnOf(chosen) || failed.has(placeKey(offer).replace('/machine/', '/'))) continue;
    expect(matchesRequirements(offer, spec.requirements), `${placeKey(offer)} was passed over`).toBe(false);
  }
  const order = buy.candidates.map((one) => turnOf(one.provider));
  expect(order).toEqual(order.toSorted((a, b) => a - b));
}

describe('the price ceiling of a race', () => {
  it('keeps all racers but one within the budget', () => {
    fc.assert(
      fc.property(
        anySpec,
        fc.bigInt({ min: 0n, max: 1_000_000n }),
        fc.integer({ min: 2, max: 8 }),
        (spec, budget, width) => {
          const ceiling = racerCeiling(spec, budget, width);
          expect(worstCaseCost(spec, ceiling) * BigInt(width - 1) <= budget).toBe(true);
        },
      ),
    );
  });
});
