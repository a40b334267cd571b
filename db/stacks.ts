/**
 * Stacks. The engine's state belongs to its backend; this row is what operations and people point at. An instance's stack is only a
 * name; one that people made (it has a title) also says what it wants and what it holds.
 */
import { sql, type Selectable } from 'kysely';
import type { PendingCreate } from '../domain/pending-creates/decision.ts';
import type { StackKind } from '../domain/stack-kind.ts';
import type { DriftPolicy, RecordedDrift, StackStatus } from '../domain/stack.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

type Row = Selectable<Schema['stacks']>;
/** A stack that people made. */
export type StackRow = Row & {
  kind: StackKind;
  title: string;
  status: StackStatus;
  config: unknown;
  owner: string;
  cost_centre: string;
};

/** Throws where there is none: a stack's row outlives its instances. */
export async function findStackName(executor: Executor, stackId: string): Promise<string> {
  const row = await executor.selectFrom('stacks').select('name').where('id', '=', stackId).executeTakeFirstOrThrow();
  return row.name;
}

/** By the engine's name of it; null: no stack of ours has it. */
export async function findStackOrg(executor: Executor, name: string): Promise<string | null> {
  const row = await executor.selectFrom('stacks').select('org_id').where('name', '=', name).executeTakeFirst();
  return row?.org_id ?? null;
}

export async function markStackRemoved(executor: Executor, stackId: string): Promise<void> {
  await executor
    .updateTable('stacks')
    .set({ removed_at: sql`coalesce(removed_at, now())` })
    .where('id', '=', stackId)
    .execute();
}

export interface NewStack {
  orgId: string;
  kind: StackKind;
  title: string;
  config: unknown;
  owner: string;
  costCentre: string;
  ceilingMicroUsdPerHour: bigint | null;
  protect: boolean;
  onDrift: DriftPolicy;
  createdBy: string;
}

/** @returns null where a stack of the org that is still there has the title */
export async function insertStack(tx: Tx, stack: NewStack): Promise<StackRow | null> {
  const id = newId('stack');
  const row = await tx
    .insertInto('stacks')
    .values({
      id,
      org_id: stack.orgId,
      kind: stack.kind,
      // Two orgs may use one title; the engine's names are the deployment's.
      name: `${stack.kind}-${id.slice('stk_'.length)}`,
      title: stack.title,
      status: 'created',
      config: JSON.stringify(stack.config),
      owner: stack.owner,
      cost_centre: stack.costCentre,
      ceiling_micro_usd_per_hour: stack.ceilingMicroUsdPerHour,
      protect: stack.protect,
      on_drift: stack.onDrift,
      created_by: stack.createdBy,
    })
    .onConflict((conflict) =>
      conflict.columns(['org_id', 'title']).where('title', 'is not', null).where('removed_at', 'is', null).doNothing(),
    )
    .returningAll()
    .executeTakeFirst();
  return (row as StackRow | undefined) ?? null;
}

/** Of a dry run: it can be previewed, but nobody is shown it and it holds no name. */
export async function shelveStack(tx: Tx, id: string): Promise<void> {
  await tx
    .updateTable('stacks')
    .set({ removed_at: sql<Date>`now()` })
    .where('id', '=', id)
    .execute();
}

/** The stack of the dry run that showed this plan, held; undefined: there is none, or it was carried out already. */
export async function lockShelvedStack(tx: Tx, orgId: string, planHash: string): Promise<StackRow | undefined> {
  const row = await tx
    .selectFrom('stacks')
    .selectAll()
    .where('org_id', '=', orgId)
    .where('status', '=', 'created')
    .where('removed_at', 'is not', null)
    .where('id', 'in', (plans) => plans.selectFrom('stack_plans').select('stack_id').where('plan_hash', '=', planHash))
    .forUpdate()
    .executeTakeFirst();
  return row as StackRow | undefined;
}

/** @returns false: its name was taken meanwhile */
export async function unshelveStack(tx: Tx, stack: StackRow): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('stacks')
    .set({ removed_at: null })
    .where('id', '=', stack.id)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('stacks as other')
            .select('other.id')
            .where('other.org_id', '=', stack.org_id)
            .where('other.title', '=', stack.title)
            .where('other.removed_at', 'is', null),
        ),
      ),
    )
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** @param orgId null: any org */
export async function findStack(executor: Executor, orgId: string | null, id: string): Promise<StackRow | undefined> {
  const row = await executor
    .selectFrom('stacks')
    .selectAll()
    .where('id', '=', id)
    .where('title', 'is not', null)
    .$if(orgId !== null, (query) => query.where('org_id', '=', orgId as string))
    .executeTakeFirst();
  return row as StackRow | undefined;
}

