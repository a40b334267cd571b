import { describe, expect, it } from 'vitest';
import type { Offer, OfferRequirements } from '../../domain/offer.ts';
import { createStandaloneRuntime } from '../../providers-dynamic/standalone-runtime.ts';
import { createScriptedClient } from '../support/scripted-purchases.ts';

const REQUIREMENTS: OfferRequirements = {
  gpu: 'RTX 4090',
  gpuCount: 1,
  minGpuMemoryGib: null,
  diskGib: 40,
  maxPriceMicroUsdPerHour: 500_000n,
  providers: ['vastai'],
  regions: [],
  minReliability: null,
  interruptible: false,
};
const SIGNAL = new AbortController().signal;

function offer(providerOfferId: string, machineId: string, priceMicroUsdPerHour: bigint): Offer {
  return {
    provider: 'vastai',
    providerOfferId,
    machineId,
    hostId: null,
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    priceMicroUsdPerHour,
    pricedDiskGib: 40,
    diskMicroUsdPerGibHour: 0n,
    floorMicroUsdPerHour: null,
    interruptible: false,
    region: 'SE',
    location: null,
    reliability: 0.99,
    verified: true,
    diskGib: 500,
    cpuCores: null,
    memoryGib: null,
    inetDownMbps: null,
    inetUpMbps: null,
    cudaVersion: null,
    driverVersion: null,
    directPorts: null,
    maxDurationSeconds: null,
    stock: 1,
    confidence: 0.9,
  };
}

function setUp(offers: Offer[]) {
  const { client } = createScriptedClient();
  let searches = 0;
  client.searchOffers = () => {
    searches++;
    return Promise.resolve(offers);
  };
  const runtime = createStandaloneRuntime({ client: () => client, listLagMs: () => 7 });
  const next = async (label: string, refused: string | null = null) => {
    const refusal = refused === null ? null : { providerOfferId: refused, reason: 'gone' };
    return (await runtime.nextCandidate(label, 'vastai', REQUIREMENTS, refusal, SIGNAL))?.providerOfferId ?? null;
  };
  return { runtime, client, next, searches: () => searches };
}

describe('the runtime of plain pulumi up', () => {
  it('gives the cheapest fitting offer, and the same one again until it is refused', async () => {
    const { next } = setUp([
      offer('3', 'c', 400_000n),
      offer('1', 'a', 200_000n),
      offer('9', 'd', 600_000n),
      offer('2', 'b', 300_000n),
    ]);
    expect([
      await next('x'),
      await next('x'),
      await next('x', '1'),
      await next('x'),
      await next('x', '2'),
      await next('x', '3'),
    ]).toEqual(['1', '1', '2', '2', '3', null]);
  });

  it('spreads resources over machines, never gives an offer twice, and searches once for all', async () => {
    const { next, searches } = setUp([offer('1', 'a', 1n), offer('2', 'a', 2n), offer('3', 'b', 3n)]);
    expect(await Promise.all(['x', 'y', 'z', 'w'].map((label) => next(label)))).toEqual(['1', '3', '2', null]);
    expect(searches()).toBe(1);
  });

  it('searches again after a failed search', async () => {
    const { client, next } = setUp([offer('1', 'a', 1n)]);
    const search = client.searchOffers;
    client.searchOffers = () => Promise.reject(new Error('outage'));
    await expect(next('x')).rejects.toThrow('outage');
    client.searchOffers = search;
    expect(await next('x')).toBe('1');
  });

  it('labels as somebody foreign to every control plane, and always looks first', () => {
    const { runtime } = setUp([]);
    expect(runtime.labelFor('project-hash')).toBe('muster-ext-project-hash');
    expect(runtime.mayExist('muster-ext-project-hash')).toBe(true);
    expect(runtime.listLagMs('vastai')).toBe(7);
  });
});
