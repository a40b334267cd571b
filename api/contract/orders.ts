/** Orders on the wire, between the control plane and the agent of a node. */
import { z } from 'zod';
import { MAX_ORDER_RESULT_BYTES, ORDER_ERROR_CODE, ORDER_KINDS, ORDER_REPORT_STATUSES } from '../../domain/order.ts';
import { id } from './values.ts';

const MAX_REPORTS = 100;

export const order = z
  .object({
    id: id('order'),
    kind: z.enum(ORDER_KINDS),
    input: z.record(z.string(), z.unknown()),
    remainingMs: z.int().meta({ description: 'Until its deadline' }),
  })
  .meta({ id: 'Order' });
export type Order = z.infer<typeof order>;

export const orderReport = z
  .strictObject({
    orderId: id('order'),
    status: z.enum(ORDER_REPORT_STATUSES),
    progress: z
      .strictObject({
        percent: z.number().min(0).max(100).nullable(),
        note: z.string().max(200).nullable(),
      })
      .optional(),
    result: z
      .unknown()
      .optional()
      .refine(
        (value) => value === undefined || JSON.stringify(value).length <= MAX_ORDER_RESULT_BYTES,
        `must be at most ${MAX_ORDER_RESULT_BYTES} characters of JSON`,
      ),
    error: z
      .strictObject({
        code: z.string().regex(ORDER_ERROR_CODE, 'must be 1 to 60 lower-case letters, digits and "_"'),
        detail: z.string().max(2_000),
      })
      .optional(),
  })
  .meta({ id: 'OrderReport' });
export type OrderReport = z.infer<typeof orderReport>;

export const orderReports = z.array(orderReport).max(MAX_REPORTS);

export const acknowledgedOrders = z
  .array(id('order'))
  .meta({ description: 'Ended ones that are taken down: the agent may forget them' });
