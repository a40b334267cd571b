/** Inventory on the wire: the offers that can be rented now, and what we know of the machines behind them. */
import { z } from 'zod';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { duration, flag, id, microUsd, pageOf, pageQuery, positiveUsd, reason, time } from './values.ts';

export const INVENTORY_SORTS = ['price', '-price', 'price_per_gpu', 'reliability', 'memory'] as const;

export const offer = z
  .object({
    id: id('offer'),
    provider: z.string(),
    providerOfferId: z.string(),
    machineId: z.string().nullable(),
    gpu: z.string(),
    gpuCount: z.int(),
    gpuMemoryGib: z.int().nullable(),
    priceMicroUsdPerHour: microUsd.meta({ description: 'Of the whole offer with `pricedDiskGib` of disk' }),
    pricedDiskGib: z.int(),
    diskMicroUsdPerGibHour: microUsd,
    floorMicroUsdPerHour: microUsd.nullable().meta({ description: 'Lowest bid that would run now' }),
    interruptible: z.boolean(),
    region: z.string().nullable(),
    location: z.string().nullable(),
    reliability: z.number().nullable(),
    verified: z.boolean(),
    diskGib: z.number().nullable(),
    cpuCores: z.number().nullable(),
    memoryGib: z.number().nullable(),
    inetDownMbps: z.number().nullable(),
    inetUpMbps: z.number().nullable(),
    cudaVersion: z.string().nullable(),
    driverVersion: z.string().nullable(),
    seenAt: time,
  })
  .meta({ id: 'Offer' });
export type Offer = z.infer<typeof offer>;
export const offerPage = pageOf(offer).meta({ id: 'OfferPage' });

export const inventoryQuery = pageQuery.extend({
  gpu: z.string().min(1).max(64).optional(),
  gpuCount: z.coerce.number().int().min(1).max(64).optional(),
  minGpuMemoryGib: z.coerce.number().int().min(1).max(1024).optional(),
  maxPriceUsdPerHour: positiveUsd.optional(),
  provider: z.enum(PROVIDER_NAMES).optional(),
  region: z
    .string()
    .regex(/^[A-Za-z]{2}$/, 'must be a two-letter country code, such as "SE"')
    .optional(),
  minReliability: z.coerce.number().min(0).max(1).optional(),
  interruptible: flag.optional(),
  sort: z.enum(INVENTORY_SORTS).default('price'),
});

export const machine = z
  .object({
    provider: z.string(),
    machineId: z.string(),
    attempts: z.int(),
    successes: z.int(),
    losses: z.int(),
    meanReadyMs: z.int().nullable(),
    lastFailureCode: z.string().nullable(),
    lastFailureAt: time.nullable(),
    denylistedUntil: time.nullable(),
    denylistReason: z.string().nullable(),
    updatedAt: time,
  })
  .meta({ id: 'Machine', description: 'What became of our attempts on one physical machine' });
export type Machine = z.infer<typeof machine>;
export const machinePage = pageOf(machine).meta({ id: 'MachinePage' });

export const machineListQuery = pageQuery.extend({ provider: z.enum(PROVIDER_NAMES).optional() });

export const denylistBody = z.strictObject({
  reason,
  for: duration(60_000, 365 * 86_400_000, 'from 1 minute to 365 days').default('24 hours'),
});
