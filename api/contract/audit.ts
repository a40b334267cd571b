/** The audit log on the wire: who did what to what, newest first. */
import { z } from 'zod';
import { pageOf, pageQuery, time } from './values.ts';

export const auditEntry = z
  .object({
    seq: z.int(),
    at: time,
    actorKind: z.enum(['user', 'api_key', 'agent', 'system']),
    actorId: z.string(),
    action: z.string().meta({ example: 'instance.create' }),
    targetKind: z.string(),
    targetId: z.string(),
    requestId: z.string().nullable(),
    detail: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'AuditEntry' });
export type AuditEntry = z.infer<typeof auditEntry>;
export const auditPage = pageOf(auditEntry).meta({ id: 'AuditPage' });
export const auditQuery = pageQuery.extend({
  action: z.string().max(64).optional(),
  targetId: z.string().max(64).optional(),
  actorId: z.string().max(64).optional(),
});
