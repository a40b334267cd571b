/** Instances on the wire: asking for rented machines, and what became of them. Defaults stand here, once. */
import { z } from 'zod';
import { MAX_ON_START } from '../../domain/agent-start.ts';
import { ATTEMPT_STATUSES } from '../../domain/attempt.ts';
import { INTERRUPTION_POLICIES } from '../../domain/interruption.ts';
import { INSTANCE_ACTIONS, INSTANCE_STATUSES, PHASES } from '../../domain/instance.ts';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { DEFAULT_IMAGE } from '../../domain/provision-request.ts';
import { STRATEGY_NAMES } from '../../domain/provisioning/planner.ts';
import { DEFAULT_TOLERANCE_PERCENT, MAX_TOLERANCE_PERCENT } from '../../domain/provisioning/quotes.ts';
import { failoverPolicyBody } from './failovers.ts';
import { hibernateSchedule, hibernateWhenIdle, hibernation, savings } from './hibernation.ts';
import { isImageReference } from './image-reference.ts';
import { operationRef } from './operations.ts';
import { workspaceWish } from './snapshots.ts';
import { explainBadSshKey } from './ssh-public-key.ts';
import {
  commaList,
  consumer,
  duration,
  id,
  lifetime,
  microUsd,
  pageOf,
  pageQuery,
  positiveUsd,
  reason,
  time,
  usd,
} from './values.ts';

const MAX_ENV_LENGTH = 32_768;

const sshPublicKey = z
  .string()
  .superRefine((text, context) => {
    const message = explainBadSshKey(text);
    if (message !== null) context.addIssue({ code: 'custom', message });
  })
  .meta({
    description: 'An OpenSSH public key: ed25519, ecdsa, or rsa of at least 2048 bits',
    example: 'ssh-ed25519 AAAA… me',
  });

/** Values have at most 256 characters because Vast.ai takes no longer ones. */
const env = z
  .record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be the name of an environment variable'),
    z
      .string()
      .max(256)
      .refine((text) => !text.includes('\0'), 'must not contain NUL'),
  )
  .refine((all) => Object.keys(all).length <= 64, 'has more than 64 variables')
  .refine((all) => JSON.stringify(all).length <= MAX_ENV_LENGTH, `is longer than ${MAX_ENV_LENGTH} characters in all`);

export const instanceName = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$/, 'must be 1 to 48 lower-case letters, digits and inner dashes');

