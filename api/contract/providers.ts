/** Providers on the wire: the state in which workers last found each vendor. */
import { z } from 'zod';
import { CIRCUIT_SOURCES, CIRCUIT_STATES } from '../../domain/circuit.ts';
import { pageOf, reason, time } from './values.ts';

export const providerCircuit = z
  .object({
    source: z.enum(CIRCUIT_SOURCES),
    state: z.enum(CIRCUIT_STATES).meta({
      description:
        '`closed`: bought from; `open`: not; `half_open`: one purchase at a time probes whether it works again',
    }),
    reason: z.string().nullable(),
    openUntil: time.nullable(),
    opens: z.int().meta({ description: 'How often it opened without a good time in between' }),
  })
  .meta({ id: 'ProviderCircuit' });

export const provider = z
  .object({
    name: z.string(),
    mode: z.enum(['live', 'sandbox', 'off']),
    enabled: z.boolean(),
    status: z.enum(['unknown', 'ok', 'degraded', 'quarantined', 'auth_failed', 'off']),
    reason: z.string().nullable(),
    offersCount: z.int().nullable(),
    offersSeenAt: time.nullable(),
    instancesCount: z.int().nullable(),
    instancesSeenAt: time.nullable(),
    foreignCount: z
      .int()
      .nullable()
      .meta({ description: "Machines in the account that are not ours; only for the deployment's admin" }),
    quarantinedAt: time.nullable(),
    circuits: z.array(providerCircuit).meta({ description: 'Those that ever opened; empty: none did' }),
    updatedAt: time,
  })
  .meta({ id: 'Provider' });
export type Provider = z.infer<typeof provider>;
export const providerPage = pageOf(provider);

export const providerSwitchBody = z.strictObject({ reason: reason.optional() });
