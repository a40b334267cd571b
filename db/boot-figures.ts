/** How fast machines and instances came up of late, for dashboards. What plans expect is ready-samples.ts's. */
import { sql } from 'kysely';
import type { Executor } from './database.ts';

export interface BootFigure {
  provider: string;
  strategy: string;
  /** From purchase to verified ready. */
  p50Seconds: number;
  p95Seconds: number;
  count: number;
}

export interface WakeFigure {
  count: number;
  /** From the request to ready with its files. */
  p50Seconds: number;
  p95Seconds: number;
}

const WINDOW_HOURS = 24;

/** Of machines that became ready in the last day. */
export async function readBootFigures(executor: Executor): Promise<BootFigure[]> {
  const { rows } = await sql<BootFigure>`
    select a.provider, i.strategy, count(*)::integer as count, ${quantile(0.5)} as "p50Seconds", ${quantile(0.95)} as "p95Seconds"
    from (
      select provider, instance_id, extract(epoch from ready_at - purchased_at) as seconds from attempts
      where ready_at > now() - ${WINDOW_HOURS} * interval '1 hour' and purchased_at is not null and pooled_instance_id is null
    ) a join instances i on i.id = a.instance_id
    group by a.provider, i.strategy
    order by a.provider, i.strategy`.execute(executor);
  return rows;
}

/** Of instances that were woken in the last day; null: none was. */
export async function readWakeFigure(executor: Executor): Promise<WakeFigure | null> {
  const { rows } = await sql<WakeFigure>`
    select count(*)::integer as count, ${quantile(0.5)} as "p50Seconds", ${quantile(0.95)} as "p95Seconds"
    from (
      select extract(epoch from woken_at - wake_began_at) as seconds from hibernations
      where woken_at > now() - ${WINDOW_HOURS} * interval '1 hour'
    ) h`.execute(executor);
  const [row] = rows;
  return row && row.count > 0 ? row : null;
}

function quantile(share: number) {
  return sql`(percentile_cont(${share}) within group (order by seconds))::float8`;
}
