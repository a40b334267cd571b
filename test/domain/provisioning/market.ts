/** Offers, specs and attempts for the tests of the planners. */
import fc from 'fast-check';
import type { Offer, OfferRequirements } from '../../../domain/offer.ts';
import { PROVIDER_NAMES } from '../../../domain/provider.ts';
import type {
  PlanInput,
  PlannedAttempt,
  PlannedInstance,
  ProvisionSpec,
} from '../../../domain/provisioning/planner.ts';

export const NOW = Date.UTC(2026, 0, 15, 12);

export function offer(id: string, over: Partial<Offer> = {}): Offer {
  return {
    provider: 'vastai',
    providerOfferId: id,
    machineId: `m${id}`,
    hostId: null,
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    priceMicroUsdPerHour: 300_000n,
    pricedDiskGib: 40,
    diskMicroUsdPerGibHour: 200n,
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
    ...over,
  };
}

export function requirements(over: Partial<OfferRequirements> = {}): OfferRequirements {
  return {
    gpu: 'RTX 4090',
    gpuCount: 1,
    minGpuMemoryGib: null,
    diskGib: 40,
    maxPriceMicroUsdPerHour: 600_000n,
    providers: [],
    regions: [],
    minReliability: null,
    interruptible: false,
    ...over,
  };
}

export function spec(over: Partial<ProvisionSpec> = {}): ProvisionSpec {
  return {
    strategy: 'race',
    raceWidth: 3,
    maxRaceCostMicroUsd: 10_000_000n,
    requirements: requirements(),
    bootTimeoutMs: 900_000,
    maxAttemptsPerInstance: 6,
    ...over,
  };
}

export function instance(id: string, over: Partial<PlannedInstance> = {}): PlannedInstance {
  return { id, status: 'requested', winnerAttemptId: null, ...over };
}

export function attempt(id: string, over: Partial<PlannedAttempt> = {}): PlannedAttempt {
  return {
    id,
    instanceId: 'a',
    status: 'bought',
    provider: 'vastai',
    providerOfferId: `used-${id}`,
    machineId: `used-${id}`,
    priceMicroUsdPerHour: 300_000n,
    purchasedAt: NOW - 60_000,
    readyAt: null,
    bootDeadline: null,
    createdAt: NOW - 61_000,
    failureCode: null,
    ...over,
  };
}

export function planInput(over: Partial<PlanInput> = {}): PlanInput {
  return {
    spec: spec(),
    instances: [instance('a')],
    attempts: [],
    offers: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => offer(String(n))),
    machines: [],
    reserved: new Set(),
    seed: 'seed',
    offersBelievable: true,
    now: NOW,
    ...over,
  };
}

/** Offers of a market in which prices, machines, models and what the vendor tells vary. */
export const anyOffers: fc.Arbitrary<Offer[]> = fc
  .array(
    fc.record({
      provider: fc.constantFrom(...PROVIDER_NAMES),
      stock: fc.constantFrom(1, 1, 1, 2, 4, null),
      region: fc.constantFrom('SE', 'US', null),
      confidence: fc.constantFrom(0.5, 0.7, 0.9),
      machine: fc.option(fc.integer({ min: 1, max: 25 }), { freq: 8 }),
      price: fc.bigInt({ min: 50_000n, max: 900_000n }),
      disk: fc.bigInt({ min: 0n, max: 2_000n }),
      gpu: fc.constantFrom('RTX 4090', 'rtx_4090', 'RTX 4090', 'RTX 4090', 'H100 SXM'),
      reliability: fc.option(fc.double({ min: 0.5, max: 1, noNaN: true })),
      pricedDiskGib: fc.constantFrom(8, 40),
    }),
    { maxLength: 60, size: 'max' },
  )
  .map((rows) =>
    rows.map((row, index) =>
      offer(`o${index}`, {
        provider: row.provider,
        // All offers of one machine tell the same stock of it.
        stock: row.machine === null ? row.stock : row.machine % 5 === 0 ? 3 : 1,
        region: row.region,
        confidence: row.confidence,
        machineId: row.machine === null ? null : `m${row.machine}`,
        priceMicroUsdPerHour: row.price,
        diskMicroUsdPerGibHour: row.disk,
        gpu: row.gpu,
        reliability: row.reliability,
        pricedDiskGib: row.pricedDiskGib,
      }),
    ),
  );

export const anySpec: fc.Arbitrary<ProvisionSpec> = fc
  .record({
    strategy: fc.constantFrom('race' as const, 'round_robin' as const, 'coldstart' as const),
    raceWidth: fc.integer({ min: 1, max: 6 }),
    maxRaceCostMicroUsd: fc.bigInt({ min: 0n, max: 600_000n }),
    bootTimeoutMs: fc.integer({ min: 60_000, max: 900_000 }),
    maxAttemptsPerInstance: fc.integer({ min: 1, max: 10 }),
    maxPrice: fc.bigInt({ min: 100_000n, max: 800_000n }),
  })
  .map(({ maxPrice, ...rest }) => spec({ ...rest, requirements: requirements({ maxPriceMicroUsdPerHour: maxPrice }) }));