export const createInstancesBody = z
  .strictObject({
    name: instanceName
      .optional()
      .meta({ description: 'Default: generated. With `count` above 1 a number is added to each' }),
    gpu: z.string().trim().min(1).max(64).meta({ example: 'RTX 4090' }),
    gpuCount: z.int().min(1).max(16).default(1),
    minGpuMemoryGib: z.int().min(1).max(1024).optional(),
    count: z.int().min(1).max(100).default(1).meta({ description: 'How many instances, in one stack' }),
    diskGib: z.int().min(8).max(16_384).default(40),
    image: z
      .string()
      .max(1024)
      .refine(isImageReference, 'must be an image reference, such as "pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime"')
      .default(DEFAULT_IMAGE),
    maxPriceUsdPerHour: positiveUsd.meta({
      description: 'For one instance with all its GPUs and its disk',
      example: '0.60',
    }),
    providers: z
      .array(z.enum(PROVIDER_NAMES))
      .max(PROVIDER_NAMES.length)
      .default([])
      .meta({ description: 'Empty: any' }),
    regions: z
      .array(z.string().regex(/^[A-Z]{2}$/, 'must be a two-letter country code in capitals, such as "SE"'))
      .max(100)
      .default([])
      .meta({ description: 'Two-letter country codes; empty: any' }),
    minReliability: z.number().min(0).max(1).optional(),
    interruptible: z.boolean().default(false),
    bidUsdPerHour: positiveUsd.optional().meta({
      description:
        'Only with `interruptible`: what to bid for the GPUs, its disk not included. Default: a little above the lowest bid that runs',
    }),
    onInterruption: z.enum(INTERRUPTION_POLICIES).default('replace').meta({
      description:
        'What to do when an interruptible machine is taken away: bid more within the highest price (and replace it when no bid helps), take another machine, or destroy the instance',
    }),
    strategy: z.enum(STRATEGY_NAMES).default('race').meta({
      description:
        '`race` buys several at once, the first ready wins · `round_robin` one at a time, the next at another provider · `coldstart` one at a time · `serverless` claims a warm instance of a pool (`/pools`), or starts cold where none fits',
    }),
    raceWidth: z.int().min(1).max(10).default(5),
    maxRaceCostUsd: usd.default('0.25'),
    sshPublicKeys: z.array(sshPublicKey).max(20).default([]),
    env: env.default({}),
    onStart: z.string().max(MAX_ON_START).optional().meta({ description: 'Shell commands run at the first start' }),
    maxLifetime: lifetime.nullable().optional().meta({
      description:
        "Hard stop. Default: the deployment's (12 hours); longer, or null for none, needs an `overrideReason`",
    }),
    overrideReason: reason.optional(),
    bootTimeout: duration(10_000, 86_400_000, 'from 10 seconds to 24 hours').optional(),
    hibernateWhenIdle: hibernateWhenIdle.nullable().optional().meta({
      description:
        'Keeps a workspace: after so long without work its files are copied and verified, its machine destroyed. `POST /instances/:id/wake` brings it back',
    }),
    hibernateSchedule: hibernateSchedule.nullable().optional(),
    failover: failoverPolicyBody.optional().meta({
      description:
        'What happens by itself when it loses its machine. Default: nothing (`POST /instances/:id/failover-policy`)',
    }),
    workspace: workspaceWish.optional().meta({
      description: 'Keeps its files beyond its machine: snapshots of one folder, on request or on a schedule',
    }),
    consumer: consumer.optional(),
    dryRun: z.boolean().default(false).meta({ description: 'Answers with the plan and buys nothing' }),
    planHash: z
      .string()
      .regex(/^[a-f0-9]{64}$/, 'must be the `planHash` of a dry run')
      .optional()
      .meta({
        description:
          'Of a dry run of the same request: refused with 409 `plan_changed` and the differences when its quotes have expired, or one that it would buy first vanished or rose by more than the tolerance; otherwise nothing dearer than its dearest quote and the tolerance is bought',
      }),
    priceTolerancePercent: z
      .number()
      .min(0)
      .max(MAX_TOLERANCE_PERCENT)
      .default(DEFAULT_TOLERANCE_PERCENT)
      .meta({ description: 'With `planHash`: by how much a quoted price may have risen' }),
  })
  .meta({ id: 'CreateInstances' });
/** What a caller sends; defaults may be left out. */
export type CreateInstancesInput = z.input<typeof createInstancesBody>;
export type CreateInstances = z.output<typeof createInstancesBody>;

const sshAddress = z.object({ host: z.string(), port: z.int(), user: z.string() });

export const attempt = z
  .object({
    id: id('attempt'),
    status: z.enum(ATTEMPT_STATUSES),
    provider: z.string(),
    providerInstanceId: z.string().nullable(),
    machineId: z.string().nullable(),
    gpu: z.string().nullable(),
    gpuCount: z.int().nullable(),
    region: z.string().nullable(),
    priceMicroUsdPerHour: microUsd.nullable(),
    bidMicroUsdPerHour: microUsd
      .nullable()
      .meta({ description: 'What is bid now for its GPUs, its disk not included; null: it is rented on demand' }),
    interruptions: z.int().meta({ description: 'How often its provider took it away so far' }),
    interruptedAt: time
      .nullable()
      .meta({ description: 'Since when it is taken away; null: it is not. Its disk may go on billing' }),
    accruedMicroUsd: microUsd,
    purchaseCalls: z.int(),
    refusals: z.array(z.object({ providerOfferId: z.string(), machineId: z.string().nullable(), reason: z.string() })),
    observedStatus: z.string().nullable(),
    failureCode: z.string().nullable(),
    failureDetail: z.string().nullable(),
    createdAt: time,
    purchasedAt: time.nullable(),
    runningAt: time.nullable(),
    readyAt: time.nullable(),
    goneAt: time.nullable(),
  })
  .meta({ id: 'Attempt', description: 'One purchase: our record of one rented machine' });
export type Attempt = z.infer<typeof attempt>;

