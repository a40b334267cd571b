/** Findings: differences between recorded and observed, each open until it is resolved or ignored. */
import { sql, type Selectable } from 'kysely';
import type { Executor } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type FindingRow = Selectable<Schema['findings']>;

export interface NewFinding {
  orgId: string | null;
  class: string;
  provider: string;
  providerInstanceId: string | null;
  attemptId: string | null;
  instanceId: string | null;
  label: string | null;
  detail: string;
  priceMicroUsdPerHour: bigint | null;
}

/** Opens the finding or counts one more sighting of the open one. Ignored ones stay ignored. */
export async function sightFinding(executor: Executor, finding: NewFinding): Promise<FindingRow | undefined> {
  const ignored = await executor
    .selectFrom('findings')
    .select('id')
    .where('status', '=', 'ignored')
    .where('class', '=', finding.class)
    .where('provider', '=', finding.provider)
    .where('provider_instance_id', 'is not distinct from', finding.providerInstanceId)
    .where('attempt_id', 'is not distinct from', finding.attemptId)
    .executeTakeFirst();
  if (ignored) return undefined;
  const { rows } = await sql<FindingRow>`
    insert into findings (id, org_id, class, provider, provider_instance_id, attempt_id, instance_id, label, detail, price_micro_usd_per_hour)
    values (${newId('finding')}, ${finding.orgId}, ${finding.class}, ${finding.provider}, ${finding.providerInstanceId},
            ${finding.attemptId}, ${finding.instanceId}, ${finding.label}, ${finding.detail}, ${finding.priceMicroUsdPerHour})
    on conflict (class, provider, coalesce(provider_instance_id, ''), coalesce(attempt_id, '')) where status in ('open', 'resolving')
    do update set sightings = findings.sightings + 1, last_seen_at = now(), detail = excluded.detail
    returning *`.execute(executor);
  return rows[0];
}

export function findFinding(executor: Executor, findingId: string): Promise<FindingRow | undefined> {
  return executor.selectFrom('findings').selectAll().where('id', '=', findingId).executeTakeFirst();
}

export interface FindingFilter {
  /** null: findings of all orgs and of none (the deployment's admin). */
  orgId: string | null;
  status?: FindingRow['status'][];
  limit: number;
  before?: { firstSeenAt: Date; id: string };
}

export function listFindings(executor: Executor, filter: FindingFilter): Promise<FindingRow[]> {
  let query = executor.selectFrom('findings').selectAll();
  if (filter.orgId !== null) query = query.where('org_id', '=', filter.orgId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.before)
    query = query.where(sql<boolean>`(first_seen_at, id) < (${filter.before.firstSeenAt}, ${filter.before.id})`);
  return query.orderBy('first_seen_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

export async function setFindingStatus(
  executor: Executor,
  findingId: string,
  status: FindingRow['status'],
  operationId: string | null = null,
): Promise<void> {
  await executor
    .updateTable('findings')
    .set({
      status,
      ...(operationId === null ? {} : { operation_id: operationId }),
      ...(status === 'resolved' || status === 'ignored' ? { resolved_at: sql<string>`now()` } : {}),
    })
    .where('id', '=', findingId)
    .execute();
}

/** Open findings of a provider other than those just seen are over. By id, because clocks of processes and database differ. */
export async function resolveUnseen(executor: Executor, provider: string, seenIds: string[]): Promise<number> {
  const result = await executor
    .updateTable('findings')
    .set({ status: 'resolved', resolved_at: sql`now()` })
    .where('provider', '=', provider)
    .where('status', '=', 'open')
    .where(sql<boolean>`id <> all(${seenIds})`)
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}
