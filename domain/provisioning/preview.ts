/** A preview: what a request would buy and cost if it were made now. It buys, reserves and promises nothing. */
import type { MachineRecord } from '../machine-history.ts';
import { per30Days, type MicroUsd } from '../money.ts';
import type { Offer } from '../offer.ts';
import type { ProviderName } from '../provider.ts';
import { dealCandidates } from './deal.ts';
import { explainNoMatch, offerKey, sortOut } from './match.ts';
import { chanceOfAny, type Outlook, type ProviderRecord, type ReadyTimes } from './outlook.ts';
import { WAVE_PLANNERS } from './plan.ts';
import { MAX_CANDIDATES, type ClosedProvider, type ProvisionSpec } from './planner.ts';
import { racerCeiling, remainingRaceBudget, worstCaseCost } from './race.ts';
import { groupByPlace, rankOffers, type Place, type RankedOffer } from './rank.ts';
import { countRoom, isAffordable } from './wave.ts';

/** The chance that a race should give its instance before it is worth no further racer. */
export const ADVISED_CHANCE = 0.99;
/** As wide as a request may ask for. */
export const MAX_RACE_WIDTH = 10;

export interface PreviewCandidate {
  offer: Offer;
  /** With the requested disk. */
  priceMicroUsdPerHour: MicroUsd;
  priceMicroUsdPer30Days: MicroUsd;
  outlook: Outlook;
  /** Whether the plan would buy it first. */
  isFirstChoice: boolean;
}

export interface PlanPreview {
  /** First choices and others by rank, best first; at most `limit`, but every first choice. */
  candidates: PreviewCandidate[];
  /** All offers that fit, beyond `limit` too. */
  fittingOffers: number;
  /** Distinct machines among them, as far as vendors name them. */
  fittingMachines: number;
  /** Machines bought at once for each instance; 0 where nothing fits. */
  effectiveRaceWidth: number;
  /** The fewest with which an instance becomes ready with ADVISED_CHANCE within the race budget, or as many as that allows. */
  advisedRaceWidth: number;
  /** Of the machines that the instances would keep, the cheapest of each wave taken. */
  priceMicroUsdPerHour: MicroUsd;
  /** At most so much is spent beyond the winners, for the whole request. */
  worstCaseRaceCostMicroUsd: MicroUsd;
  /** That every instance has one ready of its first wave; null where an instance gets nothing. */
  chanceOfSuccess: number | null;
  /** From purchase to ready of the first wave's fastest, of the slowest instance; null where nothing is known. */
  p50ReadyMs: number | null;
  p95ReadyMs: number | null;
  /** Why nothing, or too little, can be bought; null where there is enough. */
  shortage: string | null;
}

export interface PreviewInput {
  spec: ProvisionSpec;
  count: number;
  offers: readonly Offer[];
  machines: readonly MachineRecord[];
  /** @default summed up from `machines` */
  providers?: readonly ProviderRecord[];
  readyTimes?: ReadonlyMap<string, ReadyTimes>;
  closed?: ReadonlyMap<ProviderName, ClosedProvider>;
  reserved: ReadonlySet<string>;
  seed: string;
  /** @default MAX_CANDIDATES */
  limit?: number;
  now: number;
}

export function previewPlan(input: PreviewInput): PlanPreview {
  const { spec, count } = input;
  const { ranked, shortageOf } = findFitting(input);
  const places = groupByPlace(ranked);
  const needs = Array.from({ length: count }, (_, index) => ({ instanceId: String(index), earlier: [] }));
  const planWave = WAVE_PLANNERS[spec.strategy];
  const slots = dealCandidates({ needs, places, spec, instanceCount: count, planWave });
  const byKey = new Map(ranked.map((one) => [offerKey(one.offer), one]));
  const waves = Map.groupBy(slots, (slot) => slot.instanceId);
  const firsts = [...waves.values()].map((wave) =>
    wave.flatMap(({ candidates: [offer] }) => (offer ? [byKey.get(offerKey(offer)) as RankedOffer] : [])),
  );
  const width = Math.max(0, ...firsts.map((wave) => wave.length));
  return {
    candidates: listCandidates(ranked, firsts.flat(), input.limit ?? MAX_CANDIDATES),
    fittingOffers: ranked.length,
    fittingMachines: places.length,
    effectiveRaceWidth: width,
    advisedRaceWidth: adviseRaceWidth(input, places),
    priceMicroUsdPerHour: firsts.reduce((sum, wave) => sum + cheapestOf(wave), 0n),
    worstCaseRaceCostMicroUsd: firsts.reduce((sum, wave) => sum + losersCost(spec, wave), 0n),
    chanceOfSuccess: firsts.length < count ? null : multiply(firsts.map((wave) => chanceOfAny(chancesOf(wave)))),
    p50ReadyMs: slowestOf(firsts.map((wave) => fastestOf(wave.map(({ outlook }) => outlook.p50ReadyMs)))),
    p95ReadyMs: slowestOf(firsts.map((wave) => fastestOf(wave.map(({ outlook }) => outlook.p95ReadyMs)))),
    shortage: shortageOf(firsts.length),
  };
}

