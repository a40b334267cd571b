/** The market of a vendor of the world: offers as that vendor lists them (single machines, hosts, kinds of machine), moving in price and stock. */
import type { Offer } from '../../domain/offer.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { SeededRandom } from '../support/seeded-random.ts';

/** An offer and how many machines it really has left, which the vendor does not always tell. */
export interface MarketOffer extends Offer {
  left: number;
}

const GPUS = ['RTX 4090', 'H100 SXM'] as const;
const PRICE = { 'RTX 4090': 350_000, 'H100 SXM': 2_200_000 } as const;

export function makeMarket(provider: ProviderName, random: SeededRandom): MarketOffer[] {
  switch (provider) {
    case 'vastai':
      return Array.from({ length: 30 }, (_, index) => makeOffer(provider, index, random, { stock: 1, left: 1 }));
    case 'tensordock':
      return Array.from({ length: 10 }, (_, index) => makeOffer(provider, index, random, { stock: 3, left: 3 }));
    case 'runpod':
    case 'lambda':
      return Array.from({ length: 12 }, (_, index) =>
        makeOffer(provider, index, random, { stock: null, left: random.below(6), machineId: null }),
      );
  }
}

/** Prices drift, what was rented by others comes back, and others rent. */
export function moveMarket(offers: MarketOffer[], random: SeededRandom): void {
  for (const offer of offers) {
    if (random.chance(0.1)) {
      const percent = BigInt(90 + random.below(21));
      const base = BigInt(PRICE[offer.gpu as keyof typeof PRICE]);
      const moved = (offer.priceMicroUsdPerHour * percent) / 100n;
      offer.priceMicroUsdPerHour = moved < base / 2n ? base / 2n : moved > base * 2n ? base * 2n : moved;
      if (offer.floorMicroUsdPerHour !== null) offer.floorMicroUsdPerHour = offer.priceMicroUsdPerHour / 2n;
    }
    if (random.chance(0.15)) offer.left = Math.min(offer.stock ?? 5, offer.left + 1);
    if (random.chance(0.05)) offer.left = Math.max(0, offer.left - 1);
    if (offer.stock !== null && offer.stock > 1) offer.stock = Math.max(1, offer.left);
  }
}

function makeOffer(
  provider: ProviderName,
  index: number,
  random: SeededRandom,
  change: Pick<MarketOffer, 'stock' | 'left'> & Partial<MarketOffer>,
): MarketOffer {
  const gpu = index % 4 === 3 ? GPUS[1] : GPUS[0];
  const price = BigInt(Math.round(PRICE[gpu] * (0.8 + random.next() * 0.6)));
  const isInterruptible = provider === 'vastai' && index % 3 === 0;
  return {
    provider,
    providerOfferId: `${provider}-${index + 1}`,
    machineId: `${provider}-host-${index + 1}`,
    hostId: null,
    gpu,
    gpuCount: 1,
    gpuMemoryGib: gpu === 'RTX 4090' ? 24 : 80,
    priceMicroUsdPerHour: price,
    pricedDiskGib: 40,
    diskMicroUsdPerGibHour: 0n,
    floorMicroUsdPerHour: isInterruptible ? price / 2n : null,
    interruptible: isInterruptible,
    region: random.pick(['SE', 'US', 'DE']),
    location: null,
    reliability: 0.98,
    verified: true,
    diskGib: 500,
    cpuCores: 16,
    memoryGib: 64,
    inetDownMbps: 900,
    inetUpMbps: 900,
    cudaVersion: '12.8',
    driverVersion: '570.1',
    directPorts: 10,
    maxDurationSeconds: null,
    confidence: 0.9,
    ...change,
  };
}
