/** Instances: what users asked for. Status changes go through setInstanceStatus, which refuses what domain/instance.ts does not allow. */
import { sql, type Selectable } from 'kysely';
import { INSTANCE_NEXT, INSTANCE_STATUSES, type InstanceStatus, type Phase } from '../domain/instance.ts';
import type { Executor, Tx } from './database.ts';
import { followEndpoint } from './endpoints.ts';
import type { Schema } from './schema.ts';
import { followSession } from './sessions.ts';

export type InstanceRow = Selectable<Schema['instances']>;

/** @returns undefined where there is none or it is another org's. `orgId` null: any org. */
export function findInstance(
  executor: Executor,
  orgId: string | null,
  instanceId: string,
): Promise<InstanceRow | undefined> {
  let query = executor.selectFrom('instances').selectAll().where('id', '=', instanceId);
  if (orgId !== null) query = query.where('org_id', '=', orgId);
  return query.executeTakeFirst();
}

export interface InstanceFilter {
  orgId: string | null;
  status?: InstanceStatus[];
  name?: string;
  consumer?: string;
  provider?: string;
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export function listInstances(executor: Executor, filter: InstanceFilter): Promise<InstanceRow[]> {
  let query = executor.selectFrom('instances').selectAll();
  if (filter.orgId !== null) query = query.where('org_id', '=', filter.orgId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.name !== undefined) query = query.where('name', '=', filter.name);
  if (filter.consumer !== undefined) query = query.where('consumer', '=', filter.consumer);
  if (filter.provider !== undefined) {
    const provider = filter.provider;
    query = query.where((eb) =>
      eb.exists(
        eb
          .selectFrom('attempts')
          .select('attempts.id')
          .whereRef('attempts.id', '=', 'instances.winner_attempt_id')
          .where('attempts.provider', '=', provider),
      ),
    );
  }
  if (filter.before)
    query = query.where(sql<boolean>`(created_at, id) < (${filter.before.createdAt}, ${filter.before.id})`);
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

export function listInstancesById(executor: Executor, ids: string[]): Promise<InstanceRow[]> {
  if (ids.length === 0) return Promise.resolve([]);
  return executor.selectFrom('instances').selectAll().where('id', 'in', ids).execute();
}

export function listInstancesOfOperation(executor: Executor, operationId: string): Promise<InstanceRow[]> {
  return executor
    .selectFrom('instances')
    .selectAll()
    .where('operation_id', '=', operationId)
    .orderBy('ordinal')
    .execute();
}

export function listInstancesOfStack(executor: Executor, stackId: string): Promise<InstanceRow[]> {
  return executor.selectFrom('instances').selectAll().where('stack_id', '=', stackId).orderBy('ordinal').execute();
}

export interface InstanceChange {
  phase?: Phase;
  note?: string | null;
  winnerAttemptId?: string | null;
  /** Whose files its next machine must have before it is ready; null: none. */
  restoreSnapshotId?: string | null;
  restoreOperationId?: string | null;
  failure?: { code: string; detail: string };
}

/** On the way to a machine. A waking instance takes the same way and stays waking on it. */
const ON_THE_WAY: readonly InstanceStatus[] = ['requested', 'creating', 'booting'];

/**
 * Moves an instance to `status` where its present status allows; returns whether it did. Also moves on time stamps: ready,
 * destroy requested, destroyed. A waking one stays waking while its machine is bought and boots.
 */
export async function setInstanceStatus(
  executor: Executor,
  instanceId: string,
  status: InstanceStatus,
  change: InstanceChange = {},
): Promise<boolean> {
  const work = (tx: Tx) => moveInstance(tx, instanceId, status, change);
  return executor.isTransaction ? work(executor as Tx) : executor.transaction().execute(work);
}

async function moveInstance(
  tx: Tx,
  instanceId: string,
  status: InstanceStatus,
  change: InstanceChange,
): Promise<boolean> {
  const mayBeWaking = ON_THE_WAY.includes(status);
  const from = INSTANCE_STATUSES.filter(
    (candidate) =>
      candidate === status || INSTANCE_NEXT[candidate].includes(status) || (mayBeWaking && candidate === 'waking'),
  );
  const row = await tx
    .updateTable('instances')
    .set({
      status: mayBeWaking ? sql<InstanceStatus>`case when status = 'waking' then status else ${status} end` : status,
      updated_at: sql`now()`,
      ...changeColumns(change),
      ...(status === 'ready' ? { ready_at: sql`coalesce(ready_at, now())` } : {}),
      ...(status === 'destroying' ? { destroy_requested_at: sql`coalesce(destroy_requested_at, now())` } : {}),
      ...(status === 'destroyed' ? { destroyed_at: sql`coalesce(destroyed_at, now())` } : {}),
    })
    .where('id', '=', instanceId)
    .where('status', 'in', from)
    .returning(['id', 'status', 'failure_code'])
    .executeTakeFirst();
  if (row) await followSession(tx, row.id, row.status, row.failure_code);
  if (row) await followEndpoint(tx, row.id);
  return row !== undefined;
}

/** Phase, note and the like, without touching the status. */
export async function updateInstance(executor: Executor, instanceId: string, change: InstanceChange): Promise<void> {
  await executor
    .updateTable('instances')
    .set({ updated_at: sql`now()`, ...changeColumns(change) })
    .where('id', '=', instanceId)
    .execute();
}

/** As updateInstance, while nothing is ready: what one racer shows is no news of an instance that another has made ready. */
export async function reportBoot(
  executor: Executor,
  instanceId: string,
  change: Pick<InstanceChange, 'phase' | 'note'>,
): Promise<void> {
  await executor
    .updateTable('instances')
    .set({ updated_at: sql`now()`, ...changeColumns(change) })
    .where('id', '=', instanceId)
    .where('winner_attempt_id', 'is', null)
    .execute();
}

function changeColumns(change: InstanceChange) {
  return {
    ...(change.phase === undefined
      ? {}
      : {
          phase: change.phase,
          phase_at: sql<string>`jsonb_build_object(${change.phase}::text, to_jsonb(now())) || phase_at`,
        }),
    ...(change.note === undefined ? {} : { note: change.note }),
    ...(change.winnerAttemptId === undefined ? {} : { winner_attempt_id: change.winnerAttemptId }),
    ...(change.restoreSnapshotId === undefined ? {} : { restore_snapshot_id: change.restoreSnapshotId }),
    ...(change.restoreOperationId === undefined ? {} : { restore_operation_id: change.restoreOperationId }),
    ...(change.failure === undefined
      ? {}
      : {
          failure_code: sql<string>`coalesce(failure_code, ${change.failure.code})`,
          failure_detail: sql<string>`coalesce(failure_detail, ${change.failure.detail})`,
        }),
  };
}

/** Instances past their lifetime that nobody has begun to destroy. */
export function listExpired(executor: Executor, now: Date): Promise<InstanceRow[]> {
  return (
    executor
      .selectFrom('instances')
      .selectAll()
      // The lifetime of what sleeps stands still: it pays for no machine.
      .where('status', 'not in', ['destroying', 'destroyed', 'hibernated'])
      .where('expires_at', '<=', now)
      .limit(500)
      .execute()
  );
}

export interface FleetMeasure {
  liveInstances: number;
  /** What is billed now: the open usage records. */
  burnMicroUsdPerHour: bigint;
  /** What they may come to: burn, and what is reserved for what may still be bought. The caps are held against it. */
  committedMicroUsdPerHour: bigint;
}

/**
 * The whole deployment. A warm instance that is claimed counts once, as the instance that claimed it. Until it has its winner an instance
 * counts with what is reserved for it, unless its machines cost more; an interruptible one always, for its bid may be raised. A purchase
 * that may have been made counts like one that was. What sleeps is no live instance; what is still being destroyed of it is burn.
 */
export async function measureFleet(executor: Executor): Promise<FleetMeasure> {
  const { rows } = await sql<{ count: string; burn: string; committed: string }>`
    select (count(*) filter (where i.status <> 'hibernated' and not (i.claimed_by is not null and i.status = 'ready')))::text as count,
           coalesce(sum(m.burn), 0)::text as burn,
           coalesce(sum(coalesce(m.ending, 0) + greatest(coalesce(m.wanted, 0), case
             when warm.id is not null then 0
             when i.status in ('requested', 'creating', 'booting', 'waking') then i.reserved_micro_usd_per_hour
             when i.status = 'ready' and (i.request->>'interruptible')::boolean then i.reserved_micro_usd_per_hour
             else 0 end)), 0)::text as committed
    from instances i
    left join instances warm on warm.claimed_by = i.id and warm.status = 'ready'
    left join (
      select a.instance_id, sum(u.price_micro_usd_per_hour) as burn,
             sum(coalesce(u.price_micro_usd_per_hour, a.price_micro_usd_per_hour)) filter (where a.status in ('destroying', 'lost')) as ending,
             sum(coalesce(u.price_micro_usd_per_hour, a.price_micro_usd_per_hour)) filter (where a.status in ('buying', 'bought', 'ready')) as wanted
      from attempts a left join usage_records u on u.attempt_id = a.id and u.is_open
      where a.status not in ('reserved', 'gone')
      group by a.instance_id
    ) m on m.instance_id = i.id
    where i.status <> 'destroyed'`.execute(executor);
  const row = rows[0] as { count: string; burn: string; committed: string };
  return {
    liveInstances: Number(row.count),
    burnMicroUsdPerHour: BigInt(row.burn),
    committedMicroUsdPerHour: BigInt(row.committed),
  };
}

/** Holds the row so that the caller decides on a state that stays. */
export function lockInstance(tx: Tx, instanceId: string): Promise<InstanceRow | undefined> {
  return tx.selectFrom('instances').selectAll().where('id', '=', instanceId).forUpdate().executeTakeFirst();
}
