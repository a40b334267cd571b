/** Failovers on the wire: what an instance's policy is, what its episodes were, and where its workload is now. */
import { z } from 'zod';
import { ENDPOINT_KINDS } from '../../domain/endpoint.ts';
import { FAILBACKS, FAILOVER_CAUSES, FAILOVER_MODES, FAILOVER_PHASES } from '../../domain/failover.ts';
import { MAX_RPO_MS, MIN_RPO_MS } from '../../domain/standby.ts';
import { operationRef } from './operations.ts';
import { commaList, duration, id, microUsd, pageOf, pageQuery, positiveUsd, reason, time } from './values.ts';

const DAY_MS = 86_400_000;

export const failoverPolicyBody = z
  .strictObject({
    mode: z.enum(FAILOVER_MODES).meta({
      description:
        '`off`: a person decides · `replace`: another machine, with the workspace restored · `standby`: the standby first, another machine behind it',
    }),
    rpo: duration(MIN_RPO_MS, MAX_RPO_MS, 'from 10 seconds to 7 days').default('5 minutes').meta({
      description: 'How old the data may be at most that a failover goes on with: the workspace is saved so often',
      example: '5 minutes',
    }),
    maxPriceUsdPerHour: positiveUsd
      .optional()
      .meta({ description: 'Of the replacement, within the caps. Default: as the instance was asked for' }),
    budgetUsdPerDay: positiveUsd.optional().meta({
      description: 'What failovers may have cost within a day before another begins by itself. Default: no bound',
    }),
    cooldown: duration(0, DAY_MS, 'from 0 seconds to 1 day').default('10 minutes').meta({
      description: 'Between the beginnings of two failovers that begin by themselves',
      example: '10 minutes',
    }),
    maxPerDay: z.int().min(0).max(100).default(4).meta({ description: 'Of those that begin by themselves' }),
    failback: z.enum(FAILBACKS).default('automatic').meta({
      description: 'From the standby to another machine: by itself, or when `POST /standby/failback` asks',
    }),
  })
  .meta({ id: 'SetFailoverPolicy' });
export type FailoverPolicyInput = z.input<typeof failoverPolicyBody>;
export type FailoverPolicyBody = z.output<typeof failoverPolicyBody>;

export const failoverPolicy = z
  .object({
    instanceId: id('instance'),
    mode: z.enum(FAILOVER_MODES),
    rpoMs: z.int(),
    maxPriceMicroUsdPerHour: microUsd.nullable(),
    budgetMicroUsdPerDay: microUsd.nullable(),
    cooldownMs: z.int(),
    maxPerDay: z.int(),
    failback: z.enum(FAILBACKS),
  })
  .meta({ id: 'FailoverPolicy' });
export type FailoverPolicyReply = z.infer<typeof failoverPolicy>;

const acceptDataLoss = z.boolean().default(false).meta({
  description: 'Go on though no snapshot of the workspace was ever verified: all that is on the machine is lost',
});

export const failOverBody = z
  .strictObject({
    reason,
    mode: z.enum(['replace', 'standby']).optional().meta({ description: "Default: as the instance's policy says" }),
    acceptDataLoss,
  })
  .meta({ id: 'FailOver' });

export const failOverToStandbyBody = z
  .strictObject({ standbyId: id('standby'), reason, acceptDataLoss })
  .meta({ id: 'FailOverToStandby' });

export const failBackBody = z
  .strictObject({ standbyId: id('standby').meta({ description: 'That serves now' }) })
  .meta({ id: 'FailBack' });

const milliseconds = z.int().nullable();

export const failover = z
  .object({
    id: id('failover'),
    instanceId: id('instance'),
    operationId: id('operation').nullable(),
    cause: z.enum(FAILOVER_CAUSES),
    mode: z.enum(['replace', 'standby']),
    phase: z.enum(FAILOVER_PHASES),
    note: z.string().nullable(),
    reasons: z.array(z.string()).meta({ description: 'What spoke against the machine, or why a person asked' }),
    phases: z
      .array(
        z.object({
          phase: z.enum(FAILOVER_PHASES),
          at: time,
          durationMs: milliseconds.meta({ description: 'null: it is the present one, or the end' }),
          costMicroUsd: microUsd.nullable().meta({ description: 'What its machines had cost by its beginning' }),
        }),
      )
      .meta({ description: 'In the order in which they began' }),
    lost: z.object({
      attemptId: id('attempt').nullable(),
      nodeId: id('node').nullable(),
      at: time.meta({ description: 'Its last proof of life' }),
    }),
    detectedAt: time,
    detectionMs: z.int().meta({ description: 'From the last proof of life' }),
    servingAt: time.nullable().meta({ description: 'Somebody serves again: the standby, or else the replacement' }),
    rtoMs: milliseconds.meta({ description: 'From the last proof of life until somebody served again' }),
    replacedAt: time.nullable().meta({ description: 'Another machine has the work' }),
    standbyId: id('standby').nullable(),
    replacementAttemptId: id('attempt').nullable(),
    snapshotId: id('snapshot').nullable(),
    recoveryPointAt: time.nullable().meta({ description: 'The moment that the data shows with which it went on' }),
    dataAgeMs: milliseconds.meta({ description: 'How old that was at the last proof of life: what was lost' }),
    rpoMs: z.int().meta({ description: 'What the policy promised' }),
    isWithinRpo: z.boolean().nullable().meta({ description: 'null: there was nothing to restore' }),
    costMicroUsd: microUsd.meta({ description: 'What its machines cost from the detection to its end, or so far' }),
    failback: z.enum(FAILBACKS),
    failbackRequestedAt: time.nullable(),
    failure: z.object({ code: z.string(), detail: z.string() }).nullable(),
    createdAt: time,
    finishedAt: time.nullable(),
  })
  .meta({ id: 'Failover' });
export type FailoverReply = z.infer<typeof failover>;

export const failoverPage = pageOf(failover).meta({ id: 'FailoverPage' });

export const failoverListQuery = pageQuery.extend({
  instanceId: id('instance').optional(),
  phase: commaList(FAILOVER_PHASES).optional(),
});

export const failoverAccepted = z.object({ operation: operationRef, failover }).meta({ id: 'FailoverAccepted' });

export const endpoint = z
  .object({
    instanceId: id('instance'),
    kind: z.enum(ENDPOINT_KINDS).meta({ description: 'Who has the workload now; `none`: nobody at this moment' }),
    host: z.string().nullable(),
    port: z.int().nullable().meta({ description: 'Of SSH' }),
    user: z.string().nullable(),
    nodeId: id('node').nullable(),
    version: z.int().meta({ description: 'Rises with every change; 0: it was never anywhere' }),
    changedAt: time.nullable(),
  })
  .meta({ id: 'Endpoint' });
export type EndpointReply = z.infer<typeof endpoint>;
