/**
 * Matching: which offers may be bought for a request, and why the others may not. It does not order them (rank.ts).
 */
import { openingBid, purchasePrice } from '../bid.ts';
import { formatUsd, type MicroUsd } from '../money.ts';
import { isDenylisted, type MachineRecord } from '../machine-history.ts';
import { canonicalGpuKey, type Offer, type OfferRequirements } from '../offer.ts';
import { PROVIDER_FACTS, type ProviderName } from '../provider.ts';

/** Why an offer is out, in the order in which it is asked; an offer is counted under its first reason only. */
export const EXCLUSIONS = [
  'gpu',
  'gpu_count',
  'gpu_memory',
  'provider',
  'machine_kind',
  'rental_type',
  'region',
  'reliability',
  'disk',
  'ends_too_soon',
  'bid',
  'price',
  'provider_refused',
  'provider_closed',
  'denylisted',
  'used',
  'reserved',
] as const;
export type Exclusion = (typeof EXCLUSIONS)[number];

export interface MatchTally {
  seen: number;
  excluded: Partial<Record<Exclusion, number>>;
  /** The cheapest of those that were only too dear; null where none was. */
  cheapestTooDear: MicroUsd | null;
}

export interface Market {
  requirements: OfferRequirements;
  offers: readonly Offer[];
  machines: readonly MachineRecord[];
  /** Keys held by other operations. */
  reserved: ReadonlySet<string>;
  /** Keys of offers and machines that this request has used or uses; offers that several may buy are not kept out by it. */
  used: ReadonlySet<string>;
  /** Keys of those that this request must not try again even where more are in stock. @default none */
  spent?: ReadonlySet<string>;
  /** Providers that refused this request's order or our credentials: another order would be refused too. @default none */
  refusing?: ReadonlySet<ProviderName>;
  /** Providers at which nothing may be bought now, with the reason. @default none */
  closed?: ReadonlyMap<ProviderName, { reason: string }>;
  /** An offer that ends before a machine could boot is useless. */
  bootTimeoutMs: number;
  now: number;
}

/** Whether the offer by itself satisfies the requirements. Bounds are inclusive; what the vendor does not tell satisfies no bound. */
export function matchesRequirements(offer: Offer, requirements: OfferRequirements): boolean {
  return findMismatch(offer, requirements, canonicalGpuKey(requirements.gpu)) === null;
}

/** The offers that may be bought now, in their given order, and a tally of why the others may not. */
export function sortOut(market: Market): { fitting: Offer[]; tally: MatchTally } {
  const gpuKey = canonicalGpuKey(market.requirements.gpu);
  const denylisted = new Set(
    market.machines.filter((record) => isDenylisted(record, market.now)).map((record) => recordKey(record)),
  );
  const tally: MatchTally = { seen: market.offers.length, excluded: {}, cheapestTooDear: null };
  const fitting: Offer[] = [];
  for (const offer of market.offers) {
    const exclusion = findMismatch(offer, market.requirements, gpuKey) ?? findObstacle(offer, market, denylisted);
    if (exclusion === null) {
      fitting.push(offer);
      continue;
    }
    tally.excluded[exclusion] = (tally.excluded[exclusion] ?? 0) + 1;
    if (exclusion !== 'price') continue;
    const price = purchasePrice(offer, market.requirements);
    if (tally.cheapestTooDear === null || price < tally.cheapestTooDear) tally.cheapestTooDear = price;
  }
  return { fitting, tally };
}

/** Whether several attempts may buy it at once: it has more than one machine, or the vendor does not say how many. */
export function isShared(offer: Pick<Offer, 'stock'>): boolean {
  return offer.stock !== 1;
}

/** A sentence for a person: how many offers there were and how many each rule took away. */
export function explainNoMatch(tally: MatchTally, requirements: OfferRequirements): string {
  if (tally.seen === 0) return `No offers of ${requirements.gpuCount} × ${requirements.gpu} are listed.`;
  const reasons = EXCLUSIONS.filter((rule) => tally.excluded[rule] !== undefined).map(
    (rule) => `${tally.excluded[rule]} ${describeExclusion(rule, requirements, tally)}`,
  );
  const seen = tally.seen === 1 ? '1 offer was' : `${tally.seen} offers were`;
  return `${seen} seen and none can be bought: ${reasons.join(', ')}.`;
}

export function offerKey(offer: { provider: ProviderName; providerOfferId: string }): string {
  return `${offer.provider}/${offer.providerOfferId}`;
}

/** null where the vendor does not name the machine. */
export function machineKey(offer: { provider: ProviderName; machineId: string | null }): string | null {
  return offer.machineId === null ? null : `${offer.provider}/machine/${offer.machineId}`;
}

