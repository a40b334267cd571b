/**
 * Ranking: the order in which fitting offers are tried. Cheaper first, in bands: within one band price differences are noise
 * beside the cost of a failed attempt, so there the more reliable machine goes first, then the one that has worked for us, then
 * chance. The chance is a hash of the request's seed: requests made at the same moment start on different machines instead of
 * all running for the same one.
 */
import { chanceOfSuccess, type MachineRecord } from '../machine-history.ts';
import type { MicroUsd } from '../money.ts';
import { priceWithDisk, type Offer } from '../offer.ts';
import { machineKey, offerKey, placeKey, recordKey } from './match.ts';

/** Width of a price band in percent of the cheapest fitting price. */
export const PRICE_BAND_PERCENT = 10n;

/** Reliability is compared in tiers: a difference in the third decimal must not send everybody to one machine. */
const RELIABILITY_TIERS = [0.98, 0.95, 0.9];
/** What a machine without history is taken for; Laplace's estimate of no evidence. */
const UNKNOWN_CHANCE = 0.5;

export interface RankedOffer {
  offer: Offer;
  /** With the requested disk. */
  price: MicroUsd;
}

/** A machine with its ranked offers, the best first. */
export interface Place {
  key: string;
  offers: RankedOffer[];
}

/** Best first; the same input gives the same order, whatever the order of `offers`. */
export function rankOffers(
  offers: readonly Offer[],
  by: { diskGib: number; machines: readonly MachineRecord[]; seed: string },
): RankedOffer[] {
  const history = new Map(by.machines.map((record) => [recordKey(record), record]));
  const priced = offers.map((offer) => ({ offer, price: priceWithDisk(offer, by.diskGib) }));
  const cheapest = priced.reduce((least, { price }) => (price < least ? price : least), priced[0]?.price ?? 0n);
  const keyed = priced.map((ranked) => {
    const key = machineKey(ranked.offer);
    const chance = chanceOfSuccess(key === null ? undefined : history.get(key)) ?? UNKNOWN_CHANCE;
    return {
      ranked,
      name: offerKey(ranked.offer),
      band: priceBand(ranked.price, cheapest),
      reliability: reliabilityTier(ranked.offer.reliability),
      chance: Math.sign(chance - UNKNOWN_CHANCE),
      spread: spreadHash(`${by.seed}|${placeKey(ranked.offer)}`),
    };
  });
  keyed.sort(
    (a, b) =>
      a.band - b.band ||
      b.reliability - a.reliability ||
      b.chance - a.chance ||
      a.spread - b.spread ||
      compareBigint(a.ranked.price, b.ranked.price) ||
      (a.name < b.name ? -1 : Number(a.name > b.name)),
  );
  return keyed.map((one) => one.ranked);
}

/** Ranked offers by machine, in the order of each machine's best offer. */
export function groupByPlace(ranked: readonly RankedOffer[]): Place[] {
  const places = new Map<string, Place>();
  for (const one of ranked) {
    const key = placeKey(one.offer);
    const place = places.get(key);
    if (place === undefined) places.set(key, { key, offers: [one] });
    else place.offers.push(one);
  }
  return [...places.values()];
}

function priceBand(price: MicroUsd, cheapest: MicroUsd): number {
  const base = cheapest > 0n ? cheapest : 1n;
  return Number(((price - cheapest) * 100n) / (base * PRICE_BAND_PERCENT));
}

/** Higher is better; an unknown reliability counts as the lowest. */
function reliabilityTier(reliability: number | null): number {
  if (reliability === null) return 0;
  return RELIABILITY_TIERS.filter((bound) => reliability >= bound).length;
}

function compareBigint(a: bigint, b: bigint): number {
  return a < b ? -1 : Number(a > b);
}

/** FNV-1a with a final mix: cheap, even, and no secret depends on it. */
function spreadHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
