/** What domain/idle.ts judges, read from rows: the samples of a node and what runs on it by our orders. By the database's clock throughout. */
import { sql } from 'kysely';
import type { IdleInput, IdleRule, IdleSample } from '../domain/idle.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import type { SleepSchedule } from '../domain/sleep-schedule.ts';
import type { Executor } from './database.ts';

/** Ready or asleep, and asked to be put to sleep or woken by itself. */
export interface Sleeper {
  instanceId: string;
  status: 'ready' | 'hibernated';
  attemptId: string | null;
  rule: IdleRule | null;
  schedule: SleepSchedule | null;
  /** Since when it is ready this time. */
  readyAt: number | null;
  sleepCause: string | null;
  /** When it last failed to fall asleep, or to wake; null: it did not. */
  failedAt: number | null;
  now: number;
}

const MAX_ROWS = 1_000;

export async function listSleepers(executor: Executor): Promise<Sleeper[]> {
  const { rows } = await sql<{
    id: string;
    status: 'ready' | 'hibernated';
    attemptId: string | null;
    request: ProvisionRequest;
    readyAt: Date | null;
    sleepCause: string | null;
    failedAt: Date | null;
    now: Date;
  }>`
    select i.id, i.status, i.winner_attempt_id as "attemptId", i.request, ${READY_AT} as "readyAt",
           case when h.status = 'asleep' then h.cause end as "sleepCause",
           case when h.status = 'asleep' then h.wake_failed_at when h.status = 'failed' then h.ended_at end as "failedAt", now()
    from instances i
      left join lateral (
        select status, cause, wake_failed_at, ended_at from hibernations
        where instance_id = i.id order by began_at desc, id desc limit 1) h on true
    where i.status in ('ready', 'hibernated') and i.pool_id is null
      and (jsonb_typeof(i.request->'hibernateWhenIdle') = 'object' or jsonb_typeof(i.request->'hibernateSchedule') = 'object')
    order by i.id
    limit ${MAX_ROWS}`.execute(executor);
  return rows.map((row) => ({
    instanceId: row.id,
    status: row.status,
    attemptId: row.attemptId,
    rule: row.request.hibernateWhenIdle ?? null,
    schedule: row.request.hibernateSchedule ?? null,
    readyAt: row.readyAt?.getTime() ?? null,
    sleepCause: row.sleepCause,
    failedAt: row.failedAt?.getTime() ?? null,
    now: row.now.getTime(),
  }));
}

/** In this life; its first one may be older. */
const READY_AT = sql`coalesce((i.phase_at->>'active')::timestamptz, i.ready_at)`;

/**
 * For an instance's winner. `forMs`: idle for so long; `sinceMs`: idle since that moment. What cannot be read is unknown, which is never
 * taken for idle.
 */
export async function readIdleInput(
  executor: Executor,
  attemptId: string,
  wanted: { belowPercent: number } & ({ forMs: number } | { sinceMs: number }),
): Promise<IdleInput> {
  const { rows } = await sql<{
    nodeId: string;
    readyAt: Date | null;
    order: string | null;
    heartbeatAt: Date | null;
    gpu: { gpus: { utilizationPercent: number | null }[] | null } | null;
    isActivityKnown: boolean;
    activityAt: Date | null;
    now: Date;
  }>`
    select n.id as "nodeId", ${READY_AT} as "readyAt", now(),
           (select o.kind from node_orders o where o.node_id = n.id and o.status in ('queued', 'running')
            order by o.created_at limit 1) as "order",
           n.heartbeat_at as "heartbeatAt", n.gpu, n.is_activity_known as "isActivityKnown",
           n.activity_declared_at as "activityAt"
    from nodes n join instances i on i.winner_attempt_id = n.attempt_id
    where n.attempt_id = ${attemptId} and i.status in ('ready', 'hibernating')`.execute(executor);
  const [row] = rows;
  const now = row?.now.getTime() ?? 0;
  const rule = {
    belowPercent: wanted.belowPercent,
    forMs: 'forMs' in wanted ? wanted.forMs : Math.max(0, now - wanted.sinceMs),
  };
  if (!row) return { rule, samples: [], readyAt: null, busyWith: null, now };
  const samples = await readSamples(executor, row.nodeId, rule.forMs);
  if (row.heartbeatAt) {
    samples.push({
      at: row.heartbeatAt.getTime(),
      gpuPercent: highestOf(row.gpu),
      isActivityDeclared: row.isActivityKnown
        ? row.activityAt !== null && row.heartbeatAt.getTime() - row.activityAt.getTime() < ACTIVITY_MS
        : null,
    });
  }
  const busyWith = row.order === null ? null : `its agent is to ${row.order.replaceAll('_', ' ')}`;
  return { rule, samples, readyAt: row.readyAt?.getTime() ?? null, busyWith, now };
}

/** Activity counts for so long after it was declared. */
const ACTIVITY_MS = 60_000;
/** Of readings before the window, so that its beginning is seen. */
const MARGIN_MS = 5 * 60_000;

async function readSamples(executor: Executor, nodeId: string, forMs: number): Promise<IdleSample[]> {
  const rows = await executor
    .selectFrom('node_samples')
    .select(['at', 'verdict', 'gpu_peak_percent', 'is_activity_declared'])
    .where('node_id', '=', nodeId)
    .where('at', '>', sql<Date>`now() - ${forMs + MARGIN_MS} * interval '1 millisecond'`)
    .orderBy('at')
    .execute();
  return rows.map((row) => ({
    at: row.at.getTime(),
    // The mean of several GPUs would hide that one of them works.
    gpuPercent: row.verdict === 'healthy' || row.verdict === 'degraded' ? row.gpu_peak_percent : null,
    isActivityDeclared: row.is_activity_declared,
  }));
}

/** null where one GPU does not say it. */
function highestOf(gpu: { gpus: { utilizationPercent: number | null }[] | null } | null): number | null {
  const percents = (gpu?.gpus ?? []).map((one) => one.utilizationPercent);
  if (percents.length === 0 || percents.some((percent) => percent === null)) return null;
  return Math.max(...(percents as number[]));
}
