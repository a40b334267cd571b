/**
 * Dealing: hands the free machines out to the attempts that a plan is about to make. Each machine goes to one attempt only, so
 * that no two attempts of a request can end up on the same one, whichever candidates are refused.
 */
import type { MicroUsd } from '../money.ts';
import type { Offer } from '../offer.ts';
import { MAX_CANDIDATES, type PlannedAttempt, type ProvisionSpec } from './planner.ts';
import type { Place } from './rank.ts';
import type { WavePlanner } from './wave.ts';

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

interface Slot extends DealtAttempt {
  ceiling: MicroUsd;
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
  let free = [...deal.places];
  const slots: Slot[] = [];
  deal.needs.forEach((need, index) => {
    const keptForOthers = deal.needs.length - index - 1;
    const attemptsLeft = deal.spec.maxAttemptsPerInstance - need.earlier.length;
    const { width, ceilingMicroUsdPerHour: ceiling } = deal.planWave({
      spec: deal.spec,
      instanceCount: deal.instanceCount,
      earlier: need.earlier,
      places: free,
      maxWidth: Math.min(attemptsLeft, Math.max(1, free.length - keptForOthers)),
    });
    const taken = free.filter((place) => isAffordable(place, ceiling)).slice(0, width);
    free = free.filter((place) => !taken.includes(place));
    slots.push(...taken.map((place) => openSlot(need.instanceId, place, ceiling)));
  });
  dealSpares(slots, free);
  return slots.map(({ instanceId, candidates }) => ({ instanceId, candidates }));
}

function openSlot(instanceId: string, place: Place, ceiling: MicroUsd): Slot {
  return { instanceId, ceiling, candidates: affordableOffers(place, ceiling).slice(0, MAX_CANDIDATES) };
}

/** Round robin in order of rank, so that every attempt's spares are about equally good. */
function dealSpares(slots: Slot[], free: readonly Place[]): void {
  let next = 0;
  for (const place of free) {
    for (let tried = 0; tried < slots.length; tried += 1) {
      const slot = slots[(next + tried) % slots.length] as Slot;
      const room = MAX_CANDIDATES - slot.candidates.length;
      if (room <= 0 || !isAffordable(place, slot.ceiling)) continue;
      slot.candidates.push(...affordableOffers(place, slot.ceiling).slice(0, room));
      next = (next + tried + 1) % slots.length;
      break;
    }
  }
}

function isAffordable(place: Place, ceiling: MicroUsd): boolean {
  return place.offers.some(({ price }) => price <= ceiling);
}

function affordableOffers(place: Place, ceiling: MicroUsd): Offer[] {
  return place.offers.filter(({ price }) => price <= ceiling).map(({ offer }) => offer);
}
