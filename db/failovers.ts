/** Failovers: one row for each episode, with its phases. Phases change only as domain/failover.ts allows. */
import { sql, type Selectable } from 'kysely';
import {
  FAILOVER_NEXT,
  FAILOVER_PHASES,
  isFailoverOver,
  STORM_WINDOW_MS,
  type FailoverPhase,
} from '../domain/failover.ts';
import type { Db, Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import { wakeOperation } from './operations.ts';
import type { Queue } from './queue.ts';
import type { Schema } from './schema.ts';

export type FailoverRow = Selectable<Schema['failovers']>;

export type NewFailover = Pick<
  FailoverRow,
  'org_id' | 'instance_id' | 'cause' | 'mode' | 'failback' | 'rpo_ms' | 'lost_at' | 'created_by'
> &
  Partial<Pick<FailoverRow, 'lost_attempt_id' | 'lost_node_id' | 'standby_id'>> & { reasons: readonly string[] };

export function insertFailover(tx: Tx, made: NewFailover): Promise<FailoverRow> {
  return tx
    .insertInto('failovers')
    .values({
      id: newId('failover'),
      phase: 'detected',
      phase_at: sql<string>`jsonb_build_object('detected', to_jsonb(now()))`,
      ...made,
      reasons: JSON.stringify(made.reasons),
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** @returns undefined where there is none or it is another org's. `orgId` null: any org. */
export function findFailover(executor: Executor, orgId: string | null, id: string): Promise<FailoverRow | undefined> {
  let query = executor.selectFrom('failovers').selectAll().where('id', '=', id);
  if (orgId !== null) query = query.where('org_id', '=', orgId);
  return query.executeTakeFirst();
}

export function lockFailover(tx: Tx, id: string): Promise<FailoverRow | undefined> {
  return tx.selectFrom('failovers').selectAll().where('id', '=', id).forUpdate().executeTakeFirst();
}

export function findRunningFailover(executor: Executor, instanceId: string): Promise<FailoverRow | undefined> {
  return executor
    .selectFrom('failovers')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .where('finished_at', 'is', null)
    .executeTakeFirst();
}

/** Of these instances those with a failover under way. */
export async function listFailingOver(executor: Executor, instanceIds: readonly string[]): Promise<Set<string>> {
  if (instanceIds.length === 0) return new Set();
  const rows = await executor
    .selectFrom('failovers')
    .select('instance_id')
    .where('instance_id', 'in', instanceIds)
    .where('finished_at', 'is', null)
    .execute();
  return new Set(rows.map((row) => row.instance_id));
}

/**
 * Something came about that the failover of this instance waits for, if one is under way. Never in a transaction that holds the instance:
 * the failover holds its own row before that.
 */
export async function wakeFailover(db: Db, queue: Queue, instanceId: string): Promise<void> {
  const running = await findRunningFailover(db, instanceId);
  if (running?.operation_id) await wakeOperation(db, queue, running.operation_id);
}

export function findLatestFailover(executor: Executor, instanceId: string): Promise<FailoverRow | undefined> {
  return executor
    .selectFrom('failovers')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
}

export interface FailoverFilter {
  orgId: string;
  instanceId?: string;
  phase?: FailoverPhase[];
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export function listFailovers(executor: Executor, filter: FailoverFilter): Promise<FailoverRow[]> {
  let query = executor.selectFrom('failovers').selectAll().where('org_id', '=', filter.orgId);
  if (filter.instanceId !== undefined) query = query.where('instance_id', '=', filter.instanceId);
  if (filter.phase) query = query.where('phase', 'in', filter.phase);
  if (filter.before) {
    query = query.where(sql<boolean>`(created_at, id) < (${filter.before.createdAt}, ${filter.before.id})`);
  }
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

/** When failovers began by themselves, and what they cost: of the instance within a day; of the deployment within STORM_WINDOW_MS. */
export async function readBegun(
  executor: Executor,
  instanceId: string,
): Promise<{ begun: number[]; spentMicroUsd: bigint; begunAnywhere: number[] }> {
  const rows = await executor
    .selectFrom('failovers')
    .select([
      'instance_id',
      'created_at',
      'phase_cost',
      sql<boolean>`created_at > now() - ${STORM_WINDOW_MS} * interval '1 millisecond'`.as('is_recent'),
    ])
    .where('cause', '=', 'detected')
    .where('created_at', '>', sql<Date>`now() - interval '1 day'`)
    .where((eb) =>
      eb.or([
        eb('instance_id', '=', instanceId),
        eb('created_at', '>', sql<Date>`now() - ${STORM_WINDOW_MS} * interval '1 millisecond'`),
      ]),
    )
    .execute();
  const own = rows.filter((row) => row.instance_id === instanceId);
  // What was counted grows from phase to phase.
  const costs = own.map((row) => Math.max(0, ...Object.values(row.phase_cost)));
  return {
    begun: own.map((row) => row.created_at.getTime()),
    spentMicroUsd: BigInt(costs.reduce((sum, cost) => sum + cost, 0)),
    begunAnywhere: rows.filter((row) => row.is_recent).map((row) => row.created_at.getTime()),
  };
}

export type FailoverChange = Partial<
  Pick<
    FailoverRow,
    | 'mode'
    | 'lost_at'
    | 'standby_id'
    | 'replacement_attempt_id'
    | 'provision_id'
    | 'snapshot_id'
    | 'recovery_point_at'
    | 'serving_at'
    | 'replaced_at'
    | 'failback_requested_at'
    | 'failback_snapshot_id'
    | 'note'
    | 'failure_code'
    | 'failure_detail'
  >
>;

/** Moves it to `phase` where its present one allows; returns whether it did. The end carries its time, and what it cost so far goes with each phase. */
export async function movePhase(
  tx: Tx,
  id: string,
  phase: FailoverPhase,
  change: FailoverChange & { costMicroUsd?: bigint } = {},
): Promise<boolean> {
  const { costMicroUsd, ...columns } = change;
  const from = FAILOVER_PHASES.filter((one) => FAILOVER_NEXT[one].includes(phase));
  const row = await tx
    .updateTable('failovers')
    .set({
      phase,
      phase_at: sql<string>`phase_at || jsonb_build_object(${phase}::text, to_jsonb(clock_timestamp()))`,
      ...(costMicroUsd === undefined
        ? {}
        : { phase_cost: sql<string>`phase_cost || jsonb_build_object(${phase}::text, ${costMicroUsd}::bigint)` }),
      ...(isFailoverOver(phase) ? { finished_at: sql<string>`clock_timestamp()` } : {}),
      ...columns,
    })
    .where('id', '=', id)
    .where('phase', 'in', from)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

export async function updateFailover(
  tx: Executor,
  id: string,
  change: FailoverChange & { operation_id?: string },
): Promise<void> {
  await tx.updateTable('failovers').set(change).where('id', '=', id).execute();
}

/** What its machines cost from its detection to its end, or so far: the lost one until it is proven gone, and all that were bought in its place. */
export async function measureFailoverCost(executor: Executor, failover: FailoverRow): Promise<bigint> {
  const until = sql`coalesce(${failover.finished_at}::timestamptz, now())`;
  const from = sql`greatest(u.started_at, ${failover.detected_at}::timestamptz)`;
  const to = sql`least(case when u.is_open then now() else u.ended_at end, ${until})`;
  const { rows } = await sql<{ cost: string }>`
    select coalesce(sum(floor(extract(epoch from ${to} - ${from}) * u.price_micro_usd_per_hour / 3600)), 0)::bigint::text as cost
    from usage_records u
    where u.instance_id = ${failover.instance_id} and ${to} > ${from}`.execute(executor);
  return BigInt(rows[0]?.cost ?? '0');
}
