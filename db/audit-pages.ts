/** Pages of the audit log, newest first; entries are written by audit.ts. */
import { sql, type Selectable } from 'kysely';
import type { Executor } from './database.ts';
import type { Schema } from './schema.ts';

export type AuditRow = Selectable<Schema['audit_log']>;

export interface AuditFilter {
  orgId: string;
  /** Also entries of no org: what concerns the whole deployment. */
  includesDeployment: boolean;
  action?: string;
  targetId?: string;
  actorId?: string;
  limit: number;
  before?: string;
}

export function listAudit(executor: Executor, filter: AuditFilter): Promise<AuditRow[]> {
  let query = executor.selectFrom('audit_log').selectAll();
  query = filter.includesDeployment
    ? query.where((eb) => eb.or([eb('org_id', '=', filter.orgId), eb('org_id', 'is', null)]))
    : query.where('org_id', '=', filter.orgId);
  if (filter.action !== undefined) query = query.where('action', '=', filter.action);
  if (filter.targetId !== undefined) query = query.where('target_id', '=', filter.targetId);
  if (filter.actorId !== undefined) query = query.where('actor_id', '=', filter.actorId);
  if (filter.before !== undefined) query = query.where(sql<boolean>`seq < ${filter.before}::bigint`);
  return query.orderBy('seq', 'desc').limit(filter.limit).execute();
}
