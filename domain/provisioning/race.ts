/**
 * Race: several machines at once on distinct hosts, the first verified ready wins. A refused or failed racer is not replaced
 * while another still boots.
 *
 * What racing costs beyond the winner is bounded: in the worst case every loser runs for the whole boot timeout and a minute of
 * teardown. The bound is kept by a price ceiling per racer, budget / (width - 1), rather than by summing the prices of the first
 * candidates: a racer whose offer is refused moves on to a dearer one inside the engine, where nobody adds up again. With the
 * ceiling the sum holds whichever candidates the racers end up on. A wave that fails has used up what it cost; later waves are
 * narrower, down to one machine, which is no race and costs nothing extra.
 */
import { isWanted } from '../attempt.ts';
import type { MicroUsd } from '../money.ts';
import type { PlannedAttempt, ProvisionSpec } from './planner.ts';
import { countRoom, type WavePlanner } from './wave.ts';

/** From the decision to destroy to the end of billing. */
export const TEARDOWN_MS = 60_000;
const MS_PER_HOUR = 3_600_000n;

export const planRaceWave: WavePlanner = ({ spec, instanceCount, earlier, places, maxWidth }) => {
  const budget = remainingRaceBudget(spec, instanceCount, earlier);
  const room = countRoom(places, null);
  for (let width = Math.min(spec.raceWidth, maxWidth, room); width > 1; width -= 1) {
    const ceiling = racerCeiling(spec, budget, width);
    if (countRoom(places, ceiling) >= width) return { width, ceilingMicroUsdPerHour: ceiling };
  }
  return { width: Math.min(1, maxWidth, room), ceilingMicroUsdPerHour: racerCeiling(spec, budget, 1) };
};

/** What this instance may still spend on racers that do not win: its share of the request's, less what earlier failures cost. */
export function remainingRaceBudget(
  spec: ProvisionSpec,
  instanceCount: number,
  attempts: readonly PlannedAttempt[],
): MicroUsd {
  const spent = attempts
    .filter((attempt) => !isWanted(attempt.status) && mayHaveCost(attempt))
    .reduce((sum, attempt) => sum + worstCaseCost(spec, attempt.priceMicroUsdPerHour ?? 0n), 0n);
  const left = spec.maxRaceCostMicroUsd / BigInt(Math.max(1, instanceCount)) - spent;
  return left > 0n ? left : 0n;
}

/** The highest price of a racer with which `width` racers keep to `budget`; never above the request's maximum. */
export function racerCeiling(spec: ProvisionSpec, budget: MicroUsd, width: number): MicroUsd {
  const maximum = spec.requirements.maxPriceMicroUsdPerHour;
  if (width <= 1) return maximum;
  const ceiling = ((budget / BigInt(width - 1)) * MS_PER_HOUR) / racerLifeMs(spec);
  return ceiling < maximum ? ceiling : maximum;
}

/**
 * What an instance may cost by the hour before it has a winner, whatever the strategy: all racers of the dearest wave together. What
 * an earlier wave left to be destroyed comes on top.
 */
export function highestBurn(spec: ProvisionSpec, instanceCount: number): MicroUsd {
  const widest = spec.strategy === 'race' ? Math.max(1, spec.raceWidth) : 1;
  const budget = remainingRaceBudget(spec, instanceCount, []);
  let highest = 0n;
  for (let width = 1; width <= widest; width += 1) {
    const burn = BigInt(width) * racerCeiling(spec, budget, width);
    if (burn > highest) highest = burn;
  }
  return highest;
}

/** What one machine at this price costs if it never becomes ready, rounded up. */
export function worstCaseCost(spec: ProvisionSpec, price: MicroUsd): MicroUsd {
  return (price * racerLifeMs(spec) + MS_PER_HOUR - 1n) / MS_PER_HOUR;
}

function racerLifeMs(spec: ProvisionSpec): bigint {
  return BigInt(Math.ceil(spec.bootTimeoutMs) + TEARDOWN_MS);
}

function mayHaveCost(attempt: PlannedAttempt): boolean {
  return attempt.purchasedAt !== null || attempt.status !== 'gone';
}
