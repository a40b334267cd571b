/** Prices on the wire: floors over time, as they change, and the market of interruptible machines. All are of one GPU for an hour. */
import { z } from 'zod';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { flag, microUsd, pageOf, pageQuery, time } from './values.ts';

export const PRICE_BUCKETS = ['hour', 'day', 'change'] as const;

const gpu = z.string().min(1).max(64).meta({ description: 'A GPU model, such as "RTX 4090"' });
const interruptible = flag.optional().meta({ description: 'Only interruptible rentals, or only those on demand' });

export const pricePoint = z
  .object({
    at: time.meta({ description: 'Of the change, or when the bucket begins (UTC)' }),
    provider: z.string(),
    gpu: z.string(),
    interruptible: z.boolean(),
    floorMicroUsdPerGpuHour: microUsd.nullable().meta({
      description:
        'Lowest price of one GPU with the disk it is listed with: after the change (null: none offered any more), or the mean of the bucket',
    }),
    lowMicroUsdPerGpuHour: microUsd.nullable(),
    highMicroUsdPerGpuHour: microUsd.nullable(),
    samples: z.int().meta({ description: 'Believable listings that the point stands on' }),
  })
  .meta({ id: 'PricePoint' });
export type PricePoint = z.infer<typeof pricePoint>;
export const pricePointPage = pageOf(pricePoint).meta({ id: 'PricePointPage' });

export const priceHistoryQuery = pageQuery.extend({
  gpu,
  provider: z.enum(PROVIDER_NAMES).optional(),
  interruptible,
  from: time.optional().meta({ description: 'Default: a day before `to`' }),
  to: time.optional().meta({ description: 'Default: now' }),
  bucket: z
    .enum(PRICE_BUCKETS)
    .default('hour')
    .meta({ description: 'Means of hours or days, or each change of a floor (kept for 30 days)' }),
});

export const priceEventsQuery = z.strictObject({
  gpu: gpu.optional(),
  provider: z.enum(PROVIDER_NAMES).optional(),
  interruptible,
});

/** The data of each event of GET /prices/events. */
export const priceEvent = z
  .object({
    at: time,
    provider: z.string(),
    gpu: z.string(),
    interruptible: z.boolean(),
    floorMicroUsdPerGpuHour: microUsd.nullable().meta({ description: 'null: none is offered any more' }),
    previousMicroUsdPerGpuHour: microUsd.nullable().meta({ description: 'null: none was offered before' }),
  })
  .meta({ id: 'PriceEvent' });
export type PriceEvent = z.infer<typeof priceEvent>;

const perGpu = microUsd.nullable();

export const spotClass = z
  .object({
    provider: z.string(),
    gpu: z.string(),
    interruptibleFloorMicroUsdPerGpuHour: perGpu.meta({
      description: 'Lowest bid with disk; null: none is offered now',
    }),
    interruptibleMedianMicroUsdPerGpuHour: perGpu,
    onDemandFloorMicroUsdPerGpuHour: perGpu,
    savingBasisPoints: z
      .int()
      .nullable()
      .meta({ description: 'How much less than on demand, in hundredths of a percent; null: one of them is unknown' }),
    offers: z.int(),
    volatilityBasisPoints: z.int().nullable().meta({
      description:
        'Standard deviation of the hourly floors of the last 7 days, in hundredths of a percent of their mean; null: fewer than 12 hours are known',
    }),
    hoursKnown: z.int(),
    attempts: z.int().meta({ description: 'Interruptible machines that this deployment bought in the last 30 days' }),
    interruptions: z.int().meta({ description: 'How often the provider took one of them away, also for a while' }),
    machineHours: z.number(),
    interruptionsPerMachineHour: z.number().nullable().meta({ description: 'null: none ran' }),
    changedAt: time.meta({ description: 'When the floor last changed' }),
    seenAt: time.meta({ description: 'When a believable listing last told it' }),
  })
  .meta({ id: 'SpotClass' });
export type SpotClass = z.infer<typeof spotClass>;
export const spotMarketPage = pageOf(spotClass).meta({ id: 'SpotMarketPage' });

export const spotMarketQuery = pageQuery.extend({
  gpu: gpu.optional(),
  provider: z.enum(PROVIDER_NAMES).optional(),
});
