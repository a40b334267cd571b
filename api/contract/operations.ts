/** Operations on the wire: durable units of work that requests answer with. */
import { z } from 'zod';
import { OPERATION_KINDS, OPERATION_STATUSES } from '../../domain/operation.ts';
import { commaList, id, pageOf, pageQuery, reason, time } from './values.ts';

export const operation = z
  .object({
    id: id('operation'),
    kind: z.enum(OPERATION_KINDS),
    status: z.enum(OPERATION_STATUSES),
    targetKind: z.string(),
    targetId: z.string(),
    claim: z.int().meta({ description: 'How often it was taken by a worker' }),
    note: z.string().nullable().meta({ description: 'What it does now, for people' }),
    error: z.object({ code: z.string(), detail: z.string() }).nullable(),
    allowedActions: z.array(z.enum(['cancel'])),
    cancelRequestedAt: time.nullable(),
    createdAt: time,
    startedAt: time.nullable(),
    finishedAt: time.nullable(),
    updates: z.array(z.unknown()).meta({ description: 'Engine runs so far: kind, result, resource changes, duration' }),
  })
  .meta({ id: 'Operation' });
export type Operation = z.infer<typeof operation>;

/** The part of an operation that an accepted request answers with. */
export const operationRef = z
  .object({ id: id('operation'), kind: z.enum(OPERATION_KINDS), status: z.enum(OPERATION_STATUSES) })
  .meta({ id: 'OperationRef' });
export type OperationRef = z.infer<typeof operationRef>;

export const operationAccepted = z.object({ operation: operationRef });

export const operationPage = pageOf(operation).meta({ id: 'OperationPage' });

export const operationListQuery = pageQuery.extend({
  status: commaList(OPERATION_STATUSES).optional(),
  kind: z.enum(OPERATION_KINDS).optional(),
  targetId: z.string().max(64).optional(),
});

export const cancelBody = z.strictObject({ reason: reason.optional() });

/** One event of an operation, as the `data:` of a Server-Sent Event. */
export const operationEvent = z
  .object({
    operationId: id('operation'),
    seq: z.int(),
    at: time,
    type: z.string(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'OperationEvent' });
export type OperationEvent = z.infer<typeof operationEvent>;
