/** Whether the control plane lives and is ready, on the wire. */
import { z } from 'zod';

export const health = z.object({ status: z.literal('ok') }).meta({ id: 'Health' });

const check = z.object({ ready: z.boolean(), reason: z.string() });

export const readiness = z
  .object({
    ready: z.boolean(),
    checks: z.object({
      database: check,
      engine: check,
      snapshots: check.optional().meta({ description: 'Whether snapshots can be taken and read back' }),
      providers: z.record(z.string(), check),
    }),
  })
  .meta({ id: 'Readiness' });
export type Readiness = z.infer<typeof readiness>;
