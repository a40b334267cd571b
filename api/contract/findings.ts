/** The fleet and its findings on the wire. */
import { z } from 'zod';
import { FINDING_ACTIONS, FINDING_STATUSES, STACK_FINDING_CLASSES } from '../../domain/finding.ts';
import { INSTANCE_STATUSES } from '../../domain/instance.ts';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { FINDING_CLASSES } from '../../domain/reconcile.ts';
import { instance, instanceName } from './instances.ts';
import { operationRef } from './operations.ts';
import { commaList, consumer, id, lifetime, microUsd, pageOf, pageQuery, reason, time } from './values.ts';

export const finding = z
  .object({
    id: id('finding'),
    orgId: id('org').nullable().meta({ description: 'null: the machine cannot be traced to an org' }),
    class: z.string().meta({ example: 'orphan' }),
    provider: z.string().nullable().meta({ description: 'null: it is about a stack' }),
    providerInstanceId: z.string().nullable(),
    attemptId: id('attempt').nullable(),
    instanceId: id('instance').nullable(),
    stackId: id('stack').nullable().meta({ description: 'Whose drift or price it is; null: it is about a machine' }),
    label: z.string().nullable(),
    detail: z.string(),
    priceMicroUsdPerHour: microUsd
      .nullable()
      .meta({ description: 'Of the machine; of the stack where its price has moved' }),
    accruedMicroUsd: microUsd.meta({
      description:
        'What the machine has cost: since it was first seen where no live row accounts for it, and what its attempt has accrued',
    }),
    sightings: z.int(),
    status: z.enum(FINDING_STATUSES),
    resolution: z.enum(['destroyed', 'adopted', 'repaired', 'unseen']).nullable().meta({
      description:
        'How it ended; `unseen`: a believable listing, or a look at the stack, no longer showed the difference',
    }),
    reason: z.string().nullable().meta({ description: 'What the person gave who last acted on it' }),
    ignoredUntil: time.nullable().meta({ description: 'null where it is not ignored, or ignored for good' }),
    operationId: id('operation').nullable(),
    allowedActions: z.array(z.enum(FINDING_ACTIONS)),
    firstSeenAt: time,
    lastSeenAt: time,
    resolvedAt: time.nullable(),
  })
  .meta({ id: 'Finding' });
export type Finding = z.infer<typeof finding>;
export const findingPage = pageOf(finding).meta({ id: 'FindingPage' });
export const findingListQuery = pageQuery.extend({
  status: commaList(FINDING_STATUSES).optional(),
  class: commaList([...FINDING_CLASSES, ...STACK_FINDING_CLASSES]).optional(),
  provider: commaList(PROVIDER_NAMES).optional(),
  stackId: id('stack').optional(),
});
export const findingDestroyBody = z.strictObject({ reason: reason.optional() });
export const findingDestroyAccepted = z.object({ operation: operationRef, finding });

export const findingRepairBody = z.strictObject({ reason: reason.optional() });
export const findingRepairAccepted = z.object({ operation: operationRef, finding });

export const findingIgnoreBody = z.strictObject({
  reason: reason.meta({ description: 'Why it may stay as it is' }),
  until: time
    .optional()
    .meta({ description: 'From then on it is open again while it is still seen. Default: ignored for good' }),
});

export const findingAdoptBody = z.strictObject({
  name: instanceName.optional().meta({ description: 'Of the new instance. Default: made of the GPU' }),
  orgId: id('org').optional().meta({
    description:
      "Whose it becomes. Only the deployment's admin may give it. Default: the org of the finding, else the caller's",
  }),
  consumer: consumer.optional(),
  maxLifetime: lifetime.optional().meta({ description: 'From now. Default: the maximum of the deployment' }),
  overrideReason: reason.optional(),
  reason: reason.optional(),
});
export const findingAdoptAccepted = z.object({ operation: operationRef, finding, instance });

export const fleet = z
  .object({
    instances: z.object({ live: z.int(), byStatus: z.partialRecord(z.enum(INSTANCE_STATUSES), z.int()) }),
    machines: z.int().meta({ description: 'Rented machines that may exist, losers of races included' }),
    burnMicroUsdPerHour: microUsd,
    accruedMicroUsd: microUsd.meta({ description: 'What everything live has cost so far' }),
    byProvider: z.array(z.object({ provider: z.string(), machines: z.int(), burnMicroUsdPerHour: microUsd })),
    openFindings: z.int(),
    unbounded: z.array(
      z.object({ instanceId: id('instance'), name: z.string(), overrideReason: z.string().nullable() }),
    ),
    asOf: time,
  })
  .meta({ id: 'Fleet' });
export type Fleet = z.infer<typeof fleet>;
