/** Ready samples: of each attempt, whether and how fast it became ready. Bounded by prune; what plans expect is read from here. */
import { sql } from 'kysely';
import { canonicalGpuKey } from '../domain/offer.ts';
import type { ProviderRecord } from '../domain/provisioning/outlook.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { Executor } from './database.ts';

export interface ReadySample {
  attemptId: string;
  provider: string;
  machineId: string | null;
  gpu: string;
  /** null: it failed, or vanished before it was ready. */
  readyMs: number | null;
  at: Date;
}

export interface ReadyStatistics {
  attempts: number;
  successes: number;
  /** From purchase to ready, over the successes; null without one. */
  p50ReadyMs: number | null;
  p95ReadyMs: number | null;
}

/** Older ones say little of how a vendor's machines start today. */
const WINDOW_DAYS = 30;

/** The first outcome of an attempt stands: what is told again changes nothing. */
export async function recordReadySample(executor: Executor, sample: ReadySample): Promise<void> {
  await executor
    .insertInto('ready_samples')
    .values({
      attempt_id: sample.attemptId,
      provider: sample.provider,
      machine_id: sample.machineId,
      gpu_key: canonicalGpuKey(sample.gpu),
      ready_ms: sample.readyMs === null ? null : Math.max(0, Math.round(sample.readyMs)),
      at: sample.at,
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/**
 * What became of attempts at machines with this GPU in the last 30 days: by machine (`<provider>/machine/<machineId>`, as match.ts
 * names them) and by provider. Those never tried are missing.
 */
export async function readReadyStatistics(
  executor: Executor,
  gpu: string,
): Promise<{ byMachine: Map<string, ReadyStatistics>; providers: ProviderRecord[] }> {
  const { rows } = await sql<ReadyStatistics & { provider: string; machineId: string | null; isProvider: boolean }>`
    select provider, machine_id as "machineId", grouping(machine_id) = 1 as "isProvider", ${STATISTICS}
    from ready_samples
    where gpu_key = ${canonicalGpuKey(gpu)} and at > now() - ${WINDOW_DAYS} * interval '1 day'
    group by grouping sets ((provider), (provider, machine_id))
    order by provider, machine_id`.execute(executor);
  const byMachine = new Map<string, ReadyStatistics>();
  const providers: ProviderRecord[] = [];
  for (const { provider, machineId, isProvider, ...statistics } of rows) {
    if (isProvider) providers.push({ provider: provider as ProviderName, ...statistics });
    else if (machineId !== null) byMachine.set(`${provider}/machine/${machineId}`, statistics);
  }
  return { byMachine, providers };
}

/** The same for the given machines, whatever their GPU. */
export async function readMachineStatistics(
  executor: Executor,
  machines: { provider: string; machine_id: string }[],
): Promise<Map<string, ReadyStatistics>> {
  if (machines.length === 0) return new Map();
  const { rows } = await sql<ReadyStatistics & { provider: string; machineId: string }>`
    select provider, machine_id as "machineId", ${STATISTICS}
    from ready_samples
    where (provider, machine_id) in (${sql.join(machines.map((one) => sql`(${one.provider}, ${one.machine_id})`))})
      and at > now() - ${WINDOW_DAYS} * interval '1 day'
    group by provider, machine_id`.execute(executor);
  return new Map(
    rows.map(({ provider, machineId, ...statistics }) => [`${provider}/machine/${machineId}`, statistics] as const),
  );
}

const STATISTICS = sql`
  count(*)::integer as attempts, count(ready_ms)::integer as successes,
  round(percentile_cont(0.5) within group (order by ready_ms))::integer as "p50ReadyMs",
  round(percentile_cont(0.95) within group (order by ready_ms))::integer as "p95ReadyMs"`;
