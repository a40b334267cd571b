/** Machine history and the denylist: what became of our attempts on each physical machine. */
import { sql, type Selectable } from 'kysely';
import { applyOutcome, liftDenylisting, type MachineOutcome, type MachineRecord } from '../domain/machine-history.ts';
import type { ProviderName } from '../domain/provider.ts';
import { appendAudit, SYSTEM } from './audit.ts';
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
  const row = (await lockMachine(tx, machine)) as MachineRow;
  const before = machineRecordFromRow(row);
  const record = applyOutcome(before, outcome, now.getTime());
  const isNewlyDenylisted = record.denylistedUntil !== before.denylistedUntil && record.denylistedUntil !== null;
  const reason = describePoorRecord(record);
  await tx
    .updateTable('machine_history')
    .set({
      attempts: record.attempts,
      successes: record.successes,
      losses: record.losses,
      mean_ready_ms: record.meanReadyMs,
      denylisted_until: record.denylistedUntil === null ? null : new Date(record.denylistedUntil),
      ...(isNewlyDenylisted ? { denylist_reason: reason, denylisted_at: now, denylisted_by: 'automatic' } : {}),
      ...(failure ? { last_failure_code: failure.code, last_failure_at: now } : {}),
      updated_at: sql<Date>`now()`,
    })
    .where('provider', '=', machine.provider)
    .where('machine_id', '=', machine.machineId)
    .execute();
  if (!isNewlyDenylisted) return;
  await appendAudit(tx, {
    orgId: null,
    actor: SYSTEM,
    action: 'machine.denylist',
    targetKind: 'machine',
    targetId: `${machine.provider}/${machine.machineId}`,
    detail: { until: new Date(record.denylistedUntil as number).toISOString(), reason },
  });
}

/** Since the last lift, as it was judged. */
function describePoorRecord(record: MachineRecord): string {
  const attempts = record.attempts - (record.forgivenAttempts ?? 0);
  const successes = record.successes - (record.forgivenSuccesses ?? 0);
  return `${successes} of ${attempts} attempts became ready`;
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
    forgivenAttempts: row.forgiven_attempts,
    forgivenSuccesses: row.forgiven_successes,
  };
}

/** A person keeps the machine out of plans until then. */
export async function denylistMachine(
  tx: Tx,
  machine: { provider: string; machineId: string },
  denylisting: { until: Date; reason: string },
  now: Date,
): Promise<void> {
  const change = {
    denylisted_until: denylisting.until,
    denylist_reason: denylisting.reason,
    denylisted_at: now,
    denylisted_by: 'person' as const,
  };
  await tx
    .insertInto('machine_history')
    .values({ provider: machine.provider, machine_id: machine.machineId, ...change })
    .onConflict((conflict) =>
      conflict.columns(['provider', 'machine_id']).doUpdateSet({ ...change, updated_at: sql<Date>`now()` }),
    )
    .execute();
}

/** A person lifts it, by the rule of domain/machine-history.ts. Returns whether there is such a machine. */
export async function liftMachine(tx: Tx, machine: { provider: string; machineId: string }): Promise<boolean> {
  const row = await lockMachine(tx, machine);
  if (!row) return false;
  const record = liftDenylisting(machineRecordFromRow(row));
  await tx
    .updateTable('machine_history')
    .set({
      denylisted_until: null,
      denylist_reason: null,
      denylisted_at: null,
      denylisted_by: null,
      forgiven_attempts: record.forgivenAttempts ?? 0,
      forgiven_successes: record.forgivenSuccesses ?? 0,
      updated_at: sql<Date>`now()`,
    })
    .where('provider', '=', machine.provider)
    .where('machine_id', '=', machine.machineId)
    .execute();
  return true;
}

function lockMachine(tx: Tx, machine: { provider: string; machineId: string }): Promise<MachineRow | undefined> {
  return tx
    .selectFrom('machine_history')
    .selectAll()
    .where('provider', '=', machine.provider)
    .where('machine_id', '=', machine.machineId)
    .forUpdate()
    .executeTakeFirst();
}
