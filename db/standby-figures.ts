/** How old the recovery points of standbys are, and how failovers ended, for dashboards. Whether a standby is behind is domain/standby.ts's. */
import { sql } from 'kysely';
import type { Executor } from './database.ts';

export interface StandbyFigure {
  standbyId: string;
  /**
   * Of what could be lost: since the newest verified snapshot, or where there is none since the standby was made, or since its writer began if
   * that was later. null: nobody writes, so nothing grows old.
   */
  lagSeconds: number | null;
  /** Declared. */
  rpoSeconds: number;
  isBehind: boolean;
}

export interface FailoverFigure {
  /** Its last phase, or `under_way`. */
  outcome: string;
  cause: string;
  count: number;
}

export interface ServiceFigure {
  /** From the loss until the workload was served again, of failovers that began in the last day. */
  p50Seconds: number;
  p95Seconds: number;
}

/** Of those that are not destroyed. */
export async function readStandbyFigures(executor: Executor): Promise<StandbyFigure[]> {
  const { rows } = await sql<StandbyFigure>`
    select s.id as "standbyId", s.rpo_ms::float8 / 1000 as "rpoSeconds", s.behind_since is not null as "isBehind",
           case when w.writer_since is not null
                then extract(epoch from now() - greatest(coalesce(s.recovery_point_at, s.created_at), w.writer_since))::float8
                end as "lagSeconds"
    from standbys s left join workspaces w on w.instance_id = s.instance_id
    where s.removed_at is null
    order by s.id`.execute(executor);
  return rows;
}

/** Of all that are on record. */
export async function readFailoverFigures(executor: Executor): Promise<FailoverFigure[]> {
  const { rows } = await sql<FailoverFigure>`
    select case when finished_at is null then 'under_way' else phase end as outcome, cause, count(*)::integer as count
    from failovers group by 1, 2 order by 1, 2`.execute(executor);
  return rows;
}

/** null: none began in the last day and came to be served. */
export async function readServiceFigure(executor: Executor): Promise<ServiceFigure | null> {
  const { rows } = await sql<{ p50Seconds: number | null; p95Seconds: number | null }>`
    select percentile_cont(0.5) within group (order by seconds)::float8 as "p50Seconds",
           percentile_cont(0.95) within group (order by seconds)::float8 as "p95Seconds"
    from (
      select extract(epoch from serving_at - lost_at) as seconds from failovers
      where created_at > now() - interval '1 day' and serving_at is not null
    ) f`.execute(executor);
  const [row] = rows;
  if (!row || row.p50Seconds === null || row.p95Seconds === null) return null;
  return { p50Seconds: row.p50Seconds, p95Seconds: row.p95Seconds };
}
