/** Machine history and the denylist: what became of our attempts on each physical machine. */
import { sql, type Selectable } from 'kysely';
import type { Executor } from './database.ts';
import type { Schema } from './schema.ts';

export type MachineRow = Selectable<Schema['machine_history']>;

export function findMachine(executor: Executor, provider: string, machineId: string): Promise<MachineRow | undefined> {
  return executor
    .selectFrom('machine_history')
    .selectAll()
    .where('provider', '=', provider)
    .where('machine_id', '=', machineId)
    .executeTakeFirst();
}

/** The machines among which a plan chooses; machines never used by us have no row. */
export function listMachines(
  executor: Executor,
  filter: { provider?: string; denylistedAt?: Date; limit: number },
): Promise<MachineRow[]> {
  let query = executor.selectFrom('machine_history').selectAll();
  if (filter.provider !== undefined) query = query.where('provider', '=', filter.provider);
  if (filter.denylistedAt !== undefined) query = query.where('denylisted_until', '>', filter.denylistedAt);
  return query.orderBy('updated_at', 'desc').orderBy('machine_id').limit(filter.limit).execute();
}

export interface MachineOutcome {
  provider: string;
  machineId: string;
  outcome: 'attempt' | 'success' | 'failure' | 'loss';
  /** For `success`. */
  readyMs?: number;
  /** For `failure` and `loss`. */
  code?: string;
  now: Date;
}

/** Counts one outcome; the caller applies the denylist rule of domain/machine-history.ts to the row that is returned. */
export async function countOutcome(executor: Executor, outcome: MachineOutcome): Promise<MachineRow> {
  const one = (name: MachineOutcome['outcome']) => (outcome.outcome === name ? 1 : 0);
  const failed = outcome.outcome === 'failure' || outcome.outcome === 'loss';
  const readyMs = BigInt(Math.round(outcome.readyMs ?? 0));
  return executor
    .insertInto('machine_history')
    .values({
      provider: outcome.provider,
      machine_id: outcome.machineId,
      attempts: one('attempt'),
      successes: one('success'),
      failures: one('failure'),
      losses: one('loss'),
      ready_ms_total: readyMs,
      last_failure_code: failed ? (outcome.code ?? null) : null,
      last_failure_at: failed ? outcome.now : null,
    })
    .onConflict((conflict) =>
      conflict.columns(['provider', 'machine_id']).doUpdateSet((eb) => ({
        attempts: eb('machine_history.attempts', '+', one('attempt')),
        successes: eb('machine_history.successes', '+', one('success')),
        failures: eb('machine_history.failures', '+', one('failure')),
        losses: eb('machine_history.losses', '+', one('loss')),
        ready_ms_total: eb('machine_history.ready_ms_total', '+', readyMs),
        last_failure_code: failed ? (outcome.code ?? null) : eb.ref('machine_history.last_failure_code'),
        last_failure_at: failed ? outcome.now : eb.ref('machine_history.last_failure_at'),
        updated_at: sql<Date>`now()`,
      })),
    )
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Keeps the machine out of plans until then; null lifts it. */
export async function setDenylisted(
  executor: Executor,
  provider: string,
  machineId: string,
  until: Date | null,
  reason: string | null,
): Promise<void> {
  await executor
    .insertInto('machine_history')
    .values({ provider, machine_id: machineId, denylisted_until: until, denylist_reason: reason })
    .onConflict((conflict) =>
      conflict
        .columns(['provider', 'machine_id'])
        .doUpdateSet({ denylisted_until: until, denylist_reason: reason, updated_at: sql<Date>`now()` }),
    )
    .execute();
}
