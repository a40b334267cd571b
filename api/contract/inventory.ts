/** Inventory on the wire: the offers that can be rented now. */
import { z } from 'zod';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { provider } from './providers.ts';
import { flag, id, microUsd, pageOf, pageQuery, positiveUsd, time } from './values.ts';

export const INVENTORY_SORTS = [
  'price',
  '-price',
  'price_per_gpu',
  '-price_per_gpu',
  'reliability',
  'memory',
  'confidence',
  'network',
] as const;

export const offer = z
  .object({
    id: id('offer'),
    provider: z.string(),
    providerOfferId: z.string(),
    machineId: z.string().nullable(),
    gpu: z.string(),
    gpuCount: z.int(),
    gpuMemoryGib: z.int().nullable(),
    priceMicroUsdPerHour: microUsd.meta({
      description:
        'On demand, of the whole offer with `pricedDiskGib` of disk (with `diskGib` of the query, where given)',
    }),
    pricePerGpuMicroUsdPerHour: microUsd.meta({ description: 'The same for one of its GPUs, rounded up' }),
    pricedDiskGib: z.int(),
    diskMicroUsdPerGibHour: microUsd,
    floorMicroUsdPerHour: microUsd
      .nullable()
      .meta({ description: 'Lowest bid that would run now, without disk; null: cannot be rented interruptible' }),
    interruptiblePriceMicroUsdPerHour: microUsd
      .nullable()
      .meta({ description: 'The floor and the disk, of the whole offer' }),
    interruptible: z.boolean().meta({ description: 'Whether it can be rented interruptible' }),
    inetDownMicroUsdPerGb: microUsd
      .nullable()
      .meta({ description: 'Price of traffic; null: the vendor does not tell' }),
    inetUpMicroUsdPerGb: microUsd.nullable(),
    stock: z
      .int()
      .nullable()
      .meta({ description: 'How many machines it can sell at once; null: the vendor does not tell' }),
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
    seenAt: time.meta({ description: 'When a believable listing last showed it' }),
    ageSeconds: z.int().meta({ description: 'How long ago that is' }),
    stale: z.boolean().meta({ description: 'No believable listing has come for some minutes' }),
    confidence: z.number().min(0).max(1).meta({
      description: 'How far it may be trusted to be for sale: by the kind of listing, fading once it is stale',
    }),
    denylistedUntil: time.nullable().meta({ description: 'Nothing is bought on its machine until then' }),
  })
  .meta({ id: 'Offer' });
export type Offer = z.infer<typeof offer>;

/** Beside the offers, so that what is missing from them is explained. */
export const inventorySource = z
  .object({
    name: z.string(),
    mode: z.enum(['live', 'sandbox', 'off']),
    enabled: z.boolean(),
    status: provider.shape.status,
    reason: z.string().nullable().meta({ description: 'Why its listings are not believed now; null: they are' }),
    offersCount: z.int().nullable(),
    lastGoodAt: time.nullable().meta({ description: 'When its last believable listing of offers came; null: never' }),
    ageSeconds: z.int().nullable(),
    stale: z.boolean(),
  })
  .meta({ id: 'InventorySource' });
export type InventorySource = z.infer<typeof inventorySource>;
export const offerPage = pageOf(offer)
  .extend({ providers: z.array(inventorySource) })
  .meta({ id: 'OfferPage' });

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
  minConfidence: z.coerce.number().min(0).max(1).optional(),
  interruptible: flag.optional().meta({
    description: '`true`: what can be rented interruptible, filtered and sorted by that price; `false`: on demand only',
  }),
  diskGib: z.coerce
    .number()
    .int()
    .min(1)
    .max(65_536)
    .optional()
    .meta({ description: 'Prices are with so much disk; offers with less are left out' }),
  includeDenylist: flag.default(false).meta({ description: 'Also offers on denylisted machines' }),
  sort: z.enum(INVENTORY_SORTS).default('price'),
});
