/** Machines on the wire: what became of our attempts on each physical machine, and which ones nothing is bought on. */
import { z } from 'zod';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { duration, pageOf, pageQuery, reason, time } from './values.ts';

export const machine = z
  .object({
    provider: z.string(),
    machineId: z.string(),
    attempts: z.int().meta({ description: 'Attempts whose outcome is known' }),
    successes: z.int(),
    losses: z.int().meta({ description: 'Times it vanished though nobody destroyed it' }),
    interruptions: z.int().meta({ description: 'Times its provider took an interruptible machine away' }),
    chanceOfSuccess: z.number().nullable().meta({ description: '(successes + 1) / (attempts + 2); null: never tried' }),
    meanReadyMs: z.int().nullable(),
    p50ReadyMs: z.int().nullable().meta({ description: 'From purchase to ready, over the last 30 days' }),
    p95ReadyMs: z.int().nullable(),
    lastFailureCode: z.string().nullable(),
    lastFailureAt: time.nullable(),
    denylisted: z.boolean().meta({ description: 'Nothing is bought on it now' }),
    denylistedUntil: time.nullable(),
    denylistReason: z.string().nullable(),
    denylistedAt: time.nullable(),
    denylistedBy: z.enum(['automatic', 'person']).nullable().meta({
      description: '`automatic`: below 30 % success over at least 3 attempts, for a day',
    }),
    updatedAt: time,
  })
  .meta({ id: 'Machine', description: 'What became of our attempts on one physical machine' });
export type Machine = z.infer<typeof machine>;
export const machinePage = pageOf(machine).meta({ id: 'MachinePage' });

export const machineDetail = machine
  .extend({
    denylistings: z
      .array(
        z.object({
          at: time,
          action: z.enum(['denylist', 'lift']),
          by: z.enum(['automatic', 'person']),
          until: time.nullable(),
          reason: z.string().nullable(),
        }),
      )
      .meta({ description: 'Each time it was denylisted or lifted, newest first, at most 100' }),
  })
  .meta({ id: 'MachineDetail' });
export type MachineDetail = z.infer<typeof machineDetail>;

export const machineListQuery = pageQuery.extend({ provider: z.enum(PROVIDER_NAMES).optional() });

export const denylistBody = z.strictObject({
  reason,
  for: duration(60_000, 365 * 86_400_000, 'from 1 minute to 365 days').default('24 hours'),
});
