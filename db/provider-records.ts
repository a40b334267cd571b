/** Provider records: what became of our latest purchases at each provider, machines without a name included. */
import { sql } from 'kysely';
import type { ErrorCode } from '../domain/error-table.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { ProviderRecord } from '../domain/provisioning/outlook.ts';
import type { Executor } from './database.ts';

/** More say the same, and a provider changes. */
const LATEST_ATTEMPTS = 500;
/** How a purchased machine fails to become ready. What ended for another reason (a lost race, a destroy by its user) proves nothing. */
const FAILURES = ['boot_timeout', 'boot_failed', 'wrong_hardware', 'lost'] as const satisfies ErrorCode[];

export async function listProviderRecords(executor: Executor): Promise<ProviderRecord[]> {
  const { rows } = await sql<{
    provider: ProviderName;
    attempts: bigint;
    successes: bigint;
    p50: number | null;
    p95: number | null;
  }>`
    select providers.name as provider,
           count(*) filter (where was_ready or failed) as attempts,
           count(*) filter (where was_ready) as successes,
           percentile_cont(0.5) within group (order by ready_ms) as p50,
           percentile_cont(0.95) within group (order by ready_ms) as p95
    from providers cross join lateral (
      select ready_at is not null as was_ready,
             failure_code in (${sql.join(FAILURES)}) as failed,
             extract(epoch from ready_at - purchased_at)::float8 * 1000 as ready_ms
      from attempts
      where attempts.provider = providers.name and purchased_at is not null
      order by purchased_at desc limit ${LATEST_ATTEMPTS}
    ) as latest
    group by providers.name`.execute(executor);
  return rows.map((row) => ({
    provider: row.provider,
    attempts: Number(row.attempts),
    successes: Number(row.successes),
    p50ReadyMs: row.p50 === null ? null : Math.round(row.p50),
    p95ReadyMs: row.p95 === null ? null : Math.round(row.p95),
  }));
}