/** What each offer that could be bought for the request now would cost, by offer key. */
export function pricesNow(input: Omit<PreviewInput, 'count' | 'limit'>): Map<string, MicroUsd> {
  return new Map(findFitting({ ...input, count: 1 }).ranked.map(({ offer, price }) => [offerKey(offer), price]));
}

function findFitting(input: PreviewInput): { ranked: RankedOffer[]; shortageOf: (served: number) => string | null } {
  const { requirements, bootTimeoutMs } = input.spec;
  const { offers, machines, providers, readyTimes, reserved, closed, seed, now } = input;
  const used = new Set<string>();
  const { fitting, tally } = sortOut({
    requirements,
    offers,
    machines,
    reserved,
    used,
    bootTimeoutMs,
    now,
    ...(closed ? { closed } : {}),
  });
  const ranked = rankOffers(fitting, { requirements, machines, providers, readyTimes, seed });
  const shortageOf = (served: number) => {
    if (served >= input.count) return null;
    if (served === 0) return explainNoMatch(tally, requirements);
    return `${served} fitting machine${served === 1 ? ' is' : 's are'} listed, ${input.count} are asked for.`;
  };
  return { ranked, shortageOf };
}

function listCandidates(ranked: RankedOffer[], firsts: RankedOffer[], limit: number): PreviewCandidate[] {
  const chosen = new Set(firsts);
  let others = Math.max(0, limit - chosen.size);
  return ranked
    .filter((one) => chosen.has(one) || others-- > 0)
    .map((one) => ({
      offer: one.offer,
      priceMicroUsdPerHour: one.price,
      priceMicroUsdPer30Days: per30Days(one.price),
      outlook: one.outlook,
      isFirstChoice: chosen.has(one),
    }));
}

/** Only for one instance of the request; the others share the budget and are alike. */
function adviseRaceWidth({ spec, count }: PreviewInput, places: readonly Place[]): number {
  const budget = remainingRaceBudget(spec, count, []);
  const share = Math.max(1, Math.floor(countRoom(places, null) / Math.max(1, count)));
  let advised = 0;
  for (let width = 1; width <= Math.min(MAX_RACE_WIDTH, share, spec.maxAttemptsPerInstance); width += 1) {
    const ceiling = racerCeiling(spec, budget, width);
    if (countRoom(places, ceiling) < width) break;
    advised = width;
    const chances = places.filter((place) => isAffordable(place, ceiling)).flatMap((place) => roomOf(place, width));
    if (chanceOfAny(chances.slice(0, width)) >= ADVISED_CHANCE) break;
  }
  return advised;
}

/** A chance for each racer that the place has room for. */
function roomOf(place: Place, width: number): number[] {
  const chance = place.offers[0]?.outlook.chance ?? 0;
  return Array.from({ length: place.isNamed ? 1 : Math.min(place.capacity, width) }, () => chance);
}

function chancesOf(wave: readonly RankedOffer[]): number[] {
  return wave.map(({ outlook }) => outlook.chance);
}

/** Whoever of the wave wins, the others cost no more. */
function losersCost(spec: ProvisionSpec, wave: readonly RankedOffer[]): MicroUsd {
  const dearest = wave.reduce((most, { price }) => (price > most ? price : most), 0n);
  return BigInt(Math.max(0, wave.length - 1)) * worstCaseCost(spec, dearest);
}

function cheapestOf(wave: readonly RankedOffer[]): MicroUsd {
  return wave.reduce((least, { price }) => (price < least ? price : least), wave[0]?.price ?? 0n);
}

function fastestOf(times: (number | null)[]): number | null {
  const known = times.filter((one) => one !== null);
  return known.length === 0 ? null : Math.min(...known);
}

function slowestOf(times: (number | null)[]): number | null {
  const known = times.filter((one) => one !== null);
  return known.length === 0 ? null : Math.max(...known);
}

function multiply(chances: readonly number[]): number {
  return chances.reduce((product, chance) => product * chance, 1);
}
