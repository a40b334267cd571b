/** What the crons of snapshots look at: schedules with what became of them, and what is kept for which policy. */
import { sql } from 'kysely';
import type { RetainedSnapshot } from '../domain/snapshots/retention.ts';
import type { ScheduleView } from '../domain/snapshots/schedule.ts';
import type { KeepPolicy } from '../domain/snapshots/snapshot.ts';
import type { Db, Tx } from './database.ts';
import { listSnapshotsInUse } from './snapshots.ts';

export interface Schedule extends ScheduleView {
  instanceId: string;
  behindSince: Date | null;
  /** Its writer's agent was heard of lately: an order would be carried out. */
  isNodeOnline: boolean;
}

const ONLINE_MS = 90_000;

/**
 * Of workspaces that promise something and that somebody works on: a machine that serves, or the standby that serves in its place, also
 * while the machine that is to replace it is restored, and nothing of it is saved.
 */
export async function listSchedules(db: Db): Promise<Schedule[]> {
  const { rows } = await sql<{
    instanceId: string;
    everyMs: bigint;
    behindSince: Date | null;
    isNodeOnline: boolean;
    lastBegunAt: Date | null;
    lastTookMs: number | null;
    verifiedDataAt: Date | null;
    failuresInRow: number;
    lastFailureAt: Date | null;
    isUnderWay: boolean;
    writerSince: Date;
  }>`
    select w.instance_id as "instanceId", w.snapshot_every_ms as "everyMs", w.behind_since as "behindSince",
           coalesce(w.writer_since, unsaved.serving_since) as "writerSince",
           exists (select from nodes n
                   where (n.attempt_id = w.writer_attempt_id or to_jsonb(n)->>'standby_id' = w.writer_standby_id)
                     and n.heartbeat_at > now() - ${ONLINE_MS} * interval '1 millisecond') as "isNodeOnline",
           s.last_begun_at as "lastBegunAt", s.verified_data_at as "verifiedDataAt", coalesce(s.is_under_way, false) as "isUnderWay",
           took.ms as "lastTookMs", coalesce(f.failures, 0)::int as "failuresInRow", f.last_at as "lastFailureAt"
    from workspaces w
    join instances i on i.id = w.instance_id
    left join lateral (
      select serving_since from standbys
      join failovers f on f.standby_id = standbys.id and f.instance_id = w.instance_id and f.finished_at is null
      where w.writer_since is null and f.phase = 'restoring' and standbys.status = 'serving'
    ) unsaved on true
    left join lateral (
      select max(created_at) filter (where status <> 'failed') as last_begun_at,
             max(data_at) filter (where status = 'verified') as verified_data_at,
             bool_or(status in ('taking', 'taken', 'verifying')) as is_under_way,
             max(created_at) filter (where status in ('verified', 'deleting', 'deleted')) as last_good_at
      from snapshots where instance_id = w.instance_id
    ) s on true
    left join lateral (
      select extract(epoch from verified_at - created_at)::float8 * 1000 as ms
      from snapshots where instance_id = w.instance_id and status = 'verified' order by created_at desc limit 1
    ) took on true
    left join lateral (
      select count(*) as failures, max(created_at) as last_at
      from snapshots
      where instance_id = w.instance_id and status = 'failed' and created_at > coalesce(s.last_good_at, '-infinity')
    ) f on true
    where w.snapshot_every_ms is not null
      and ((i.status = 'ready' and w.writer_since is not null)
        or (i.status in ('creating', 'booting') and (w.writer_standby_id is not null or unsaved.serving_since is not null)))
    order by w.instance_id`.execute(db);
  return rows.map((row) => ({ ...row, everyMs: Number(row.everyMs) }));
}

/** Tells webhooks at the change, and takes it down. @returns whether it was another before */
export async function recordBehind(tx: Tx, instanceId: string, since: Date | null): Promise<boolean> {
  const row = await tx
    .updateTable('workspaces')
    .set({ behind_since: since })
    .where('instance_id', '=', instanceId)
    .where(since === null ? sql<boolean>`behind_since is not null` : sql<boolean>`behind_since is null`)
    .returning(['org_id', 'snapshot_every_ms'])
    .executeTakeFirst();
  if (!row) return false;
  if (since !== null) {
    const data = { instanceId, since, everyMs: Number(row.snapshot_every_ms) };
    await sql`select record_webhook_event(${row.org_id}, 'snapshot', ${instanceId}, 'behind', ${JSON.stringify(data)}::jsonb)`.execute(
      tx,
    );
  }
  return true;
}

export interface KeptWorkspace {
  instanceId: string;
  keep: KeepPolicy;
  /** Its instance is destroyed for so long; null: it is not. */
  destroyedForMs: number | null;
}

/** Workspaces that have something stored. */
export async function listKeptWorkspaces(db: Db): Promise<KeptWorkspace[]> {
  const rows = await db
    .selectFrom('workspaces')
    .innerJoin('instances', 'instances.id', 'workspaces.instance_id')
    .select(['workspaces.instance_id as instanceId', 'workspaces.keep'])
    .select(sql<number | null>`extract(epoch from now() - instances.destroyed_at)::float8 * 1000`.as('destroyedForMs'))
    .where(
      sql<boolean>`exists (select from snapshots s where s.instance_id = workspaces.instance_id and s.status in ('verified', 'failed', 'deleting'))`,
    )
    .orderBy('workspaces.instance_id')
    .execute();
  return rows;
}

export async function listRetained(tx: Tx, instanceId: string): Promise<RetainedSnapshot[]> {
  const inUse = await listSnapshotsInUse(tx, instanceId);
  const rows = await tx
    .selectFrom('snapshots')
    .select(['id', 'status', 'data_at', 'created_at'])
    .where('instance_id', '=', instanceId)
    .where('status', 'not in', ['deleted'])
    .execute();
  return rows.map((row) => ({
    id: row.id,
    status: row.status,
    dataAt: row.data_at,
    createdAt: row.created_at,
    isInUse: inUse.has(row.id),
  }));
}

/** Marked, and their operation did not end well: it is asked for again. */
export async function hasUnfinishedDeletion(tx: Tx, instanceId: string): Promise<boolean> {
  const row = await tx
    .selectFrom('snapshots')
    .select('id')
    .where('instance_id', '=', instanceId)
    .where('status', '=', 'deleting')
    .executeTakeFirst();
  return row !== undefined;
}
