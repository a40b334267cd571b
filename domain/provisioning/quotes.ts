/**
 * A quote: an offer's price fixed in a plan, with an expiry. This module compares the quotes of a plan with the market of now: the
 * rule by which a request that presents a `planHash` is let through or refused.
 *
 * Only the plan's first choices (what it would buy first) can refuse it: the further candidates come and go every minute and cost
 * nothing while the first choices hold. A price that fell refuses nothing. What is let through may buy anything that fits, but
 * nothing dearer than the dearest quote and its tolerance.
 */
import type { MicroUsd } from '../money.ts';
import type { ProviderName } from '../provider.ts';
import { offerKey } from './match.ts';

export interface Quote {
  id: string;
  provider: ProviderName;
  providerOfferId: string;
  machineId: string | null;
  /** Whole offer with the requested disk. */
  priceMicroUsdPerHour: MicroUsd;
  /** Whether the plan would buy it first. */
  isFirstChoice: boolean;
}

export interface QuoteDifference {
  quote: Quote;
  kind: 'vanished' | 'price_moved' | 'expired';
  /** null: it cannot be bought any more. */
  nowMicroUsdPerHour: MicroUsd | null;
  /** Signed, of the quoted price; null where there is no price now. */
  movedPercent: number | null;
  /** Whether it refuses the plan. */
  isRefusing: boolean;
}

/** How long a quote holds: long enough to read a plan, short enough for prices that move by the hour. */
export const QUOTE_VALID_MS = 10 * 60_000;
export const DEFAULT_TOLERANCE_PERCENT = 2;
export const MAX_TOLERANCE_PERCENT = 100;

/**
 * What differs, in the order of the quotes; a plan whose time is over differs in every quote.
 * @param prices what can be bought now for the same request, by offer key
 * @param tolerancePercent 0 to MAX_TOLERANCE_PERCENT; a price may rise by so much
 */
export function compareQuotes(
  quotes: readonly Quote[],
  prices: ReadonlyMap<string, MicroUsd>,
  at: { tolerancePercent: number; expiresAt: number; now: number },
): QuoteDifference[] {
  const isExpired = at.now >= at.expiresAt;
  return quotes.flatMap((quote): QuoteDifference[] => {
    const now = prices.get(offerKey(quote)) ?? null;
    const movedPercent = now === null ? null : movedBy(quote.priceMicroUsdPerHour, now);
    const found = { quote, nowMicroUsdPerHour: now, movedPercent };
    if (isExpired) return [{ ...found, kind: 'expired', isRefusing: true }];
    if (now === null) return [{ ...found, kind: 'vanished', isRefusing: quote.isFirstChoice }];
    if (now === quote.priceMicroUsdPerHour) return [];
    const isTooDear = now > withTolerance(quote.priceMicroUsdPerHour, at.tolerancePercent);
    return [{ ...found, kind: 'price_moved', isRefusing: isTooDear && quote.isFirstChoice }];
  });
}

/** The highest price at which a request held to a plan may buy; null for a plan without quotes. */
export function quotedCeiling(
  quotes: readonly Quote[],
  tolerancePercent: number,
  maxPriceMicroUsdPerHour: MicroUsd,
): MicroUsd | null {
  if (quotes.length === 0) return null;
  const dearest = quotes.reduce((most, { priceMicroUsdPerHour: price }) => (price > most ? price : most), 0n);
  const ceiling = withTolerance(dearest, tolerancePercent);
  return ceiling < maxPriceMicroUsdPerHour ? ceiling : maxPriceMicroUsdPerHour;
}

/** Rounded down: a tolerance of 0 lets no micro-dollar through. */
function withTolerance(price: MicroUsd, tolerancePercent: number): MicroUsd {
  return price + (price * BigInt(Math.round(tolerancePercent * 100))) / 10_000n;
}

function movedBy(quoted: MicroUsd, now: MicroUsd): number {
  if (quoted === 0n) return now === 0n ? 0 : 100;
  return Number(((now - quoted) * 10_000n) / quoted) / 100;
}
