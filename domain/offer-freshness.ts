/**
 * Freshness of an offer: how far it may still be believed to be for sale. The vendor's listing has a confidence of its own
 * (`Offer.confidence`); it holds while listings come, and fades when they stop coming.
 */

/** Offers are listed every minute; who was not in a believable listing for so long missed several. */
export const STALE_AFTER_MS = 180_000;
/** A stale offer is half as likely to be there after each further span of this. */
const HALF_LIFE_MS = 600_000;

export function isStale(ageMs: number): boolean {
  return ageMs > STALE_AFTER_MS;
}

/** `listed` (0..1) as it is until the offer is stale, then halved every ten minutes; three decimals. */
export function fadeConfidence(listed: number, ageMs: number): number {
  const over = Math.max(0, ageMs - STALE_AFTER_MS);
  return Math.round(listed * 0.5 ** (over / HALF_LIFE_MS) * 1000) / 1000;
}
