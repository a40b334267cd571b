/** The pods' part of the event feed: what the database itself writes with each change of a pod's status, in the feed's order. */
import { sql } from 'kysely';
import type { Executor } from './database.ts';
import { isSince, type FeedFilter, type FeedPosition } from './event-feed.ts';

export interface PodFeedEvent {
  xid: string;
  podId: string;
  seq: number;
  at: Date;
  data: Record<string, unknown>;
}

/** As readFeed; of an instance's own feed none. `after` may be the position of an operation's event. */
export async function readPodFeed(
  executor: Executor,
  filter: FeedFilter,
  after: FeedPosition,
  limit: number,
): Promise<{ events: PodFeedEvent[]; isSettled: boolean }> {
  if (filter.instanceId !== undefined) return { events: [], isSettled: true };
  const { rows } = await sql<PodFeedEvent & { isReadable: boolean }>`
    select e.xid::text as xid, e.pod_id as "podId", e.seq, e.at, e.data,
           e.xid < pg_snapshot_xmin(pg_current_snapshot()) as "isReadable"
    from pod_events e
    where (e.xid, e.pod_id, e.seq) > (${after.xid}::xid8, ${after.operationId}, ${after.seq})
      and ${filter.orgId === null ? sql`true` : sql`e.org_id = ${filter.orgId}`}
      and ${filter.since === undefined ? sql`true` : isSince('e', filter.since)}
    order by e.xid, e.pod_id, e.seq
    limit ${limit}`.execute(executor);
  const events = rows.filter((row) => row.isReadable).map(({ isReadable: _, ...event }) => event);
  return { events, isSettled: events.length === rows.length };
}
