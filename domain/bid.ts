/**
 * Bids: what an interruptible machine is rented for. A bid buys the GPUs of the whole offer for an hour; its disk comes on top. We pay
 * our own bid, not the floor, so it opens a little above the floor and never leaves the request's highest price.
 */
import type { MicroUsd } from './money.ts';
import { priceWithDisk, type Offer, type OfferRequirements } from './offer.ts';

/** Above the floor by so much: at the floor the next bidder, however small, would take the machine. */
export const OPENING_PERCENT = 115n;
/** Each rebid: whoever outbid us paid more than our bid, by how much nobody tells. */
export const REBID_PERCENT = 125n;

type Wanted = Pick<OfferRequirements, 'diskGib' | 'maxPriceMicroUsdPerHour' | 'bidMicroUsdPerHour'>;

/** What would be bid on the offer; null: it is rented on demand. Below the offer's floor where the request's own bid is. */
export function openingBid(offer: Offer, wanted: Wanted): MicroUsd | null {
  if (!offer.interruptible || offer.floorMicroUsdPerHour === null) return null;
  if (wanted.bidMicroUsdPerHour != null) return wanted.bidMicroUsdPerHour;
  const floor = offer.floorMicroUsdPerHour;
  const opening = (floor * OPENING_PERCENT + 99n) / 100n;
  const most = wanted.maxPriceMicroUsdPerHour - diskPrice(offer, wanted.diskGib);
  return least(opening, most > floor ? most : floor);
}

/** What a purchase of the offer would cost an hour, disk included. */
export function purchasePrice(offer: Offer, wanted: Wanted): MicroUsd {
  const bid = openingBid(offer, wanted);
  return bid === null ? priceWithDisk(offer, wanted.diskGib) : bid + diskPrice(offer, wanted.diskGib);
}

/** The next bid after `bid` was topped; null where the highest price leaves no room for a higher one. */
export function nextBid(
  bid: MicroUsd,
  diskMicroUsdPerHour: MicroUsd,
  maxPriceMicroUsdPerHour: MicroUsd,
): MicroUsd | null {
  const raised = least((bid * REBID_PERCENT + 99n) / 100n, maxPriceMicroUsdPerHour - diskMicroUsdPerHour);
  return raised > bid ? raised : null;
}

function diskPrice(offer: Offer, diskGib: number): MicroUsd {
  return offer.diskMicroUsdPerGibHour * BigInt(Math.ceil(diskGib));
}

function least(a: MicroUsd, b: MicroUsd): MicroUsd {
  return a < b ? a : b;
}