export const instance = z
  .object({
    id: id('instance'),
    name: z.string(),
    status: z.enum(INSTANCE_STATUSES),
    phase: z.enum(PHASES),
    phaseAt: z.partialRecord(z.enum(PHASES), time).meta({ description: 'When each phase began' }),
    note: z.string().nullable(),
    allowedActions: z.array(z.enum(INSTANCE_ACTIONS)),
    provider: z.string().nullable(),
    providerInstanceId: z.string().nullable(),
    machineId: z.string().nullable(),
    gpu: z.string(),
    gpuCount: z.int(),
    gpuMemoryGib: z.int().nullable(),
    diskGib: z.int(),
    image: z.string(),
    interruptible: z.boolean(),
    priceMicroUsdPerHour: microUsd.nullable(),
    maxPriceMicroUsdPerHour: microUsd,
    accruedMicroUsd: microUsd.meta({ description: 'What all its attempts have cost so far' }),
    ssh: sshAddress.nullable(),
    region: z.string().nullable(),
    strategy: z.enum(STRATEGY_NAMES),
    attempts: z.array(attempt),
    createdAt: time,
    readyAt: time.nullable(),
    expiresAt: time.nullable(),
    unbounded: z.boolean(),
    poolId: id('pool').nullable().meta({ description: 'Of a warm instance: the pool it was bought for' }),
    claimedBy: id('instance').nullable().meta({
      description:
        'Of a warm instance: which claimed it. Once that is ready the machine is its own, and this one ended',
    }),
    destroyRequestedAt: time.nullable(),
    destroyedAt: time.nullable(),
    failureCode: z.string().nullable(),
    failureDetail: z.string().nullable(),
    hibernateWhenIdle: hibernateWhenIdle.nullable(),
    hibernateSchedule: hibernateSchedule.nullable(),
    hibernation: hibernation
      .nullable()
      .meta({ description: 'Its present sleep, or the last one; null: it never slept' }),
    savings: savings.nullable().meta({ description: 'What all its sleeps have saved; null: it never slept' }),
    operationId: id('operation'),
    stackId: id('stack'),
    consumer: z.string().nullable(),
  })
  .meta({ id: 'Instance' });
export type Instance = z.infer<typeof instance>;

export const instancePage = pageOf(instance).meta({ id: 'InstancePage' });

export const instanceListQuery = pageQuery.extend({
  status: commaList(INSTANCE_STATUSES).optional(),
  name: z.string().max(48).optional(),
  consumer: z.string().max(63).optional(),
  provider: z.enum(PROVIDER_NAMES).optional(),
});

export const instancesAccepted = z
  .object({ operation: operationRef, instances: z.array(instance) })
  .meta({ id: 'InstancesAccepted' });
export type InstancesAccepted = z.infer<typeof instancesAccepted>;

export const provisionPlan = z
  .object({
    candidates: z.array(
      z.object({
        offerId: z.string(),
        provider: z.string(),
        providerOfferId: z.string(),
        machineId: z.string().nullable(),
        gpu: z.string(),
        gpuCount: z.int(),
        gpuMemoryGib: z.int().nullable(),
        region: z.string().nullable(),
        reliability: z.number().nullable(),
        priceMicroUsdPerHour: microUsd,
        priceMicroUsdPer30Days: microUsd,
        isFirstChoice: z
          .boolean()
          .meta({ description: 'Whether the plan would buy it first; only these can refuse it' }),
        quote: z
          .object({ id: id('quote'), priceMicroUsdPerHour: microUsd, expiresAt: time })
          .meta({ description: 'The price as it is fixed in this plan' }),
        chanceOfSuccess: z.number().meta({
          description:
            'That it is still for sale and becomes ready, from the history of machine and provider and a prior',
        }),
        expectedReadyMs: z.int().nullable().meta({ description: 'From purchase to ready; the same as `p50ReadyMs`' }),
        p50ReadyMs: z.int().nullable(),
        p95ReadyMs: z.int().nullable(),
        evidence: z
          .object({ machineAttempts: z.int(), providerAttempts: z.int() })
          .meta({ description: 'How many attempts are behind chance and times' }),
      }),
    ),
    fittingOffers: z.int(),
    fittingMachines: z.int(),
    count: z.int(),
    raceWidth: z.int().meta({ description: 'Machines bought at once for each instance' }),
    advisedRaceWidth: z.int().meta({
      description:
        'The fewest with which an instance becomes ready with a chance of 99 % within the race budget, or as many as that allows',
    }),
    priceMicroUsdPerHour: microUsd.meta({ description: 'Of the first choices for all instances together, each once' }),
    priceMicroUsdPer30Days: microUsd,
    maxPriceMicroUsdPerHour: microUsd.meta({ description: 'Never more than this for all instances together' }),
    worstCaseRaceCostMicroUsd: microUsd,
    chanceOfSuccess: z
      .number()
      .nullable()
      .meta({ description: 'That every instance is ready with the first choices; null where one gets nothing' }),
    expectedReadyMs: z.int().nullable(),
    p50ReadyMs: z.int().nullable(),
    p95ReadyMs: z.int().nullable(),
    warm: z
      .array(
        z.object({
          instanceId: id('instance'),
          poolId: id('pool'),
          provider: z.string(),
          region: z.string().nullable(),
          priceMicroUsdPerHour: microUsd,
        }),
      )
      .meta({
        description:
          'Only with `serverless`: the warm instances that would be claimed now, at most one for each instance; candidates are for what is left. Nothing is held',
      }),
    shortage: z.string().nullable().meta({ description: 'Why nothing, or too little, can be bought now' }),
    closedProviders: z
      .array(z.object({ provider: z.string(), reason: z.string() }))
      .meta({ description: 'Wanted providers at which nothing can be bought now' }),
    notes: z
      .array(z.string())
      .meta({ description: 'What else to know before it is carried out, such as that agents are off' }),
    planHash: z.string().meta({ description: 'To be sent with the request that carries this plan out' }),
    expiresAt: time.meta({ description: 'Until then the quotes hold' }),
  })
  .meta({ id: 'ProvisionPlan' });