/** Where a purchase would end up: the machine, or the offer itself where the vendor names no machine. */
export function placeKey(offer: Offer): string {
  return machineKey(offer) ?? offerKey(offer);
}

export function recordKey(record: MachineRecord): string {
  return `${record.provider}/machine/${record.machineId}`;
}

function findMismatch(offer: Offer, requirements: OfferRequirements, gpuKey: string): Exclusion | null {
  if (canonicalGpuKey(offer.gpu) !== gpuKey) return 'gpu';
  if (offer.gpuCount !== requirements.gpuCount) return 'gpu_count';
  if (!reaches(offer.gpuMemoryGib, requirements.minGpuMemoryGib)) return 'gpu_memory';
  if (requirements.providers.length > 0 && !requirements.providers.includes(offer.provider)) return 'provider';
  if (requirements.needsContainer && PROVIDER_FACTS[offer.provider].machineKind !== 'container') return 'machine_kind';
  if (offer.interruptible !== requirements.interruptible) return 'rental_type';
  if (!isInRegion(offer.region, requirements.regions)) return 'region';
  if (!reaches(offer.reliability, requirements.minReliability)) return 'reliability';
  // A vendor that names no disk size sells any; one that cannot will refuse definitely.
  if (offer.diskGib !== null && offer.diskGib < requirements.diskGib) return 'disk';
  if (isBidTooLow(offer, requirements)) return 'bid';
  if (purchasePrice(offer, requirements) > requirements.maxPriceMicroUsdPerHour) return 'price';
  return null;
}

function findObstacle(offer: Offer, market: Market, denylisted: ReadonlySet<string>): Exclusion | null {
  const offerName = offerKey(offer);
  const machineName = machineKey(offer);
  const isIn = (keys: ReadonlySet<string>) => keys.has(offerName) || (machineName !== null && keys.has(machineName));
  if (offer.maxDurationSeconds !== null && offer.maxDurationSeconds * 1000 < market.bootTimeoutMs) {
    return 'ends_too_soon';
  }
  if (market.refusing?.has(offer.provider)) return 'provider_refused';
  if (market.closed?.has(offer.provider)) return 'provider_closed';
  if (isIn(denylisted)) return 'denylisted';
  if (isIn(isShared(offer) ? (market.spent ?? NOTHING) : market.used)) return 'used';
  if (isIn(market.reserved)) return 'reserved';
  return null;
}

const NOTHING: ReadonlySet<string> = new Set();

function isBidTooLow(offer: Offer, requirements: OfferRequirements): boolean {
  const bid = openingBid(offer, requirements);
  return bid !== null && bid < (offer.floorMicroUsdPerHour ?? 0n);
}

function reaches(value: number | null, bound: number | null): boolean {
  return bound === null || (value !== null && value >= bound);
}

function isInRegion(region: string | null, wanted: readonly string[]): boolean {
  if (wanted.length === 0) return true;
  return region !== null && wanted.some((one) => one.toUpperCase() === region.toUpperCase());
}

function describeExclusion(rule: Exclusion, requirements: OfferRequirements, tally: MatchTally): string {
  switch (rule) {
    case 'gpu':
      return `of another GPU model than ${requirements.gpu}`;
    case 'gpu_count':
      return `without exactly ${requirements.gpuCount} GPU${requirements.gpuCount === 1 ? '' : 's'}`;
    case 'gpu_memory':
      return `under ${requirements.minGpuMemoryGib} GiB of GPU memory`;
    case 'provider':
      return 'of other providers';
    case 'machine_kind':
      return 'of providers that rent virtual machines, which cannot run the container image';
    case 'rental_type':
      return requirements.interruptible ? 'not interruptible' : 'only interruptible';
    case 'region':
      return `outside ${requirements.regions.join(', ')}`;
    case 'reliability':
      return `under reliability ${requirements.minReliability}`;
    case 'disk':
      return `with less than ${requirements.diskGib} GiB of disk`;
    case 'ends_too_soon':
      return 'ending before a machine could boot';
    case 'bid':
      return `that run only for a higher bid than $${formatUsd(requirements.bidMicroUsdPerHour ?? 0n)}`;
    case 'price': {
      const cheapest = tally.cheapestTooDear === null ? '' : ` (cheapest $${formatUsd(tally.cheapestTooDear)})`;
      return `over $${formatUsd(requirements.maxPriceMicroUsdPerHour)} an hour${cheapest}`;
    }
    case 'provider_refused':
      return 'of providers that refused this order or our credentials';
    case 'provider_closed':
      return 'of providers at which nothing can be bought now';
    case 'denylisted':
      return 'on denylisted machines';
    case 'used':
      return 'on machines that this request has already used';
    case 'reserved':
      return 'held by other requests';
  }
}
