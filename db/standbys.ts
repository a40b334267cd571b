/** Standbys: what takes over for an instance. Their machine is their stack's; what their agent reports is of their node. */
import { sql, type Selectable } from 'kysely';
import type { DrillPolicy } from '../domain/drill.ts';
import type { StandbyStackConfig, StandbyState, StandbyStatus } from '../domain/standby.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

type Row = Selectable<Schema['standbys']>;
export type StandbyRow = Row & {
  node_id: string | null;
  /** null: its agent has never registered. */
  node_registered_at: Date | null;
  node_heartbeat_at: Date | null;
};

/** The takeover under way, as far as it came: what was accepted and ordered is named, so that asking again does nothing twice. */
export interface Promotion {
  /** Of whom: an operation of failover or drill. */
  operationId: string;
  begunAt: string;
  /** The update of its stack that starts or stops it. */
  stackOperationId?: string;
  /** Zones that had no room. */
  zonesWithoutRoom: string[];
  snapshotId?: string;
  /** The operation that restores it. */
  restoreId?: string;
  /** Restores that failed. */
  failedRestores: number;
  /** Updates of its stack that failed for another reason than a lack of room. */
  failedUpdates: number;
}

function selectStandbys(executor: Executor) {
  return executor
    .selectFrom('standbys')
    .leftJoin('nodes', 'nodes.standby_id', 'standbys.id')
    .selectAll('standbys')
    .select([
      'nodes.id as node_id',
      'nodes.heartbeat_at as node_heartbeat_at',
      sql<Date | null>`case when nodes.key_hash is not null then nodes.registered_at end`.as('node_registered_at'),
    ]);
}

export interface NewStandby {
  id: string;
  orgId: string;
  instanceId: string;
  name: string;
  stackId: string;
  state: StandbyState;
  rpoMs: number;
  config: StandbyStackConfig;
  drillEveryMs: number | null;
  drillPolicy: DrillPolicy | null;
  createdBy: string;
}

export function newStandbyId(): string {
  return newId('standby');
}

/** With its node, which waits for its agent. @returns null where its name is taken or the instance has one already */
export async function insertStandby(tx: Tx, standby: NewStandby): Promise<StandbyRow | null> {
  const row = await tx
    .insertInto('standbys')
    .values({
      id: standby.id,
      org_id: standby.orgId,
      instance_id: standby.instanceId,
      name: standby.name,
      stack_id: standby.stackId,
      state: standby.state,
      rpo_ms: standby.rpoMs,
      config: JSON.stringify(standby.config),
      drill_every_ms: standby.drillEveryMs === null ? null : BigInt(standby.drillEveryMs),
      drill_policy: standby.drillPolicy === null ? null : JSON.stringify(standby.drillPolicy),
      created_by: standby.createdBy,
    })
    .onConflict((conflict) => conflict.doNothing())
    .returning('id')
    .executeTakeFirst();
  if (!row) return null;
  await tx
    .insertInto('nodes')
    .values({ id: newId('node'), org_id: standby.orgId, standby_id: standby.id })
    .execute();
  return (await findStandby(tx, null, standby.id)) as StandbyRow;
}

/** @param orgId null: any org */
export function findStandby(executor: Executor, orgId: string | null, id: string): Promise<StandbyRow | undefined> {
  return selectStandbys(executor)
    .where('standbys.id', '=', id)
    .$if(orgId !== null, (query) => query.where('standbys.org_id', '=', orgId as string))
    .executeTakeFirst();
}

/** Held until the transaction ends. */
export async function lockStandby(tx: Tx, id: string): Promise<StandbyRow | undefined> {
  const locked = await tx.selectFrom('standbys').select('id').where('id', '=', id).forUpdate().executeTakeFirst();
  return locked && findStandby(tx, null, id);
}

/** The one that is still there. */
export function findStandbyOfInstance(executor: Executor, instanceId: string): Promise<StandbyRow | undefined> {
  return selectStandbys(executor)
    .where('standbys.instance_id', '=', instanceId)
    .where('standbys.removed_at', 'is', null)
    .executeTakeFirst();
}

export function findStandbyOfStack(executor: Executor, stackId: string): Promise<StandbyRow | undefined> {
  return selectStandbys(executor).where('standbys.stack_id', '=', stackId).executeTakeFirst();
}

