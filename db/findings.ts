/**
 * Findings: differences between recorded and observed, each open until it is resolved or ignored. Every change of a finding goes
 * through here, so that whoever tells the world of one has one place to hang on to.
 */
import { sql, type Selectable } from 'kysely';
import type { StackFindingClass } from '../domain/finding.ts';
import type { FoundMachine } from '../domain/found-machine.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type FindingRow = Selectable<Schema['findings']>;

export interface NewFinding {
  orgId: string | null;
  class: string;
  /** null: it is about a stack. */
  provider: string | null;
  providerInstanceId: string | null;
  attemptId: string | null;
  instanceId: string | null;
  label: string | null;
  detail: string;
  priceMicroUsdPerHour: bigint | null;
  machine?: FoundMachine | null;
  stackId?: string | null;
}

/** Opens the finding or counts one more sighting of the open one. An ignored one stays so until its time; then it is open again. */
export async function sightFinding(executor: Executor, finding: NewFinding): Promise<FindingRow | undefined> {
  const ignored = await executor
    .selectFrom('findings')
    .select(['id', sql<boolean>`coalesce(ignored_until <= now(), false)`.as('isOver')])
    .where('status', '=', 'ignored')
    .where('class', '=', finding.class)
    .where('provider', 'is not distinct from', finding.provider)
    .where('provider_instance_id', 'is not distinct from', finding.providerInstanceId)
    .where('attempt_id', 'is not distinct from', finding.attemptId)
    .where('stack_id', 'is not distinct from', finding.stackId ?? null)
    .orderBy('first_seen_at', 'desc')
    .executeTakeFirst();
  if (ignored && !ignored.isOver) return undefined;
  if (ignored) await changeFinding(executor, ignored.id, { status: 'open', from: ['ignored'] });
  const machine = finding.machine ? JSON.stringify(finding.machine) : null;
  const { rows } = await sql<FindingRow>`
    insert into findings (id, org_id, class, provider, provider_instance_id, attempt_id, instance_id, stack_id, label, detail, price_micro_usd_per_hour, machine)
    values (${newId('finding')}, ${finding.orgId}, ${finding.class}, ${finding.provider}, ${finding.providerInstanceId},
            ${finding.attemptId}, ${finding.instanceId}, ${finding.stackId ?? null}, ${finding.label}, ${finding.detail}, ${finding.priceMicroUsdPerHour}, ${machine}::jsonb)
    on conflict (class, coalesce(provider, ''), coalesce(provider_instance_id, ''), coalesce(attempt_id, ''), coalesce(stack_id, '')) where status in ('open', 'resolving')
    do update set sightings = findings.sightings + 1, last_seen_at = now(), detail = excluded.detail,
      machine = coalesce(excluded.machine, findings.machine), org_id = coalesce(findings.org_id, excluded.org_id),
      price_micro_usd_per_hour = coalesce(excluded.price_micro_usd_per_hour, findings.price_micro_usd_per_hour)
    returning *`.execute(executor);
  return rows[0];
}

export function findFinding(executor: Executor, findingId: string): Promise<FindingRow | undefined> {
  return executor.selectFrom('findings').selectAll().where('id', '=', findingId).executeTakeFirst();
}

/**
 * Holds the finding and all others that are not over of the same machine, so that what is decided about the machine is decided once: it
 * may be found as a duplicate first and as an orphan later.
 */
export async function lockFinding(tx: Tx, findingId: string): Promise<FindingRow | undefined> {
  const { rows } = await sql<FindingRow>`
    select findings.* from findings, (select provider, provider_instance_id from findings where id = ${findingId}) as one
    where findings.id = ${findingId}
      or (findings.provider = one.provider and findings.provider_instance_id = one.provider_instance_id
          and findings.status in ('open', 'resolving', 'ignored'))
    order by findings.id for update of findings`.execute(tx);
  return rows.find((row) => row.id === findingId);
}

