/**
 * The plan of a provisioning request: what to do next about its instances. Asked again after every change; the same state gives
 * the same plan, and a plan that was carried out is not made again.
 *
 *   []            every instance has its winner alone, or is somebody else's business: the request is done
 *   only `wait`   nothing to do now
 *   otherwise     carry out all of it, in any order, and ask again
 *
 * Attempts that are `reserved` or `buying` are in the engine's hands: they count as alive and are never bought a second time.
 * Instances that are destroying or destroyed, and their attempts, are left to the destroy operation.
 */
import { isWanted } from '../attempt.ts';
import { ERROR_TABLE, type ErrorCode } from '../error-table.ts';
import { isProvisioning, type InstanceStatus } from '../instance.ts';
import type { Offer } from '../offer.ts';
import type { ProviderName } from '../provider.ts';
import { planColdstartWave } from './coldstart.ts';
import { dealCandidates, type Need } from './deal.ts';
import { explainNoMatch, machineKey, offerKey, sortOut, type MatchTally } from './match.ts';
import {
  MAX_CANDIDATES,
  PURCHASE_RECHECK_MS,
  QUARANTINE_RECHECK_MS,
  RESERVED_PATIENCE_MS,
  RESERVED_RECHECK_MS,
  type PlanAction,
  type PlanInput,
  type PlannedAttempt,
  type PlannedInstance,
  type StrategyName,
} from './planner.ts';
import { planRaceWave, racerCeiling, remainingRaceBudget } from './race.ts';
import { planRoundRobinWave } from './round-robin.ts';
import { groupByPlace, rankOffers, type Place, type RankedOffer } from './rank.ts';
import type { WavePlanner } from './wave.ts';

export const WAVE_PLANNERS: Record<StrategyName, WavePlanner> = {
  race: planRaceWave,
  round_robin: planRoundRobinWave,
  coldstart: planColdstartWave,
  serverless: planColdstartWave,
};

type WaitAction = Extract<PlanAction, { kind: 'wait' }>;
type AbandonAction = Extract<PlanAction, { kind: 'abandon' }>;

/** What one instance needs, before the market is looked at. */
interface Settled {
  instanceId: string;
  actions: PlanAction[];
  waits: WaitAction[];
  /** It has nothing alive and may try again. */
  isWanting: boolean;
}

const NOT_OURS: readonly InstanceStatus[] = ['destroying', 'destroyed'];

export function plan(input: PlanInput): PlanAction[] {
  const byInstance = Map.groupBy(input.attempts.filter(wasTried), (attempt) => attempt.instanceId);
  const settled = input.instances.map((instance) => settle(instance, byInstance.get(instance.id) ?? [], input));
  const actions = settled.flatMap((one) => one.actions);
  const waits = settled.flatMap((one) => one.waits);
  const wanting = new Set(settled.flatMap((one) => (one.isWanting ? [one.instanceId] : [])));
  if (wanting.size > 0) {
    // What this very plan abandons has failed as well: the next wave counts it so.
    const attempts = withAbandoned(input.attempts, actions);
    const needs = [...wanting].map((instanceId) => ({
      instanceId,
      earlier: countedAttempts(input, instanceId, attempts),
    }));
    for (const action of shop(needs, { ...input, attempts })) {
      if (action.kind === 'wait') waits.push(action);
      else actions.push(action);
    }
  }
  if (actions.length > 0) return actions;
  const first = waits.sort((a, b) => a.until - b.until)[0];
  return first === undefined ? [] : [first];
}

/**
 * What an attempt may try after its candidate was definitely refused, best first and at its own provider; empty: give the attempt
 * up. (Another provider's offer is another attempt: the engine has begun this one as a resource of its provider.)
 * @param refused offer keys that were refused to this attempt before the one it holds
 */
export function nextCandidates(input: PlanInput, attemptId: string, refused?: ReadonlySet<string>): Offer[] {
  const attempt = input.attempts.find((one) => one.id === attemptId);
  if (attempt === undefined || !isWanted(attempt.status) || !input.offersBelievable) return [];
  const siblings = countedAttempts(input, attempt.instanceId, input.attempts);
  const alive = siblings.filter((one) => isWanted(one.status)).length;
  const budget = remainingRaceBudget(input.spec, input.instances.length, siblings);
  const ceiling = racerCeiling(input.spec, budget, alive);
  // The bid goes with the attempt: the engine sends it with whatever offer it buys.
  const bidMicroUsdPerHour = attempt.bidMicroUsdPerHour ?? input.spec.requirements.bidMicroUsdPerHour ?? null;
  const requirements = { ...input.spec.requirements, bidMicroUsdPerHour };
  const { ranked } = findCandidates({ ...input, spec: { ...input.spec, requirements } }, attempt);
  return ranked
    .filter(({ offer, price }) => price <= ceiling && refused?.has(offerKey(offer)) !== true)
    .filter(({ offer }) => offer.provider === attempt.provider)
    .slice(0, MAX_CANDIDATES)
    .map(({ offer }) => offer);
}

