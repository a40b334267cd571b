/** The fleet and its findings on the wire. */
import { z } from 'zod';
import { INSTANCE_STATUSES } from '../../domain/instance.ts';
import { operationRef } from './operations.ts';
import { commaList, id, microUsd, pageOf, pageQuery, reason, time } from './values.ts';

export const FINDING_STATUSES = ['open', 'resolving', 'resolved', 'ignored'] as const;

export const finding = z
  .object({
    id: id('finding'),
    orgId: id('org').nullable().meta({ description: 'null: the machine cannot be traced to an org' }),
    class: z.string().meta({ example: 'orphan' }),
    provider: z.string(),
    providerInstanceId: z.string().nullable(),
    attemptId: id('attempt').nullable(),
    instanceId: id('instance').nullable(),
    label: z.string().nullable(),
    detail: z.string(),
    priceMicroUsdPerHour: microUsd.nullable(),
    sightings: z.int(),
    status: z.enum(FINDING_STATUSES),
    operationId: id('operation').nullable(),
    allowedActions: z.array(z.enum(['destroy', 'ignore'])),
    firstSeenAt: time,
    lastSeenAt: time,
    resolvedAt: time.nullable(),
  })
  .meta({ id: 'Finding' });
export type Finding = z.infer<typeof finding>;
export const findingPage = pageOf(finding).meta({ id: 'FindingPage' });
export const findingListQuery = pageQuery.extend({ status: commaList(FINDING_STATUSES).optional() });
export const findingActionBody = z.strictObject({ reason: reason.optional() });
export const findingDestroyAccepted = z.object({ operation: operationRef, finding });

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