export async function lockStack(tx: Tx, id: string): Promise<StackRow | undefined> {
  const row = await tx
    .selectFrom('stacks')
    .selectAll()
    .where('id', '=', id)
    .where('title', 'is not', null)
    .forUpdate()
    .executeTakeFirst();
  return row as StackRow | undefined;
}

export interface StackFilter {
  orgId: string | null;
  kind?: StackKind;
  status?: StackStatus[];
  /** Destroyed ones too. Default: no. */
  withDestroyed?: boolean;
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export async function listStacks(executor: Executor, filter: StackFilter): Promise<StackRow[]> {
  const { orgId, kind, status, before } = filter;
  const rows = await executor
    .selectFrom('stacks')
    .selectAll()
    .where('title', 'is not', null)
    .where((eb) => eb.or([eb('removed_at', 'is', null), eb('status', '<>', 'created')]))
    .$if(orgId !== null, (query) => query.where('org_id', '=', orgId as string))
    .$if(kind !== undefined, (query) => query.where('kind', '=', kind as string))
    .$if(status !== undefined, (query) => query.where('status', 'in', status as StackStatus[]))
    .$if(status === undefined && filter.withDestroyed !== true, (query) => query.where('removed_at', 'is', null))
    .$if(before !== undefined, (query) =>
      query.where(
        sql<boolean>`(date_trunc('milliseconds', created_at), id) < (${before?.createdAt ?? null}::timestamptz, ${before?.id ?? null})`,
      ),
    )
    .orderBy(sql`date_trunc('milliseconds', created_at)`, 'desc')
    .orderBy('id', 'desc')
    .limit(filter.limit)
    .execute();
  return rows as StackRow[];
}

export interface StackChange {
  config?: unknown;
  ceilingMicroUsdPerHour?: bigint | null;
  protect?: boolean;
  onDrift?: DriftPolicy;
}

/** What it wants from now on; the next up carries it out. */
export async function changeStack(tx: Tx, id: string, change: StackChange): Promise<StackRow> {
  const row = await tx
    .updateTable('stacks')
    .set({
      ...(change.config === undefined ? {} : { config: JSON.stringify(change.config) }),
      ...(change.ceilingMicroUsdPerHour === undefined
        ? {}
        : { ceiling_micro_usd_per_hour: change.ceilingMicroUsdPerHour }),
      ...(change.protect === undefined ? {} : { protect: change.protect }),
      ...(change.onDrift === undefined ? {} : { on_drift: change.onDrift }),
    })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow();
  return row as StackRow;
}

export async function setStackStatus(
  executor: Executor,
  id: string,
  status: StackStatus,
  failure: { code: string; detail: string } | null = null,
): Promise<void> {
  await executor
    .updateTable('stacks')
    .set({
      status,
      failure_code: failure?.code ?? null,
      failure_detail: failure?.detail ?? null,
      ...(status === 'destroyed' ? { removed_at: sql<Date>`coalesce(removed_at, now())` } : {}),
    })
    .where('id', '=', id)
    .execute();
}

/** What its last up that ended well handed out. */
export async function saveStackOutputs(
  executor: Executor,
  id: string,
  outputs: Record<string, unknown>,
): Promise<void> {
  await executor
    .updateTable('stacks')
    .set({ outputs: JSON.stringify(outputs) })
    .where('id', '=', id)
    .execute();
}

/** @param isLook whether the clouds were asked just now */
export async function saveDrift(
  executor: Executor,
  id: string,
  drift: RecordedDrift[],
  isLook: boolean,
): Promise<void> {
  await executor
    .updateTable('stacks')
    .set({ drift: JSON.stringify(drift), ...(isLook ? { drift_checked_at: sql<Date>`now()` } : {}) })
    .where('id', '=', id)
    .execute();
}

/** Pending creates that somebody has to decide; null: nothing holds its updates back any more. */
export async function saveStackPending(executor: Executor, id: string, pending: PendingCreate[] | null): Promise<void> {
  await executor
    .updateTable('stacks')
    .set({ pending: pending === null ? null : JSON.stringify(pending) })
    .where('id', '=', id)
    .execute();
}

/** Stacks whose drift was not looked at for so long, those that waited longest first. */
export async function listDueForDrift(executor: Executor, olderThanMs: number, limit: number): Promise<StackRow[]> {
  const rows = await executor
    .selectFrom('stacks')
    .selectAll()
    .where('title', 'is not', null)
    .where('status', 'in', ['up', 'failed'])
    // Of a stopped cluster nothing answers: a look would find everything gone.
    .where(
      sql<boolean>`not exists (select 1 from clusters where clusters.stack_id = stacks.id and clusters.status = 'stopped')`,
    )
    .where(
      sql<boolean>`coalesce(drift_checked_at, updated_at, created_at) < now() - ${olderThanMs} * interval '1 millisecond'`,
    )
    .orderBy(sql`coalesce(drift_checked_at, created_at)`)
    .limit(limit)
    .execute();
  return rows as StackRow[];
}