function settle(instance: PlannedInstance, attempts: PlannedAttempt[], input: PlanInput): Settled {
  const nothing: Settled = { instanceId: instance.id, actions: [], waits: [], isWanting: false };
  if (NOT_OURS.includes(instance.status)) return nothing;
  const winnerId = instance.winnerAttemptId ?? findFirstReady(attempts)?.id;
  if (winnerId !== undefined) return { ...nothing, actions: settleWinner(instance, winnerId, attempts) };
  if (!isProvisioning(instance.status)) return nothing;

  const actions = abandonHopeless(attempts, input);
  const alive = withAbandoned(attempts, actions).filter((one) => isWanted(one.status));
  if (alive.length > 0) return { ...nothing, actions, waits: [waitForAlive(alive, input)] };
  return { ...nothing, actions, isWanting: true };
}

/** Of its present life, and really tried. */
function countedAttempts(input: PlanInput, instanceId: string, attempts: readonly PlannedAttempt[]): PlannedAttempt[] {
  const since = input.instances.find((one) => one.id === instanceId)?.since ?? -Infinity;
  return attempts.filter((one) => one.instanceId === instanceId && wasTried(one) && one.createdAt >= since);
}

function withAbandoned(attempts: readonly PlannedAttempt[], actions: readonly PlanAction[]): PlannedAttempt[] {
  const abandoned = new Map(
    actions.flatMap((action) => (action.kind === 'abandon' ? [[action.attemptId, action.code] as const] : [])),
  );
  return attempts.map((attempt) => {
    const failureCode = abandoned.get(attempt.id);
    return failureCode === undefined ? attempt : { ...attempt, status: 'destroying' as const, failureCode };
  });
}

function settleWinner(instance: PlannedInstance, winnerId: string, attempts: PlannedAttempt[]): PlanAction[] {
  const actions: PlanAction[] = [];
  if (instance.winnerAttemptId === null) actions.push({ kind: 'win', instanceId: instance.id, attemptId: winnerId });
  for (const rival of attempts) {
    if (rival.id === winnerId || !(isWanted(rival.status) || rival.status === 'lost')) continue;
    const reason = `lost the race: ${winnerId} was ready first`;
    actions.push({ kind: 'abandon', attemptId: rival.id, code: 'canceled', reason });
  }
  return actions;
}

function abandonHopeless(attempts: PlannedAttempt[], input: PlanInput): AbandonAction[] {
  return attempts.flatMap((attempt): AbandonAction[] => {
    const attemptId = attempt.id;
    if (input.unseenProviders?.has(attempt.provider)) return [];
    if (attempt.status === 'lost') {
      const reason = 'the machine vanished at the provider while it booted';
      return [{ kind: 'abandon', attemptId, code: 'lost', reason }];
    }
    if (attempt.status !== 'bought' || deadlineOf(attempt, input) > input.now) return [];
    const age = formatAge(input.now - (attempt.purchasedAt ?? attempt.createdAt));
    return [{ kind: 'abandon', attemptId, code: 'boot_timeout', reason: `not ready ${age} after its purchase` }];
  });
}

function waitForAlive(alive: PlannedAttempt[], input: PlanInput): WaitAction {
  const buying = alive.filter((one) => one.status === 'reserved' || one.status === 'buying');
  if (buying.length > 0) {
    const reason = `${countOf(buying.length, 'purchase')} under way`;
    return { kind: 'wait', until: input.now + PURCHASE_RECHECK_MS, reason };
  }
  const deadline = Math.min(...alive.map((one) => deadlineOf(one, input)));
  // Past the deadline only while the listing is not believed.
  const until = deadline > input.now ? deadline : input.now + QUARANTINE_RECHECK_MS;
  return { kind: 'wait', until, reason: `${countOf(alive.length, 'machine')} booting` };
}

