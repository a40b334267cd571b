/** Pages of the machine history, for people; the rows are written by machines.ts. */
import { sql } from 'kysely';
import type { AuditRow } from './audit-pages.ts';
import type { Executor } from './database.ts';
import type { MachineRow } from './machines.ts';

export function listMachinePage(
  executor: Executor,
  filter: { provider?: string; isDenylisted?: boolean; limit: number; after?: { provider: string; machineId: string } },
): Promise<MachineRow[]> {
  let query = executor.selectFrom('machine_history').selectAll();
  if (filter.provider !== undefined) query = query.where('provider', '=', filter.provider);
  if (filter.isDenylisted === true) query = query.where('denylisted_until', '>', sql<Date>`now()`);
  if (filter.after) {
    query = query.where(sql<boolean>`(provider, machine_id) > (${filter.after.provider}, ${filter.after.machineId})`);
  }
  return query.orderBy('provider').orderBy('machine_id').limit(filter.limit).execute();
}

const DENYLISTINGS = 100;

/** Audit entries of the machine's denylistings and lifts, newest first. */
export function listDenylistings(
  executor: Executor,
  machine: { provider: string; machineId: string },
): Promise<AuditRow[]> {
  return executor
    .selectFrom('audit_log')
    .selectAll()
    .where('target_kind', '=', 'machine')
    .where('target_id', '=', `${machine.provider}/${machine.machineId}`)
    .where('action', 'in', ['machine.denylist', 'machine.lift_denylist'])
    .orderBy('seq', 'desc')
    .limit(DENYLISTINGS)
    .execute();
}
