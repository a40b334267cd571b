/**
 * Ranking: the order in which fitting offers are tried. Cheaper first, in bands: within one band price differences are noise
 * beside the cost of a failed attempt, so there the one that is likelier to become ready goes first (in steps of a tenth: finer
 * differences are noise too), then chance. The chance is a hash of the request's seed: requests made at the same moment start on
 * different machines instead of all running for the same one.
 */
import { purchasePrice } from '../bid.ts';
import type { MachineRecord } from '../machine-history.ts';
import type { MicroUsd } from '../money.ts';
import type { Offer, OfferRequirements } from '../offer.ts';
import type { ProviderName } from '../provider.ts';
import { isShared, machineKey, offerKey, placeKey, recordKey } from './match.ts';
import { foresee, sumProviderRecords, type Outlook, type ProviderRecord, type ReadyTimes } from './outlook.ts';

/** Width of a price band in percent of the cheapest fitting price. */
export const PRICE_BAND_PERCENT = 10n;
/** Chances are compared in so many steps: a difference in the third decimal must not send everybody to one machine. */
const CHANCE_STEPS = 10;

export interface RankedOffer {
  offer: Offer;
  /** With the requested disk. */
  price: MicroUsd;
  outlook: Outlook;
  /** 0 is the cheapest band. */
  band: number;
  /** Offers of one band and grade are equally good. Higher is better. */
  grade: number;
}

/** A machine with its ranked offers, the best first; an offer alone where the vendor names no machine. */
export interface Place {
  key: string;
  provider: ProviderName;
  region: string | null;
  /** Whether the vendor names the machine: two racers of one instance never share it. */
  isNamed: boolean;
  /** Machines that can be bought here at once; Infinity where the vendor does not say. */
  capacity: number;
  offers: RankedOffer[];
}

/** Best first; the same input gives the same order, whatever the order of `offers`. */
export function rankOffers(
  offers: readonly Offer[],
  by: {
    requirements: Pick<OfferRequirements, 'diskGib' | 'maxPriceMicroUsdPerHour' | 'bidMicroUsdPerHour'>;
    machines: readonly MachineRecord[];
    /** @default summed up from `machines` */
    providers?: readonly ProviderRecord[] | undefined;
    /** By machine key. @default guessed from the means in `machines` */
    readyTimes?: ReadonlyMap<string, ReadyTimes> | undefined;
    seed: string;
  },
): RankedOffer[] {
  const machines = new Map(by.machines.map((record) => [recordKey(record), record]));
  const providers = new Map(
    (by.providers ?? sumProviderRecords(by.machines)).map((record) => [record.provider, record]),
  );
  const priced = offers.map((offer) => ({ offer, price: purchasePrice(offer, by.requirements) }));
  const cheapest = priced.reduce((least, { price }) => (price < least ? price : least), priced[0]?.price ?? 0n);
  const keyed = priced.map(({ offer, price }) => {
    const machine = machineKey(offer) ?? '';
    const times = by.readyTimes?.get(machine);
    const outlook = foresee(offer, machines.get(machine), providers.get(offer.provider), times);
    const grade = Math.round(outlook.chance * CHANCE_STEPS);
    const ranked: RankedOffer = { offer, price, outlook, band: priceBand(price, cheapest), grade };
    return { ranked, name: offerKey(offer), spread: spreadHash(`${by.seed}|${placeKey(offer)}`) };
  });
  keyed.sort(
    (a, b) =>
      a.ranked.band - b.ranked.band ||
      b.ranked.grade - a.ranked.grade ||
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
    const { offer } = one;
    const key = placeKey(offer);
    const capacity = isShared(offer) ? (offer.stock ?? Infinity) : 1;
    const place = places.get(key);
    if (place === undefined) {
      const { provider, region } = offer;
      places.set(key, { key, provider, region, isNamed: offer.machineId !== null, capacity, offers: [one] });
    } else {
      place.offers.push(one);
      place.capacity = Math.max(place.capacity, capacity);
    }
  }
  return [...places.values()];
}

function priceBand(price: MicroUsd, cheapest: MicroUsd): number {
  const base = cheapest > 0n ? cheapest : 1n;
  return Number(((price - cheapest) * 100n) / (base * PRICE_BAND_PERCENT));
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