/** Buys for those that may try again, or says why not. */
function shop(needs: Need[], input: PlanInput): PlanAction[] {
  if (!input.offersBelievable) {
    const closed = [...(input.closed ?? [])].map(([provider, { reason }]) => `${provider}: ${reason}`);
    const reason = `the listing of offers is not believed${closed.length > 0 ? `: ${closed.join('; ')}` : ''}`;
    return [{ kind: 'wait', until: input.now + QUARANTINE_RECHECK_MS, reason }];
  }
  const { ranked, tally } = findCandidates(input);
  const places = withoutHeld(groupByPlace(ranked), input.attempts);
  const allowed = needs.filter((need) => need.earlier.length < input.spec.maxAttemptsPerInstance);
  const slots = dealCandidates({
    needs: allowed,
    places,
    spec: input.spec,
    instanceCount: input.instances.length,
    planWave: WAVE_PLANNERS[input.spec.strategy],
  });
  const served = new Set(slots.map((slot) => slot.instanceId));
  const left = needs.filter((need) => !served.has(need.instanceId)).map((need) => giveUpOrWait(need, tally, input));
  return [...slots.map((slot) => ({ kind: 'buy' as const, ...slot })), ...left];
}

function giveUpOrWait(need: Need, tally: MatchTally, input: PlanInput): PlanAction {
  const { instanceId, earlier } = need;
  const history = describeHistory(earlier);
  const code = failureCodeOf(earlier);
  if (earlier.length >= input.spec.maxAttemptsPerInstance) {
    const reason = `${history} No more than ${input.spec.maxAttemptsPerInstance} attempts are made per instance.`;
    return { kind: 'fail', instanceId, code, reason };
  }
  const waiting = waitForOffers(tally, input);
  if (waiting !== null) return waiting;
  const counted = Object.values(tally.excluded).reduce((sum, count) => sum + count, 0);
  const why =
    counted < tally.seen
      ? `${countOf(tally.seen - counted, 'fitting offer')} went to the other instances of this request.`
      : explainNoMatch(tally, input.spec.requirements);
  const closed = (tally.excluded.provider_closed ?? 0) > 0 ? describeClosed(input) : '';
  const hidden = input.hiddenOffers ?? 0;
  const sold = hidden > 0 ? `${countOf(hidden, 'further offer')} bought or refused in the last minutes.` : '';
  return {
    kind: 'fail',
    instanceId,
    code,
    reason: [history, why, sold, closed].filter((text) => text !== '').join(' '),
  };
}

/** Offers that would fit and may come back soon: held by requests that may not buy them, or at a provider in trouble. */
function waitForOffers(tally: MatchTally, input: PlanInput): WaitAction | null {
  const patienceEnds = (input.requestedAt ?? -Infinity) + RESERVED_PATIENCE_MS;
  if (input.now >= patienceEnds) return null;
  const held = tally.excluded.reserved ?? 0;
  if (held > 0) {
    const until = Math.min(input.now + RESERVED_RECHECK_MS, patienceEnds);
    return { kind: 'wait', until, reason: `other requests hold the ${countOf(held, 'offer')} that would fit` };
  }
  const mayReopen = [...(input.closed ?? [])].some(([, { mayReopen: may }]) => may);
  if ((tally.excluded.provider_closed ?? 0) === 0 || !mayReopen) return null;
  const until = Math.min(input.now + QUARANTINE_RECHECK_MS, patienceEnds);
  return { kind: 'wait', until, reason: `what would fit cannot be bought now: ${describeClosed(input)}` };
}

function describeClosed(input: PlanInput): string {
  return [...(input.closed ?? [])].map(([provider, { reason }]) => `${provider}: ${reason}`).join('; ');
}

/** @param attempt for whom; absent: for attempts still to be made */
function findCandidates(input: PlanInput, attempt?: PlannedAttempt): { ranked: RankedOffer[]; tally: MatchTally } {
  const { requirements, bootTimeoutMs } = input.spec;
  const { offers, machines, providers, readyTimes, reserved, closed, seed, now } = input;
  const { fitting, tally } = sortOut({
    requirements,
    offers,
    machines,
    reserved,
    bootTimeoutMs,
    now,
    ...triedBefore(input.attempts, attempt),
    ...(closed ? { closed } : {}),
  });
  return {
    ranked: rankOffers(fitting, { requirements, machines, providers, readyTimes, seed }),
    tally,
  };
}

