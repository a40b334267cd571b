/**
 * A wave: the attempts of one instance that are bought together. A strategy is a function that sizes the next wave; it is asked
 * only when no attempt of the instance is alive. Everything else (deadlines, winners, giving up) is the same for all strategies.
 */
import type { MicroUsd } from '../money.ts';
import type { ProviderName } from '../provider.ts';
import type { PlannedAttempt, ProvisionSpec } from './planner.ts';
import type { Place } from './rank.ts';

export interface WaveInput {
  spec: ProvisionSpec;
  /** Instances of the whole request: they share its race budget. */
  instanceCount: number;
  /** Every attempt made for this instance so far, none of them alive. */
  earlier: readonly PlannedAttempt[];
  /** Machines free for this request, best first; none has a capacity of 0. */
  places: readonly Place[];
  /** At most so many machines may be taken: the others are kept for the request's other instances. */
  maxWidth: number;
}

export interface Wave {
  /** Attempts to make now; 0 only where `maxWidth` is 0 or no place is free. */
  width: number;
  /** No candidate of this wave may cost more. */
  ceilingMicroUsdPerHour: MicroUsd;
  /** Which provider's turn it is: lower goes first, before price. Absent: all the same. */
  turnOf?: (provider: ProviderName) => number;
}

export type WavePlanner = (input: WaveInput) => Wave;

export function isAffordable(place: Place, ceiling: MicroUsd): boolean {
  return place.offers.some(({ price }) => price <= ceiling);
}

/** How many racers of one instance the places have room for: one on a machine with a name, several on an offer of many. */
export function countRoom(places: readonly Place[], ceiling: MicroUsd | null): number {
  return places.reduce((room, place) => {
    if (ceiling !== null && !isAffordable(place, ceiling)) return room;
    return room + (place.isNamed ? 1 : place.capacity);
  }, 0);
}