export interface FindingFilter {
  /** null: findings of all orgs and of none (the deployment's admin). */
  orgId: string | null;
  status?: FindingRow['status'][];
  class?: string[];
  provider?: string[];
  stackId?: string;
  limit: number;
  before?: { createdAt: Date; id: string };
}

export function listFindings(executor: Executor, filter: FindingFilter): Promise<FindingRow[]> {
  let query = executor.selectFrom('findings').selectAll();
  if (filter.orgId !== null) query = query.where('org_id', '=', filter.orgId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.class) query = query.where('class', 'in', filter.class);
  if (filter.provider) query = query.where('provider', 'in', filter.provider);
  if (filter.stackId !== undefined) query = query.where('stack_id', '=', filter.stackId);
  if (filter.before)
    query = query.where(sql<boolean>`(first_seen_at, id) < (${filter.before.createdAt}, ${filter.before.id})`);
  return query.orderBy('first_seen_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

export interface FindingChange {
  status: FindingRow['status'];
  /** Changed only from one of these. */
  from: FindingRow['status'][];
  operationId?: string;
  resolution?: NonNullable<FindingRow['resolution']>;
  reason?: string | null;
  ignoredUntil?: Date | null;
}

/** Whether it changed: false where it is in none of the states of `from` any more. */
export async function changeFinding(executor: Executor, findingId: string, change: FindingChange): Promise<boolean> {
  const { status } = change;
  const row = await executor
    .updateTable('findings')
    .set({
      status,
      resolved_at: status === 'resolved' ? sql<string>`now()` : null,
      resolution: status === 'resolved' ? (change.resolution ?? 'unseen') : null,
      ignored_until: status === 'ignored' ? (change.ignoredUntil ?? null) : null,
      ...(change.operationId === undefined ? {} : { operation_id: change.operationId }),
      ...(change.reason === undefined ? {} : { reason: change.reason }),
    })
    .where('id', '=', findingId)
    .where('status', 'in', change.from)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

/** The open one about this is over: what it told of is so no more. */
export async function resolveFinding(
  executor: Executor,
  about: Pick<NewFinding, 'class' | 'provider' | 'providerInstanceId'>,
): Promise<void> {
  await executor
    .updateTable('findings')
    .set({ status: 'resolved', resolved_at: sql`now()`, resolution: 'unseen' })
    .where('class', '=', about.class)
    .where('provider', '=', about.provider)
    .where('provider_instance_id', 'is not distinct from', about.providerInstanceId)
    .where('status', '=', 'open')
    .execute();
}

/** Open findings of a provider other than those just seen are over. By id, because clocks of processes and database differ. */
export async function resolveUnseen(executor: Executor, provider: string, seenIds: string[]): Promise<number> {
  const result = await executor
    .updateTable('findings')
    .set({ status: 'resolved', resolved_at: sql`now()`, resolution: 'unseen' })
    .where('provider', '=', provider)
    .where('status', '=', 'open')
    .where(sql<boolean>`id <> all(${seenIds})`)
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/** All that are not over, ignored ones too: what was ignored is gone, and what comes after it is another. @returns how many */
export async function resolveStackFindings(
  executor: Executor,
  stackId: string,
  classes: readonly StackFindingClass[],
  resolution: 'destroyed' | 'repaired' | 'unseen',
): Promise<number> {
  const result = await executor
    .updateTable('findings')
    .set({ status: 'resolved', resolved_at: sql`now()`, resolution })
    .where('stack_id', '=', stackId)
    .where('class', 'in', classes)
    .where('status', 'in', ['open', 'resolving', 'ignored'])
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/** The operation that was to end them did not. */
export async function reopenFindingsOf(executor: Executor, operationId: string): Promise<void> {
  await executor
    .updateTable('findings')
    .set({ status: 'open' })
    .where('operation_id', '=', operationId)
    .where('stack_id', 'is not', null)
    .where('status', '=', 'resolving')
    .execute();
}
