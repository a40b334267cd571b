/** Machine history and the denylist: what became of our attempts on each physical machine. */
import { sql, type Selectable } from 'kysely';
import { applyOutcome, type MachineOutcome, type MachineRecord } from '../domain/machine-history.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { Executor, Tx } from './database.ts';
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

/** Adds one outcome by the rules of domain/machine-history.ts, which may denylist the machine. */
export async function recordOutcome(
  tx: Tx,
  machine: { provider: ProviderName; machineId: string },
  outcome: MachineOutcome,
  failure: { code: string } | null,
  now: Date,
): Promise<void> {
  await tx
    .insertInto('machine_history')
    .values({ provider: machine.provider, machine_id: machine.machineId })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const row = await tx
    .selectFrom('machine_history')
    .selectAll()
    .where('provider', '=', machine.provider)
    .where('machine_id', '=', machine.machineId)
    .forUpdate()
    .executeTakeFirstOrThrow();
  const before = machineRecordFromRow(row);
  const record = applyOutcome(before, outcome, now.getTime());
  const isNewlyDenylisted = record.denylistedUntil !== before.denylistedUntil && record.denylistedUntil !== null;
  await tx
    .updateTable('machine_history')
    .set({
      attempts: record.attempts,
      successes: record.successes,
      losses: record.losses,
      mean_ready_ms: record.meanReadyMs,
      denylisted_until: record.denylistedUntil === null ? null : new Date(record.denylistedUntil),
      ...(isNewlyDenylisted
        ? { denylist_reason: `${record.successes} of ${record.attempts} attempts became ready` }
        : {}),
      ...(failure ? { last_failure_code: failure.code, last_failure_at: now } : {}),
      updated_at: sql<Date>`now()`,
    })
    .where('provider', '=', machine.provider)
    .where('machine_id', '=', machine.machineId)
    .execute();
}

export function machineRecordFromRow(row: MachineRow): MachineRecord {
  return {
    provider: row.provider as ProviderName,
    machineId: row.machine_id,
    attempts: row.attempts,
    successes: row.successes,
    losses: row.losses,
    meanReadyMs: row.mean_ready_ms,
    denylistedUntil: row.denylisted_until?.getTime() ?? null,
  };
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
