/**
 * Dealing: hands the free machines out to the attempts that a plan is about to make. A machine goes to one attempt only, so that
 * no two attempts of a request can end up on the same one, whichever candidates are refused; an offer of several machines goes to
 * as many attempts as it has.
 */
import type { MicroUsd } from '../money.ts';
import type { Offer } from '../offer.ts';
import { offerKey } from './match.ts';
import { MAX_CANDIDATES, type PlannedAttempt, type ProvisionSpec } from './planner.ts';
import type { Place } from './rank.ts';
import { isAffordable, type Wave, type WavePlanner } from './wave.ts';

/** An instance that has nothing alive. */
export interface Need {
  instanceId: string;
  /** Its attempts so far. */
  earlier: PlannedAttempt[];
}

/** One attempt to make. */
export interface DealtAttempt {
  instanceId: string;
  /** Best first; at least one, at most MAX_CANDIDATES. */
  candidates: Offer[];
}

interface Slot {
  instanceId: string;
  wave: Wave;
  places: Place[];
}

/**
 * Every instance gets its first machine before any gets a second racer; then the machines that are left are dealt round as
 * further candidates. Instances for which there is no machine get nothing.
 */
export function dealCandidates(deal: {
  needs: readonly Need[];
  /** Free machines, best first. */
  places: readonly Place[];
  spec: ProvisionSpec;
  instanceCount: number;
  planWave: WavePlanner;
}): DealtAttempt[] {
  const left = new Map(deal.places.map((place) => [place, place.capacity]));
  const free = () => deal.places.filter((place) => (left.get(place) ?? 0) > 0);
  const take = (place: Place) => left.set(place, (left.get(place) ?? 0) - 1);
  const slots: Slot[] = [];
  deal.needs.forEach((need, index) => {
    const keptForOthers = deal.needs.length - index - 1;
    const machines = [...left.values()].reduce((sum, count) => sum + count, 0);
    const wave = deal.planWave({
      spec: deal.spec,
      instanceCount: deal.instanceCount,
      earlier: need.earlier,
      places: free().map((place) => ({ ...place, capacity: left.get(place) ?? 0 })),
      maxWidth: Math.min(deal.spec.maxAttemptsPerInstance - need.earlier.length, Math.max(1, machines - keptForOthers)),
    });
    const uses = countUses(deal.places, need.earlier);
    const taken: Place[] = [];
    while (taken.length < wave.width) {
      const place = choosePlace(free(), { wave, taken, uses });
      if (place === undefined) break;
      take(place);
      taken.push(place);
      uses.set(place, (uses.get(place) ?? 0) + 1);
    }
    slots.push(...taken.map((place) => ({ instanceId: need.instanceId, wave, places: [place] })));
  });
  dealSpares(slots, free(), take, (place) => left.get(place) ?? 0);
  return slots.map(({ instanceId, wave, places }) => ({
    instanceId,
    candidates: places
      .flatMap((place) => affordableOffers(place, wave.ceilingMicroUsdPerHour))
      .slice(0, MAX_CANDIDATES),
  }));
}

/**
 * The best of the free places. Among equally good ones that of a provider, then of a region, in which this wave has nothing yet:
 * what goes wrong at one vendor or in one hall then costs one racer. An offer that was used before counts as a band dearer for
 * each time: the next machine under it may be as bad.
 */
function choosePlace(
  free: readonly Place[],
  by: { wave: Wave; taken: readonly Place[]; uses: ReadonlyMap<Place, number> },
): Place | undefined {
  const ceiling = by.wave.ceilingMicroUsdPerHour;
  const rivals = (same: (one: Place) => boolean) => by.taken.filter(same).length;
  let best: { place: Place; key: number[] } | undefined;
  for (const place of free) {
    if (!isAffordable(place, ceiling) || (place.isNamed && by.taken.includes(place))) continue;
    const [first] = place.offers;
    if (first === undefined) continue;
    const key = [
      by.wave.turnOf?.(place.provider) ?? 0,
      first.band + (by.uses.get(place) ?? 0),
      -first.grade,
      rivals((one) => one.provider === place.provider),
      rivals((one) => one.provider === place.provider && one.region === place.region),
    ];
    if (best === undefined || compareKeys(key, best.key) < 0) best = { place, key };
  }
  return best?.place;
}

/** Attempts of this instance on each place before. */
function countUses(places: readonly Place[], earlier: readonly PlannedAttempt[]): Map<Place, number> {
  const byOffer = new Map<string, number>();
  for (const { provider, providerOfferId } of earlier) {
    if (providerOfferId === null) continue;
    const key = offerKey({ provider, providerOfferId });
    byOffer.set(key, (byOffer.get(key) ?? 0) + 1);
  }
  const usesOf = (place: Place) =>
    place.offers.reduce((sum, { offer }) => sum + (byOffer.get(offerKey(offer)) ?? 0), 0);
  return new Map(byOffer.size === 0 ? [] : places.map((place) => [place, usesOf(place)]));
}

/** Round robin in order of rank, so that every attempt's spares are about equally good. */
function dealSpares(
  slots: Slot[],
  free: readonly Place[],
  take: (place: Place) => void,
  leftOf: (place: Place) => number,
): void {
  let next = 0;
  for (const place of free) {
    for (let tried = 0; tried < slots.length && leftOf(place) > 0; tried += 1) {
      const slot = slots[(next + tried) % slots.length] as Slot;
      if (!isAffordable(place, slot.wave.ceilingMicroUsdPerHour) || slot.places.includes(place)) continue;
      if (slot.places.length >= MAX_CANDIDATES) continue;
      if (place.isNamed && slots.some((one) => one.instanceId === slot.instanceId && one.places.includes(place))) {
        continue;
      }
      take(place);
      slot.places.push(place);
      if (place.capacity > 1) continue;
      next = (next + tried + 1) % slots.length;
      break;
    }
  }
  for (const { wave, places } of slots) {
    const { turnOf } = wave;
    if (turnOf === undefined) continue;
    places.sort((a, b) => turnOf(a.provider) - turnOf(b.provider));
  }
}

function affordableOffers(place: Place, ceiling: MicroUsd): Offer[] {
  return place.offers.filter(({ price }) => price <= ceiling).map(({ offer }) => offer);
}

function compareKeys(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const difference = value - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
