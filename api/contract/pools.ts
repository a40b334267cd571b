/** Pools on the wire: warm instances kept ready for `serverless` requests. */
import { z } from 'zod';
import { createInstancesBody } from './instances.ts';
import { operationRef } from './operations.ts';
import { consumer, duration, id, microUsd, pageOf, time } from './values.ts';

/** As many as one request may ask for. */
const MAX_SIZE = 100;

const asked = createInstancesBody.shape;
const name = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/, 'must be 1 to 40 lower-case letters, digits and inner dashes');
const targetSize = z
  .int()
  .min(0)
  .max(MAX_SIZE)
  .meta({ description: 'How many are to be ready, those on their way included' });
const maxSize = z.int().min(0).max(MAX_SIZE).meta({
  description: 'Of all that may exist for it, those being destroyed included. Default: twice the target, at least 1',
});
const idleShrinkAfter = duration(60_000, 86_400_000 * 30, 'from 1 minute to 30 days').meta({
  description: 'How long more than is needed is kept: above the target, or while nobody asks for it',
  example: '10 minutes',
});

const idleSize = z.int().min(0).max(MAX_SIZE).meta({
  description:
    'How many of the target are kept while no serverless request has asked for them for `idleShrinkAfter`; the next request brings the target back',
});

export const createPoolBody = z
  .strictObject({
    name,
    gpu: asked.gpu,
    gpuCount: asked.gpuCount,
    minGpuMemoryGib: asked.minGpuMemoryGib,
    image: asked.image,
    diskGib: asked.diskGib,
    maxPriceUsdPerHour: asked.maxPriceUsdPerHour,
    providers: asked.providers,
    regions: asked.regions,
    targetSize,
    maxSize: maxSize.optional(),
    idleShrinkAfter: idleShrinkAfter.default('10 minutes'),
    idleSize: idleSize.default(1),
    consumer: consumer
      .optional()
      .meta({ description: "To whom it costs until it is claimed. Default: the pool's name" }),
    dryRun: z
      .boolean()
      .default(false)
      .meta({ description: 'Answers with what it would cost, and keeps and buys nothing' }),
  })
  .meta({ id: 'CreatePool' });
export type CreatePoolInput = z.input<typeof createPoolBody>;

/** What is absent stays. What is warm already stays as it is, and is claimed as what it is. */
export const changePoolBody = z
  .strictObject({
    name: name.optional(),
    gpu: asked.gpu.optional(),
    gpuCount: asked.gpuCount.unwrap().optional(),
    minGpuMemoryGib: asked.minGpuMemoryGib.nullable(),
    image: asked.image.unwrap().optional(),
    diskGib: asked.diskGib.unwrap().optional(),
    maxPriceUsdPerHour: asked.maxPriceUsdPerHour.optional(),
    providers: asked.providers.unwrap().optional(),
    regions: asked.regions.unwrap().optional(),
    targetSize: targetSize.optional(),
    maxSize: maxSize.optional(),
    idleShrinkAfter: idleShrinkAfter.optional(),
    idleSize: idleSize.optional(),
    consumer: consumer.optional(),
  })
  .meta({ id: 'ChangePool' });

export const pool = z
  .object({
    id: id('pool'),
    name: z.string(),
    gpu: z.string(),
    gpuCount: z.int(),
    minGpuMemoryGib: z.int().nullable(),
    image: z.string(),
    diskGib: z.int(),
    maxPriceMicroUsdPerHour: microUsd.meta({ description: 'For one, with all its GPUs and its disk' }),
    providers: z.array(z.string()),
    regions: z.array(z.string()),
    targetSize: z.int(),
    maxSize: z.int(),
    idleShrinkAfterMs: z.int(),
    idleSize: z.int(),
    needed: z.int().meta({ description: 'How many it keeps now: its target, or while idle its idle size' }),
    demandedAt: time
      .nullable()
      .meta({ description: 'When a request last asked for what it keeps; null: not for long' }),
    consumer: z.string(),
    maxPriceAtTargetMicroUsdPerHour: microUsd.meta({ description: 'At most, with as many as its target' }),
    maxPriceAtTargetMicroUsdPer30Days: microUsd,
    counts: z.object({
      ready: z.int().meta({ description: 'Can be claimed now' }),
      filling: z.int().meta({ description: 'On their way' }),
      claimed: z.int().meta({ description: 'Ever' }),
      existing: z.int().meta({ description: 'All that may exist for it, those being destroyed included' }),
    }),
    burnMicroUsdPerHour: microUsd.meta({ description: 'What those cost now that can be claimed' }),
    trouble: z.string().nullable().meta({ description: 'What keeps it from its target' }),
    retryAt: time.nullable().meta({ description: 'After failures: when it is tried again' }),
    refilledAt: time.nullable().meta({ description: 'When it was last looked at' }),
    createdAt: time,
  })
  .meta({ id: 'Pool' });
export type Pool = z.infer<typeof pool>;
export const poolPage = pageOf(pool).meta({ id: 'PoolPage' });

export const poolPlan = z
  .object({
    targetSize: z.int(),
    maxSize: z.int(),
    fittingOffers: z.int(),
    fittingMachines: z.int(),
    priceMicroUsdPerHour: microUsd.meta({
      description: 'Of what would be bought now to reach the target, as far as it is offered',
    }),
    priceMicroUsdPer30Days: microUsd,
    maxPriceAtTargetMicroUsdPerHour: microUsd.meta({
      description: 'At most, with as many as its target, whatever the prices become',
    }),
    maxPriceAtTargetMicroUsdPer30Days: microUsd,
    p50ReadyMs: z
      .int()
      .nullable()
      .meta({ description: 'From purchase to ready of the slowest; null: nothing is known' }),
    p95ReadyMs: z.int().nullable(),
    room: z
      .object({ instances: z.int(), burnMicroUsdPerHour: microUsd })
      .meta({ description: "What the deployment's caps leave" }),
    fillNow: z.int().meta({ description: 'How many it would buy at once within the caps' }),
    shortage: z.string().nullable().meta({ description: 'Why too little is offered now' }),
    trouble: z.string().nullable().meta({ description: 'What would keep it from its target besides' }),
  })
  .meta({ id: 'PoolPlan' });
export type PoolPlan = z.infer<typeof poolPlan>;

export const poolDeleted = z
  .object({
    id: id('pool'),
    operations: z.array(operationRef).meta({ description: 'Which destroy what it kept warm' }),
  })
  .meta({ id: 'PoolDeleted' });
export type PoolDeleted = z.infer<typeof poolDeleted>;