export interface StandbyFilter {
  orgId: string;
  instanceId?: string;
  status?: StandbyStatus[];
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first; without those that are gone unless their status is asked for. */
export function listStandbys(executor: Executor, filter: StandbyFilter): Promise<StandbyRow[]> {
  const { orgId, instanceId, status, before } = filter;
  return selectStandbys(executor)
    .where('standbys.org_id', '=', orgId)
    .$if(instanceId !== undefined, (query) => query.where('standbys.instance_id', '=', instanceId as string))
    .$if(status !== undefined, (query) => query.where('standbys.status', 'in', status as StandbyStatus[]))
    .$if(status === undefined, (query) => query.where('standbys.removed_at', 'is', null))
    .$if(before !== undefined, (query) =>
      query.where(
        sql<boolean>`(standbys.created_at, standbys.id) < (${before?.createdAt ?? null}::timestamptz, ${before?.id ?? null})`,
      ),
    )
    .orderBy('standbys.created_at', 'desc')
    .orderBy('standbys.id', 'desc')
    .limit(filter.limit)
    .execute();
}

/** Those that stand for something, of all orgs: those that were not looked at for longest first. */
export function listStandbysToSync(executor: Executor, limit: number): Promise<StandbyRow[]> {
  return selectStandbys(executor)
    .where('standbys.removed_at', 'is', null)
    .where('standbys.status', 'in', ['warm', 'stopped', 'promoting', 'serving', 'demoting'])
    .orderBy(sql`standbys.checked_at nulls first`)
    .limit(limit)
    .execute();
}

export async function hasStandbys(executor: Executor): Promise<boolean> {
  const row = await executor
    .selectFrom('standbys')
    .select('id')
    .where('removed_at', 'is', null)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

export type StandbyChange = Partial<{
  status: StandbyStatus;
  address: string | null;
  failure: { code: string; detail: string } | null;
  synced: { snapshotId: string; to: Date } | null;
  sync: { snapshotId: string; operationId: string } | null;
  syncFailure: { detail: string; at: Date } | null;
  promotion: Promotion | null;
  servingSince: Date | null;
  drilledAt: Date;
}>;

/** What is absent stays. */
export async function changeStandby(executor: Executor, id: string, change: StandbyChange): Promise<void> {
  const { status, address, failure, synced, sync, syncFailure, promotion, servingSince, drilledAt } = change;
  const columns = {
    ...(status === undefined ? {} : { status }),
    ...(status === 'destroyed' ? { removed_at: sql<Date>`coalesce(removed_at, now())` } : {}),
    ...(address === undefined ? {} : { address }),
    ...(failure === undefined ? {} : { failure_code: failure?.code ?? null, failure_detail: failure?.detail ?? null }),
    ...(synced === undefined ? {} : { synced_snapshot_id: synced?.snapshotId ?? null, synced_to: synced?.to ?? null }),
    ...(sync === undefined
      ? {}
      : { sync_snapshot_id: sync?.snapshotId ?? null, sync_operation_id: sync?.operationId ?? null }),
    ...(syncFailure === undefined
      ? {}
      : { sync_failure: syncFailure?.detail ?? null, sync_failed_at: syncFailure?.at ?? null }),
    ...(promotion === undefined ? {} : { promotion: promotion === null ? null : JSON.stringify(promotion) }),
    ...(servingSince === undefined ? {} : { serving_since: servingSince }),
    ...(drilledAt === undefined ? {} : { drilled_at: drilledAt }),
  };
  if (Object.keys(columns).length === 0) return;
  await executor.updateTable('standbys').set(columns).where('id', '=', id).execute();
}

/** What it is at rest, as its stack's configuration says. */
export async function declareStandby(tx: Tx, id: string, config: StandbyStackConfig): Promise<void> {
  const { state = 'stopped' } = config;
  await tx
    .updateTable('standbys')
    .set({ config: JSON.stringify(config), state })
    .where('id', '=', id)
    .execute();
}

export interface StandbyLook {
  recoveryPointAt: Date | null;
  /** null: it is not behind. */
  behind: { reason: string } | null;
}

/** @returns whether it fell behind or caught up by this look; null: as before */
export async function recordLook(tx: Tx, id: string, look: StandbyLook): Promise<'behind' | 'caught_up' | null> {
  const before = await tx
    .selectFrom('standbys')
    .select('behind_since')
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirstOrThrow();
  const isBehind = look.behind !== null;
  await tx
    .updateTable('standbys')
    .set({
      recovery_point_at: look.recoveryPointAt,
      checked_at: sql<Date>`now()`,
      behind_since: isBehind ? sql<Date>`coalesce(behind_since, now())` : null,
      behind_reason: look.behind?.reason ?? null,
    })
    .where('id', '=', id)
    .execute();
  if (isBehind === (before.behind_since !== null)) return null;
  return isBehind ? 'behind' : 'caught_up';
}

/** Its agent's key is worth nothing from now on. Idempotent. */
export async function retireStandbyNode(tx: Tx, standbyId: string): Promise<void> {
  const node = await tx
    .updateTable('nodes')
    .set({ key_hash: null, next_key_hash: null })
    .where('standby_id', '=', standbyId)
    .returning('id')
    .executeTakeFirst();
  if (node) await tx.deleteFrom('node_tokens').where('node_id', '=', node.id).execute();
}