/** What this request is about to buy is in the stock of a listing still; what it bought is not. */
function withoutHeld(places: Place[], attempts: readonly PlannedAttempt[]): Place[] {
  const held = attempts.filter((one) => one.status === 'reserved' || one.status === 'buying');
  const isOn = (place: Place, { provider, providerOfferId, machineId }: PlannedAttempt) =>
    place.key === machineKey({ provider, machineId }) ||
    (providerOfferId !== null && place.key === offerKey({ provider, providerOfferId }));
  return places
    .map((place) => ({ ...place, capacity: place.capacity - held.filter((one) => isOn(place, one)).length }))
    .filter((place) => place.capacity > 0);
}

/** A provider's answer to any order of this request: the next one there would be refused for the same reason. */
const PROVIDER_REFUSALS: readonly (string | null)[] = ['provider_auth', 'invalid_request'] satisfies ErrorCode[];

/**
 * What this request has or had: two attempts never share a machine, and one that failed is not tried again. Where an offer has
 * several machines, only what was refused or turned out bad, and what a rival racer of the same instance has, is kept out.
 */
function triedBefore(
  attempts: readonly PlannedAttempt[],
  forAttempt?: PlannedAttempt,
): { used: Set<string>; spent: Set<string>; refusing: Set<ProviderName> } {
  const used = new Set<string>();
  const spent = new Set<string>();
  const refusing = new Set<ProviderName>();
  for (const attempt of attempts.filter(wasTried)) {
    const { provider, providerOfferId, machineId } = attempt;
    const machine = machineKey({ provider, machineId });
    const offer = providerOfferId === null ? null : offerKey({ provider, providerOfferId });
    const isOver = !isWanted(attempt.status);
    const isRival = attempt.id !== forAttempt?.id && attempt.instanceId === forAttempt?.instanceId;
    if (machine !== null) used.add(machine);
    if (offer !== null) used.add(offer);
    if (machine !== null && (isOver || isRival)) spent.add(machine);
    if (offer !== null && isOver && attempt.purchasedAt === null) spent.add(offer);
    if (isOver && PROVIDER_REFUSALS.includes(attempt.failureCode)) refusing.add(provider);
  }
  return { used, spent, refusing };
}

/** What was taken back before it was sent, because its provider was not believed, says nothing about machine or offer. */
function wasTried(attempt: PlannedAttempt): boolean {
  return !(
    attempt.status === 'gone' &&
    attempt.purchasedAt === null &&
    attempt.failureCode === ('provider_quarantined' satisfies ErrorCode)
  );
}

function findFirstReady(attempts: readonly PlannedAttempt[]): PlannedAttempt | undefined {
  return attempts
    .filter((attempt) => attempt.status === 'ready')
    .sort((a, b) => (a.readyAt ?? Infinity) - (b.readyAt ?? Infinity) || (a.id < b.id ? -1 : 1))[0];
}

function deadlineOf(attempt: PlannedAttempt, input: PlanInput): number {
  return attempt.bootDeadline ?? (attempt.purchasedAt ?? attempt.createdAt) + input.spec.bootTimeoutMs;
}

/** Why the last attempt that says so failed; otherwise there was nothing to buy. */
function failureCodeOf(earlier: readonly PlannedAttempt[]): ErrorCode {
  const codes = [...earlier]
    .sort((a, b) => b.createdAt - a.createdAt)
    .map((attempt) => attempt.failureCode)
    .filter((code) => code !== null && Object.hasOwn(ERROR_TABLE, code) && code !== 'canceled');
  return (codes[0] as ErrorCode | undefined) ?? 'no_capacity';
}

function describeHistory(earlier: readonly PlannedAttempt[]): string {
  if (earlier.length === 0) return '';
  const counts = new Map<string, number>();
  for (const attempt of earlier) {
    const code = attempt.failureCode ?? 'unknown';
    counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  const codes = [...counts].map(([code, count]) => `${count} ${code}`).join(', ');
  const last = earlier.toSorted((a, b) => b.createdAt - a.createdAt).find((attempt) => attempt.failureDetail);
  const detail = last ? ` The last: ${last.failureDetail}.` : '';
  return `${countOf(earlier.length, 'attempt')} failed (${codes}).${detail}`;
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function formatAge(ms: number): string {
  return ms < 90_000 ? `${Math.round(ms / 1000)} seconds` : `${Math.round(ms / 60_000)} minutes`;
}
