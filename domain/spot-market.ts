/** The spot market: what interruptible machines of a class cost, how that moves, and how often they were taken away from us. */
import type { MicroUsd } from './money.ts';

/** Over fewer hours a deviation says nothing. */
export const MIN_VOLATILITY_HOURS = 12;
/** How far back prices are looked at. */
export const VOLATILITY_DAYS = 7;
/** How far back our own interruptions are counted. */
export const INTERRUPTION_DAYS = 30;

/** How much less the floor is than the one on demand, in basis points of the latter, rounded down; negative where it is more. null: one is unknown. */
export function savingBasisPoints(interruptible: MicroUsd | null, onDemand: MicroUsd | null): number | null {
  if (interruptible === null || onDemand === null || onDemand <= 0n) return null;
  const scaled = (onDemand - interruptible) * 10_000n;
  const cut = scaled / onDemand;
  return Number(scaled < 0n && scaled % onDemand !== 0n ? cut - 1n : cut);
}

/**
 * Volatility: the standard deviation of the hourly mean floors, in basis points of their mean. 0 is a price that never moved; null:
 * fewer than MIN_VOLATILITY_HOURS hours are known.
 */
export function volatilityBasisPoints(hourlyFloors: readonly MicroUsd[]): number | null {
  if (hourlyFloors.length < MIN_VOLATILITY_HOURS) return null;
  const values = hourlyFloors.map(Number);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (mean <= 0) return null;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return Math.round((Math.sqrt(variance) * 10_000) / mean);
}

/** Interruptions for each hour that such machines ran for us, to six decimals; null where none ran. */
export function interruptionRate(interruptions: number, machineHours: number): number | null {
  return machineHours > 0 ? Math.round((interruptions * 1e6) / machineHours) / 1e6 : null;
}
