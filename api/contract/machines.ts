/** Machines on the wire: what became of our attempts on each physical machine, and which ones nothing is bought on. */
import { z } from 'zod';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { duration, pageOf, pageQuery, reason, time } from './values.ts';

export const machine = z
  .object({
    provider: z.string(),
    machineId: z.string(),
    attempts: z.int(),
    successes: z.int(),
    losses: z.int(),
    meanReadyMs: z.int().nullable(),
    lastFailureCode: z.string().nullable(),
    lastFailureAt: time.nullable(),
    denylistedUntil: time.nullable(),
    denylistReason: z.string().nullable(),
    updatedAt: time,
  })
  .meta({ id: 'Machine', description: 'What became of our attempts on one physical machine' });
export type Machine = z.infer<typeof machine>;
export const machinePage = pageOf(machine).meta({ id: 'MachinePage' });

export const machineListQuery = pageQuery.extend({ provider: z.enum(PROVIDER_NAMES).optional() });

export const denylistBody = z.strictObject({
  reason,
  for: duration(60_000, 365 * 86_400_000, 'from 1 minute to 365 days').default('24 hours'),
});
