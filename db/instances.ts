/** Instances: what users asked for. Status changes go through setInstanceStatus, which refuses what domain/instance.ts does not allow. */
import { sql, type Selectable } from 'kysely';
import { INSTANCE_NEXT, INSTANCE_STATUSES, type InstanceStatus, type Phase } from '../domain/instance.ts';
import type { Executor, Tx } from './database.ts';
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
  failure?: { code: string; detail: string };
}

/**
 * Moves an instance to `status` where its present status allows; returns whether it did. Also moves on time stamps: ready,
 * destroy requested, destroyed.
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
  const from = INSTANCE_STATUSES.filter(
    (candidate) => candidate === status || INSTANCE_NEXT[candidate].includes(status),
  );
  const row = await tx
    .updateTable('instances')
    .set({
      status,
      updated_at: sql`now()`,
      ...changeColumns(change),
      ...(status === 'ready' ? { ready_at: sql`coalesce(ready_at, now())` } : {}),
      ...(status === 'destroying' ? { destroy_requested_at: sql`coalesce(destroy_requested_at, now())` } : {}),
      ...(status === 'destroyed' ? { destroyed_at: sql`coalesce(destroyed_at, now())` } : {}),
    })
    .where('id', '=', instanceId)
    .where('status', 'in', from)
    .returning(['id', 'failure_code'])
    .executeTakeFirst();
  if (row) await followSession(tx, row.id, status, row.failure_code);
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
  return executor
    .selectFrom('instances')
    .selectAll()
    .where('status', 'not in', ['destroying', 'destroyed'])
    .where('expires_at', '<=', now)
    .limit(500)
    .execute();
}

/**
 * Live instances and what they may cost by the hour: the winner's price, or the ceiling until there is a winner. A warm instance that is
 * claimed counts once, as the instance that claimed it.
 */
export async function measureFleet(
  executor: Executor,
): Promise<{ liveInstances: number; burnMicroUsdPerHour: bigint }> {
  const row = await executor
    .selectFrom('instances as i')
    .leftJoin('attempts as a', 'a.id', 'i.winner_attempt_id')
    .leftJoin('instances as warm', (join) => join.onRef('warm.claimed_by', '=', 'i.id').on('warm.status', '=', 'ready'))
    .leftJoin('attempts as claimed', 'claimed.id', 'warm.winner_attempt_id')
    .select([
      sql<bigint>`count(*)`.as('count'),
      sql<string>`coalesce(sum(coalesce(a.price_micro_usd_per_hour, claimed.price_micro_usd_per_hour, i.max_price_micro_usd_per_hour)), 0)`.as(
        'burn',
      ),
    ])
    .where('i.status', '<>', 'destroyed')
    .where(sql<boolean>`not (i.claimed_by is not null and i.status = 'ready')`)
    .executeTakeFirstOrThrow();
  return { liveInstances: Number(row.count), burnMicroUsdPerHour: BigInt(row.burn) };
}

/** Holds the row so that the caller decides on a state that stays. */
export function lockInstance(tx: Tx, instanceId: string): Promise<InstanceRow | undefined> {
  return tx.selectFrom('instances').selectAll().where('id', '=', instanceId).forUpdate().executeTakeFirst();
}
