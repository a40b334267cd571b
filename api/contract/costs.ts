/** Costs on the wire: what machines cost their org, by what it is grouped by. */
import { z } from 'zod';
import { COST_GROUPS } from '../../domain/usage.ts';
import { savings } from './hibernation.ts';
import { consumer, id, microUsd, pageOf, pageQuery, time } from './values.ts';

const moment = z.iso
  .datetime({ offset: true, error: 'must be a time of RFC 3339, such as "2026-11-21T09:00:00Z"' })
  .meta({ description: 'RFC 3339', example: '2026-11-21T09:00:00Z' });

const amounts = {
  costMicroUsd: microUsd,
  unprovenMicroUsd: microUsd.meta({
    description: 'The part of it after the last sign of life: a machine is charged until the provider says not-found',
  }),
  billedMs: z.int().meta({ description: 'Machine time' }),
};

export const costListQuery = pageQuery.extend({
  groupBy: z.enum(COST_GROUPS).default('instance'),
  consumer: consumer.optional(),
  instanceId: id('instance').optional(),
  sessionId: id('session').optional(),
  provider: z.string().max(32).optional(),
  from: moment.optional().meta({ description: 'From this moment on' }),
  to: moment.optional().meta({ description: 'Up to this moment, without it' }),
});

export const costLine = z
  .object({
    key: z
      .string()
      .nullable()
      .meta({ description: 'Of the group; null: what has none. A day is its date in UTC', example: 'search-team' }),
    name: z.string().nullable().meta({ description: 'Of an instance' }),
    ...amounts,
  })
  .meta({ id: 'CostLine' });
export type CostLine = z.infer<typeof costLine>;

export const costPage = pageOf(costLine)
  .extend({
    groupBy: z.enum(COST_GROUPS),
    total: z.object(amounts).meta({ description: 'Of everything asked for, not only of this page' }),
    asOf: time.meta({ description: 'What is still billed is counted up to here' }),
  })
  .meta({ id: 'CostPage' });
export type CostPage = z.infer<typeof costPage>;

export const costSummaryQuery = z.strictObject({
  month: z
    .string()
    .regex(/^\d{4}-(0[1-9]|1[0-2])$/, 'must be a month such as "2026-11"')
    .optional()
    .meta({ description: 'In UTC; the present one when it is left out', example: '2026-11' }),
});

const line = z.object({ key: z.string().nullable(), ...amounts });

export const costSummary = z
  .object({
    month: z.string(),
    from: time,
    to: time,
    ...amounts,
    burnMicroUsdPerHour: microUsd.meta({ description: 'What is billed now costs by the hour' }),
    forecastMicroUsd: microUsd.meta({
      description: 'At the end of the month, if everything stays as it is; of a past month what it cost',
    }),
    hibernation: savings.meta({ description: 'What instances that slept have saved in the month' }),
    byConsumer: z.array(line).meta({ description: 'The dearest first, at most 100' }),
    byProvider: z.array(line),
    byGpu: z.array(line).meta({ description: 'The dearest first, at most 100' }),
    byDay: z.array(line),
    asOf: time,
  })
  .meta({ id: 'CostSummary' });
export type CostSummary = z.infer<typeof costSummary>;
