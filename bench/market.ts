/** A made-up market for measurements: the same offers each time. */
import type { Offer } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';
import { createRandom, type Random } from '../sandbox/random.ts';

const GPUS = ['RTX 4090', 'RTX 3090', 'RTX 5090', 'L40S', 'A100 SXM4', 'H100 SXM', 'H100 PCIE', 'H200', 'RTX A6000'];
const REGIONS = ['SE', 'US', 'DE', 'FR', 'NO', 'JP', null];

export function makeOffers(provider: ProviderName, count: number): Offer[] {
  const random = createRandom(7, provider);
  return Array.from({ length: count }, (_, number) => makeOffer(provider, number, random));
}

function makeOffer(provider: ProviderName, number: number, random: Random): Offer {
  const gpuCount = random.pick([1, 1, 1, 2, 4, 8]);
  const price = BigInt(Math.round((0.2 + random.next() * 3) * gpuCount * 1e6));
  return {
    provider,
    providerOfferId: `${provider}-${number}`,
    machineId: `m${number % 900}`,
    hostId: null,
    gpu: random.pick(GPUS),
    gpuCount,
    gpuMemoryGib: random.pick([24, 32, 48, 80, 141]),
    priceMicroUsdPerHour: price,
    pricedDiskGib: 40,
    diskMicroUsdPerGibHour: 200n,
    floorMicroUsdPerHour: provider === 'vastai' ? price / 2n : null,
    interruptible: false,
    region: random.pick(REGIONS),
    location: 'somewhere',
    reliability: random.next() < 0.1 ? null : 0.8 + random.next() * 0.2,
    verified: random.next() < 0.7,
    diskGib: Math.round(50 + random.next() * 2_000),
    cpuCores: 16,
    memoryGib: 64,
    inetDownMbps: Math.round(random.next() * 2_000),
    inetUpMbps: 500,
    cudaVersion: '12.8',
    driverVersion: '570.1',
    directPorts: 10,
    maxDurationSeconds: null,
    stock: 1,
    confidence: 0.9,
  };
}
