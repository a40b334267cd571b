/** Sourcing on the wire: rules by which an org keeps machines ready, and what was found for them. */
import { z } from 'zod';
import { SOURCING_MODES, SOURCING_OUTCOMES } from '../../domain/sourcing.ts';
import { createInstancesBody } from './instances.ts';
import { consumer, id, microUsd, pageOf, pageQuery, time } from './values.ts';

/** More are better served by several rules, and the deployment's cap is 5 by default. */
const MAX_TARGET = 100;

const asked = createInstancesBody.shape;
const name = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/, 'must be 1 to 40 lower-case letters, digits and inner dashes');
const target = z
  .int()
  .min(0)
  .max(MAX_TARGET)
  .meta({ description: 'How many instances are to be ready, or on their way there' });

export const createSourcingRuleBody = z
  .strictObject({
    name,
    enabled: z.boolean().default(true),
    target,
    maxPriceUsdPerHour: asked.maxPriceUsdPerHour,
    gpu: asked.gpu,
    gpuCount: asked.gpuCount,
    minGpuMemoryGib: asked.minGpuMemoryGib,
    diskGib: asked.diskGib,
    image: asked.image,
    providers: asked.providers,
    regions: asked.regions,
    minReliability: asked.minReliability,
    interruptible: asked.interruptible,
    sshPublicKeys: asked.sshPublicKeys,
    consumer: consumer.optional(),
  })
  .meta({ id: 'CreateSourcingRule' });

/** What is absent stays; null takes an optional one away. */
export const changeSourcingRuleBody = z
  .strictObject({
    name: name.optional(),
    enabled: z.boolean().optional(),
    target: target.optional(),
    maxPriceUsdPerHour: asked.maxPriceUsdPerHour.optional(),
    gpu: asked.gpu.optional(),
    gpuCount: asked.gpuCount.unwrap().optional(),
    minGpuMemoryGib: asked.minGpuMemoryGib.nullable(),
    diskGib: asked.diskGib.unwrap().optional(),
    image: asked.image.unwrap().optional(),
    providers: asked.providers.unwrap().optional(),
    regions: asked.regions.unwrap().optional(),
    minReliability: asked.minReliability.nullable(),
    interruptible: asked.interruptible.unwrap().optional(),
    sshPublicKeys: asked.sshPublicKeys.unwrap().optional(),
    consumer: consumer.nullable().optional(),
  })
  .meta({ id: 'ChangeSourcingRule' });

export const sourcingRule = z
  .object({
    id: id('sourcingRule'),
    name: z.string(),
    enabled: z.boolean(),
    mode: z.enum(SOURCING_MODES).meta({
      description: 'Of the deployment (`MUSTER_SOURCING`): `off`, `search` finds candidates, `provision` buys them',
    }),
    target: z.int(),
    counts: z
      .object({ requested: z.int(), creating: z.int(), booting: z.int(), ready: z.int() })
      .meta({ description: 'Its instances that count toward the target' }),
    maxPriceMicroUsdPerHour: microUsd.meta({ description: 'Nothing dearer is bought' }),
    gpu: z.string(),
    gpuCount: z.int(),
    minGpuMemoryGib: z.int().nullable(),
    diskGib: z.int(),
    image: z.string(),
    providers: z.array(z.string()),
    regions: z.array(z.string()),
    minReliability: z.number().nullable(),
    interruptible: z.boolean(),
    sshPublicKeys: z.array(z.string()),
    consumer: z.string().nullable(),
    outcome: z
      .enum(SOURCING_OUTCOMES)
      .nullable()
      .meta({ description: 'Of the last look; null: none since it changed' }),
    reason: z.string().nullable(),
    retryAt: time.nullable().meta({ description: 'While it backs off after failures: when it is tried again' }),
    fittingOffers: z.int(),
    searchedAt: time.nullable(),
    createdAt: time,
    updatedAt: time,
  })
  .meta({ id: 'SourcingRule' });
export type SourcingRule = z.infer<typeof sourcingRule>;
export const sourcingRulePage = pageOf(sourcingRule).meta({ id: 'SourcingRulePage' });

const candidate = z.object({
  provider: z.string(),
  providerOfferId: z.string(),
  machineId: z.string().nullable(),
  gpu: z.string(),
  gpuCount: z.int(),
  region: z.string().nullable(),
  reliability: z.number().nullable(),
  priceMicroUsdPerHour: microUsd,
  chanceOfSuccess: z.number().nullable(),
  p50ReadyMs: z.int().nullable(),
});

export const sourcingCandidates = z
  .object({
    ruleId: id('sourcingRule'),
    ruleName: z.string(),
    outcome: sourcingRule.shape.outcome,
    reason: z.string().nullable(),
    missing: z.int().meta({ description: 'Of its target' }),
    fittingOffers: z.int(),
    searchedAt: time.nullable().meta({ description: 'null: nothing was searched for since it changed' }),
    candidates: z.array(candidate).meta({ description: 'The best, at most 10' }),
  })
  .meta({ id: 'SourcingCandidates' });
export type SourcingCandidates = z.infer<typeof sourcingCandidates>;
export const sourcingCandidatesPage = pageOf(sourcingCandidates).meta({ id: 'SourcingCandidatesPage' });

export const sourcingQuery = pageQuery;
