/**
 * A wave: the attempts of one instance that are bought together. A strategy is a function that sizes the next wave; it is asked
 * only when no attempt of the instance is alive. Everything else (deadlines, winners, giving up) is the same for all strategies.
 */
import type { MicroUsd } from '../money.ts';
import type { PlannedAttempt, ProvisionSpec } from './planner.ts';
import type { Place } from './rank.ts';

export interface WaveInput {
  spec: ProvisionSpec;
  /** Instances of the whole request: they share its race budget. */
  instanceCount: number;
  /** Every attempt made for this instance so far, none of them alive. */
  earlier: readonly PlannedAttempt[];
  /** Machines free for this request, best first. */
  places: readonly Place[];
  /** At most so many machines may be taken: the others are kept for the request's other instances. */
  maxWidth: number;
}

export interface Wave {
  /** Attempts to make now; 0 only where `maxWidth` is 0 or no place is free. */
  width: number;
  /** No candidate of this wave may cost more. */
  ceilingMicroUsdPerHour: MicroUsd;
}

export type WavePlanner = (input: WaveInput) => Wave;
