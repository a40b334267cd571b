/** The audit log: who did what to what. Appended in the transaction of the effect; the program's role cannot change or delete it. */
import type { Executor } from './database.ts';

export interface Actor {
  kind: 'user' | 'api_key' | 'agent' | 'system';
  id: string;
  requestId?: string | null;
}

export const SYSTEM: Actor = { kind: 'system', id: 'system' };

export interface AuditEntry {
  orgId: string | null;
  actor: Actor;
  /** noun.verb, e.g. `instance.create`. */
  action: string;
  targetKind: string;
  targetId: string;
  /** Never secrets. */
  detail?: Record<string, unknown>;
}

/** Of a row of an org's: its kind is the action's noun. */
export function auditRow(
  executor: Executor,
  actor: Actor,
  row: { id: string; org_id: string | null },
  action: `${string}.${string}`,
  detail: Record<string, unknown> = {},
): Promise<void> {
  const targetKind = action.slice(0, action.indexOf('.'));
  return appendAudit(executor, { orgId: row.org_id, actor, action, targetKind, targetId: row.id, detail });
}

export async function appendAudit(executor: Executor, entry: AuditEntry): Promise<void> {
  await executor
    .insertInto('audit_log')
    .values({
      org_id: entry.orgId,
      actor_kind: entry.actor.kind,
      actor_id: entry.actor.id,
      action: entry.action,
      target_kind: entry.targetKind,
      target_id: entry.targetId,
      request_id: entry.actor.requestId ?? null,
      detail: JSON.stringify(entry.detail ?? {}),
    })
    .execute();
}
