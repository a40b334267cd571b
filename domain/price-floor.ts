/**
 * A price floor: the lowest price of one GPU of a class at one provider, for a rental on demand or an interruptible one. A class is
 * a GPU model; offers of several GPUs count by their price for one, rounded up, with the disk that they are listed with.
 */
import type { MicroUsd } from './money.ts';
import { canonicalGpuKey, priceWithDisk, type Offer } from './offer.ts';

export interface PriceFloor {
  gpuKey: string;
  /** As the provider spells it. */
  gpu: string;
  interruptible: boolean;
  floorMicroUsdPerGpuHour: MicroUsd;
  /** Lower median over the offers. */
  medianMicroUsdPerGpuHour: MicroUsd;
  /** GPUs are not counted, offers are. */
  offers: number;
}

/** What is known of a class from before. */
export interface KnownFloor {
  gpuKey: string;
  gpu: string;
  interruptible: boolean;
  /** null: the last believable listing had none. */
  floorMicroUsdPerGpuHour: MicroUsd | null;
}

export interface FloorChange extends KnownFloor {
  /** null: there was none, or the class was never seen. */
  previousMicroUsdPerGpuHour: MicroUsd | null;
}

/** The floors of one provider's believable listing, in no order. An offer with a floor for bids counts in both classes. */
export function measureFloors(offers: readonly Offer[]): PriceFloor[] {
  const classes = new Map<string, { gpuKey: string; gpu: string; interruptible: boolean; prices: MicroUsd[] }>();
  const add = (offer: Offer, interruptible: boolean) => {
    const gpuKey = canonicalGpuKey(offer.gpu);
    const key = floorKey({ gpuKey, interruptible });
    const found = classes.get(key) ?? { gpuKey, gpu: offer.gpu, interruptible, prices: [] };
    found.prices.push(pricePerGpu({ ...offer, interruptible }));
    classes.set(key, found);
  };
  for (const offer of offers) {
    if (!offer.interruptible) add(offer, false);
    if (offer.floorMicroUsdPerHour !== null) add(offer, true);
  }
  return [...classes.values()].map(({ prices, ...of }) => {
    prices.sort((a, b) => (a < b ? -1 : Number(a > b)));
    return {
      ...of,
      floorMicroUsdPerGpuHour: prices[0] as MicroUsd,
      medianMicroUsdPerGpuHour: prices[Math.floor((prices.length - 1) / 2)] as MicroUsd,
      offers: prices.length,
    };
  });
}

/**
 * Which floors of a provider are not what was known. A class that a believable listing lacks has none now (null); a listing that is
 * not believed must not be asked about: what is absent from it says nothing.
 */
export function changedFloors(known: readonly KnownFloor[], measured: readonly PriceFloor[]): FloorChange[] {
  const before = new Map(known.map((floor) => [floorKey(floor), floor]));
  const changes: FloorChange[] = [];
  for (const { gpuKey, gpu, interruptible, floorMicroUsdPerGpuHour } of measured) {
    const key = floorKey({ gpuKey, interruptible });
    const previousMicroUsdPerGpuHour = before.get(key)?.floorMicroUsdPerGpuHour ?? null;
    before.delete(key);
    if (previousMicroUsdPerGpuHour === floorMicroUsdPerGpuHour) continue;
    changes.push({ gpuKey, gpu, interruptible, floorMicroUsdPerGpuHour, previousMicroUsdPerGpuHour });
  }
  for (const { gpuKey, gpu, interruptible, floorMicroUsdPerGpuHour } of before.values()) {
    if (floorMicroUsdPerGpuHour === null) continue;
    changes.push({
      gpuKey,
      gpu,
      interruptible,
      floorMicroUsdPerGpuHour: null,
      previousMicroUsdPerGpuHour: floorMicroUsdPerGpuHour,
    });
  }
  return changes;
}

/** With the disk the offer is listed with; rounded up, so that no price looks lower than it is. */
export function pricePerGpu(offer: Offer): MicroUsd {
  const count = BigInt(offer.gpuCount);
  return (priceWithDisk(offer, offer.pricedDiskGib) + count - 1n) / count;
}

function floorKey({ gpuKey, interruptible }: { gpuKey: string; interruptible: boolean }): string {
  return `${interruptible ? 'interruptible' : 'on_demand'}/${gpuKey}`;
}
