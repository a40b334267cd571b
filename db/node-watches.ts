/**
 * Watches: nodes that are looked at closely because something speaks against them, and what was found. A node of which nothing is suspected
 * and that has not flapped lately has no row. What a watch means is domain/failure.ts's.
 */
import { sql } from 'kysely';
import type { NodeWatch } from '../domain/failure.ts';
import type { Executor } from './database.ts';

/** Whose death would matter: a ready instance's machine, whatever became of it, a host of ours, a standby. */
export interface WatchedNode {
  nodeId: string;
  orgId: string;
  instanceId: string | null;
  attemptId: string | null;
  provider: string | null;
  providerInstanceId: string | null;
  purchasedAt: Date | null;
  /** Where SSH answers; null: not known. `isRented`: our own key opens it. */
  ssh: { host: string; port: number; user: string; isRented: boolean } | null;
  heardAt: Date;
  watch: NodeWatch | null;
  /** Why, as of the last look. */
  reasons: string[];
  checkedAt: Date | null;
}

export interface WatchCounts {
  watched: number;
  late: number;
  /** Those of them with a row. */
  remembered: number;
  /** Those that their provider last said not to run. */
  doubted: number;
}

const FROM_WATCHED = sql`
  nodes n
  left join attempts a on a.id = n.attempt_id
  left join instances i on i.winner_attempt_id = a.id
  left join hosts h on h.node_id = n.id
  left join standbys s on s.id = n.standby_id
  left join node_watches w on w.node_id = n.id
  where n.key_hash is not null
    and (i.status = 'ready' or (h.node_id is not null and h.removed_at is null)
         or s.status in ('warm', 'serving'))`;

/** Not where it was taken away by a higher bid: that is the check-interruptible cron's. */
const IS_DOUBTED = sql`(a.observed_status in ('stopped', 'failed') and a.interrupted_at is null)`;

const HEARD_AT = sql`coalesce(n.heartbeat_at, n.registered_at)`;

export async function countWatched(executor: Executor, lateAfterMs: number): Promise<WatchCounts> {
  const { rows } = await sql<{ watched: string; late: string; remembered: string; doubted: string }>`
    select count(*) as watched,
           count(*) filter (where ${HEARD_AT} < now() - ${lateAfterMs} * interval '1 millisecond') as late,
           count(*) filter (where w.node_id is not null) as remembered,
           count(*) filter (where ${IS_DOUBTED}) as doubted
    from ${FROM_WATCHED}`.execute(executor);
  const [row] = rows;
  return {
    watched: Number(row?.watched),
    late: Number(row?.late),
    remembered: Number(row?.remembered),
    doubted: Number(row?.doubted),
  };
}

/** When each late node was heard of last. */
export async function listLateTimes(executor: Executor, lateAfterMs: number): Promise<number[]> {
  const { rows } = await sql<{ heardAt: Date }>`
    select ${HEARD_AT} as "heardAt" from ${FROM_WATCHED}
      and ${HEARD_AT} < now() - ${lateAfterMs} * interval '1 millisecond'`.execute(executor);
  return rows.map((row) => row.heardAt.getTime());
}

/** Those that are late, those with a row, and those whose provider last said that they do not run. @param ids only these, as they are now */
export async function listWatched(
  executor: Executor,
  which: { lateAfterMs: number; limit: number } | { ids: string[] },
): Promise<WatchedNode[]> {
  const condition =
    'ids' in which
      ? sql`n.id = any(${which.ids})`
      : sql`(${HEARD_AT} < now() - ${which.lateAfterMs} * interval '1 millisecond' or w.node_id is not null
             or ${IS_DOUBTED})`;
  const { rows } = await sql<WatchedRow>`
    select n.id as "nodeId", n.org_id as "orgId", n.instance_id as "instanceId", n.attempt_id as "attemptId",
           a.provider, a.provider_instance_id as "providerInstanceId", a.purchased_at as "purchasedAt",
           coalesce(a.ssh_host, h.address, s.address) as host, coalesce(a.ssh_port, h.port, 22) as port,
           coalesce(a.ssh_user, h.ssh_user, 'root') as "sshUser",
           ${HEARD_AT} as "heardAt", w.verdict, w.since, w.is_silent as "isSilent", w.failed_probes as "failedProbes",
           w.recoveries, coalesce(w.reasons, '[]') as reasons, w.heard_at as "watchedHeardAt", w.checked_at as "checkedAt"
    from ${FROM_WATCHED} and ${condition}
    order by ${HEARD_AT}
    limit ${'ids' in which ? which.ids.length : which.limit}`.execute(executor);
  return rows.map(watchedNode);
}

interface WatchedRow extends Omit<WatchedNode, 'ssh' | 'watch'> {
  host: string | null;
  port: number;
  sshUser: string;
  verdict: NodeWatch['verdict'] | null;
  since: Date | null;
  isSilent: boolean;
  failedProbes: number;
  recoveries: number[];
  watchedHeardAt: Date;
}

function watchedNode(row: WatchedRow): WatchedNode {
  const { host, port, sshUser, verdict, since, isSilent, failedProbes, recoveries, watchedHeardAt, ...node } = row;
  return {
    ...node,
    ssh: host === null ? null : { host, port, user: sshUser, isRented: row.attemptId !== null },
    watch:
      verdict === null
        ? null
        : {
            verdict,
            since: since?.getTime() ?? 0,
            isSilent,
            failedProbes,
            recoveries,
            heardAt: watchedHeardAt.getTime(),
          },
  };
}

/** Written unless somebody looked later. */
export async function saveWatch(
  executor: Executor,
  nodeId: string,
  watch: NodeWatch,
  reasons: string[],
  now: Date,
): Promise<void> {
  if (watch.verdict === 'alive' && watch.recoveries.length === 0) {
    await executor.deleteFrom('node_watches').where('node_id', '=', nodeId).where('checked_at', '<=', now).execute();
    return;
  }
  const row = {
    verdict: watch.verdict,
    since: new Date(watch.since),
    reasons: JSON.stringify(reasons),
    is_silent: watch.isSilent,
    failed_probes: watch.failedProbes,
    recoveries: JSON.stringify(watch.recoveries),
    heard_at: new Date(watch.heardAt),
    checked_at: now,
  };
  await executor
    .insertInto('node_watches')
    .values({ node_id: nodeId, ...row })
    .onConflict((conflict) => conflict.column('node_id').doUpdateSet(row).where('node_watches.checked_at', '<=', now))
    .execute();
}

/** Nodes that nobody watches any more: their machine is destroyed, or their instance does not stand on them. */
export async function forgetWatches(executor: Executor): Promise<void> {
  await sql`
    delete from node_watches where verdict <> 'dead' and node_id not in (select n.id from ${FROM_WATCHED})`.execute(
    executor,
  );
}