export type ProvisionPlan = z.infer<typeof provisionPlan>;

export const wakePlan = provisionPlan
  .extend({
    instanceId: id('instance'),
    snapshotId: id('snapshot'),
    dataAt: time.nullable().meta({ description: 'Of when the files are that it gets back' }),
    restoreBytes: z.int().nullable(),
  })
  .meta({ id: 'WakePlan' });
export type WakePlan = z.infer<typeof wakePlan>;

export const instanceAccepted = z.object({ operation: operationRef, instance }).meta({ id: 'InstanceAccepted' });
export type InstanceAccepted = z.infer<typeof instanceAccepted>;

export const destroyAccepted = z.object({ operation: operationRef, instance }).meta({ id: 'DestroyAccepted' });
export type DestroyAccepted = z.infer<typeof destroyAccepted>;

export const extendBody = z.strictObject({
  by: lifetime.meta({ description: 'Added to the end of the lifetime', example: '2 hours' }),
  overrideReason: reason.optional().meta({ description: 'Needed beyond the maximum lifetime of the deployment' }),
});

export const instanceSsh = z
  .object({
    host: z.string(),
    port: z.int(),
    user: z.string(),
    command: z.string().meta({ example: 'ssh -p 41022 root@203.0.113.7' }),
    attemptId: id('attempt')
      .optional()
      .meta({ description: 'Whose host key to expect: an instance that was woken or replaced is another machine' }),
  })
  .meta({ id: 'InstanceSsh' });
export type InstanceSsh = z.infer<typeof instanceSsh>;

export const instanceCost = z
  .object({
    instanceId: id('instance'),
    accruedMicroUsd: microUsd.meta({ description: 'Until the provider says not-found' }),
    unprovenMicroUsd: microUsd.meta({ description: 'The part of it since the last sign of life' }),
    burnMicroUsdPerHour: microUsd.meta({ description: 'What it costs now, all machines that may exist for it' }),
    asOf: time,
    attempts: z.array(
      z.object({
        id: id('attempt'),
        provider: z.string(),
        status: z.enum(ATTEMPT_STATUSES),
        priceMicroUsdPerHour: microUsd.nullable(),
        accruedMicroUsd: microUsd,
        from: time.nullable(),
        to: time.nullable(),
        usage: z.array(
          z.object({
            from: time,
            to: time.nullable().meta({ description: 'null: still billed' }),
            provenUntil: time.meta({ description: 'The last sign of life' }),
            priceMicroUsdPerHour: microUsd,
            costMicroUsd: microUsd,
          }),
        ),
      }),
    ),
  })
  .meta({ id: 'InstanceCost' });
export type InstanceCost = z.infer<typeof instanceCost>;
