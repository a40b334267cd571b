/**
 * The event feed: events of many operations in one order that can be resumed. The order is (transaction id, operation, number);
 * only events of transactions older than any still running are read, so none appears later behind a position already passed.
 */
import { sql, type RawBuilder } from 'kysely';
import type { Executor } from './database.ts';
import { toLogEvent, type LogEvent, type LogRow } from './operation-log.ts';

export interface FeedPosition {
  xid: string;
  /** Of an event of a pod that pod's: behind the operations of the same transaction. */
  operationId: string;
  seq: number;
}

export type FeedEvent = FeedPosition & LogEvent;

export interface FeedFilter {
  /** null: all orgs and what belongs to none. */
  orgId: string | null;
  /** Only what concerns this instance, or no single one. */
  instanceId?: string;
  /** Nothing that was committed before. */
  since?: FeedNow;
}

/** `${xid}-${operationId}-${seq}`, as the id of a Server-Sent Event. */
export function formatPosition(position: FeedPosition): string {
  return `${position.xid}-${position.operationId}-${position.seq}`;
}

export function parsePosition(text: string): FeedPosition | null {
  const match = /^(\d{1,19})-((?:op|pod)_[a-z2-7]{16})-(\d{1,9})$/.exec(text);
  return match ? { xid: match[1] as string, operationId: match[2] as string, seq: Number(match[3]) } : null;
}

/** Before everything. */
export const FEED_START: FeedPosition = { xid: '0', operationId: '', seq: 0 };

/**
 * Where a stream begins that wants only what happens from now. The transaction id alone does not say: while an older transaction runs,
 * anywhere on the server, younger ones have committed already. What the snapshot sees is from before.
 */
export interface FeedNow {
  xid: string;
  snapshot: string;
}

export async function readFeedNow(executor: Executor): Promise<FeedNow> {
  const { rows } = await sql<FeedNow>`
    select pg_snapshot_xmin(now)::text as xid, now::text as snapshot from pg_current_snapshot() as now`.execute(
    executor,
  );
  return rows[0] as FeedNow;
}

/** Of what the engine told of a resource. */
const INSTANCE_OF_RESOURCE = sql`(select a.instance_id from attempts a where a.id = e.resource)`;

/**
 * Its own operations, those of its stack since it is there, and the one that made it: a machine that was handed over to it brought a
 * stack whose operations before are the warm instance's.
 */
function concernsInstance(instanceId: string): RawBuilder<unknown> {
  return sql`exists (
      select from instances i where i.id = ${instanceId} and (
        o.id = i.operation_id or (o.stack_id = i.stack_id and (
          o.target_id = i.id or (o.target_kind = 'stack' and o.created_at >= i.created_at)))))
    and coalesce(e.data->>'instanceId', ${INSTANCE_OF_RESOURCE}, ${instanceId}) = ${instanceId}`;
}

/** Of rows with the id of their transaction. */
export function isSince(table: string, { snapshot }: FeedNow): RawBuilder<unknown> {
  return sql`not pg_visible_in_snapshot(${sql.ref(`${table}.xid`)}, ${snapshot}::pg_snapshot)`;
}

/** `isSettled` false: events were committed that cannot be read yet; ask again soon. */
export async function readFeed(
  executor: Executor,
  filter: FeedFilter,
  after: FeedPosition,
  limit: number,
): Promise<{ events: FeedEvent[]; isSettled: boolean }> {
  const conditions = [
    filter.orgId === null ? null : sql`o.org_id = ${filter.orgId}`,
    filter.instanceId === undefined ? null : concernsInstance(filter.instanceId),
    filter.since === undefined ? null : isSince('e', filter.since),
  ].flatMap((condition) => (condition === null ? [] : [condition]));
  const where = conditions.length === 0 ? sql`true` : sql.join(conditions, sql` and `);
  const { rows } = await sql<FeedPosition & LogRow & { isReadable: boolean }>`
    select e.xid::text as xid, e.operation_id as "operationId", e.seq, e.at, e.type, e.data, e.event,
           ${INSTANCE_OF_RESOURCE} as "instanceId",
           e.xid < pg_snapshot_xmin(pg_current_snapshot()) as "isReadable"
    from operation_log e join operations o on o.id = e.operation_id
    where (e.xid, e.operation_id, e.seq) > (${after.xid}::xid8, ${after.operationId}, ${after.seq}) and ${where}
    order by e.xid, e.operation_id, e.seq
    limit ${limit}`.execute(executor);
  const events = rows
    .filter((row) => row.isReadable)
    .map((row) => ({ xid: row.xid, operationId: row.operationId, seq: row.seq, ...toLogEvent(row) }));
  return { events, isSettled: events.length === rows.length };
}
