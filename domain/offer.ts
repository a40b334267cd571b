/**
 * An offer: a provider's current listing, normalised. It may vanish at any moment; its id is the vendor's and may be
 * recycled, so nothing keeps it as an identity for longer than one purchase.
 */
import type { MicroUsd } from './money.ts';
import type { ProviderName } from './provider.ts';

export interface Offer {
  provider: ProviderName;
  /** The vendor's id of this listing. */
  providerOfferId: string;
  /** The physical host, where the vendor tells; history and the denylist attach here. */
  machineId: string | null;
  hostId: string | null;
  /** Canonical GPU model: the vendor's name with spaces, e.g. "RTX 4090", "H100 SXM". */
  gpu: string;
  gpuCount: number;
  /** Memory of one GPU in GiB, rounded down to the marketed size (24564 MiB → 24). null: the vendor does not say. */
  gpuMemoryGib: number | null;
  /** On-demand price of the whole offer (all its GPUs) with `pricedDiskGib` of disk. */
  priceMicroUsdPerHour: MicroUsd;
  /** The disk size included in the price. */
  pricedDiskGib: number;
  /** Price of one further GiB of disk for an hour. */
  diskMicroUsdPerGibHour: MicroUsd;
  /** Lowest bid that would run now, for all GPUs of the offer, without disk; null where the offer cannot be interruptible. */
  floorMicroUsdPerHour: MicroUsd | null;
  interruptible: boolean;
  /** Two-letter country code, or null where unknown. */
  region: string | null;
  location: string | null;
  /** 0..1, the vendor's own figure; null where it gives none. */
  reliability: number | null;
  verified: boolean;
  diskGib: number | null;
  cpuCores: number | null;
  memoryGib: number | null;
  inetDownMbps: number | null;
  inetUpMbps: number | null;
  /** Price of traffic to and from the machine, per GB, on top of the hourly price. Absent or null: the vendor does not tell. */
  inetDownMicroUsdPerGb?: MicroUsd | null;
  inetUpMicroUsdPerGb?: MicroUsd | null;
  cudaVersion: string | null;
  driverVersion: string | null;
  directPorts: number | null;
  /** Seconds the offer may still be rented for; null where unknown. */
  maxDurationSeconds: number | null;
  /** How many machines the listing says it can sell at once; null: more than one, the vendor does not say how many. */
  stock: number | null;
  /** 0..1: how far the listing is to be trusted to be for sale still, by what is known of the vendor's kind of listing. */
  confidence: number;
}

/** What a purchase must satisfy. Bounds are inclusive. */
export interface OfferRequirements {
  gpu: string;
  gpuCount: number;
  minGpuMemoryGib: number | null;
  diskGib: number;
  maxPriceMicroUsdPerHour: MicroUsd;
  /** Empty: any. */
  providers: ProviderName[];
  /** Two-letter country codes; empty: any. */
  regions: string[];
  minReliability: number | null;
  interruptible: boolean;
  /** The bid for an interruptible machine's GPUs, per hour; null: a little above each offer's floor. @default null */
  bidMicroUsdPerHour?: MicroUsd | null;
  /** A container image of one's own is asked for: only providers that rent containers fit. @default false */
  needsContainer?: boolean;
}

/**
 * Price of `offer` with `diskGib` of disk. On demand the listed price holds for up to the disk it was listed with; a bid buys the
 * GPUs only, so the whole disk comes on top of it.
 */
export function priceWithDisk(offer: Offer, diskGib: number): MicroUsd {
  const wanted = Math.ceil(diskGib);
  if (offer.interruptible && offer.floorMicroUsdPerHour !== null) {
    return offer.floorMicroUsdPerHour + offer.diskMicroUsdPerGibHour * BigInt(wanted);
  }
  const extra = wanted - Math.floor(offer.pricedDiskGib);
  if (extra <= 0) return offer.priceMicroUsdPerHour;
  return offer.priceMicroUsdPerHour + offer.diskMicroUsdPerGibHour * BigInt(extra);
}

/** GPU names compare without case, underscores, dashes or doubled spaces: "rtx_4090" is "RTX 4090". */
export function canonicalGpuKey(name: string): string {
  return name
    .replace(/[_\-\s]+/g, ' ')
    .trim()
    .replace(/^nvidia (geforce )?/i, '')
    .toLowerCase();
}
