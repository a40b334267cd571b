/**
 * Circuits: whether a provider may be bought from, shared by all replicas. The rule is domain/circuit.ts's; all times are the
 * database's, because replicas' clocks differ.
 */
import { sql, type Selectable } from 'kysely';
import {
  CIRCUIT_WINDOW_MS,
  circuitState,
  CLOSED_CIRCUIT,
  mayBuy,
  mayReopen,
  nextCircuit,
  type Circuit,
  type CircuitSource,
  type CircuitState,
} from '../domain/circuit.ts';
import type { ProviderErrorKind } from '../domain/provider-error.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

type CircuitRow = Selectable<Schema['provider_circuits']>;

/** One circuit as it is now, for people: only those that ever opened have one. */
export interface ProviderCircuit {
  provider: string;
  source: CircuitSource;
  state: CircuitState;
  reason: string | null;
  openUntil: Date | null;
  opens: number;
  /** Whether it is worth waiting for. */
  mayReopen: boolean;
  /** Whether a new purchase may be begun as far as this circuit goes. */
  isUsable: boolean;
}

/** The newest outcomes that are judged; more in ten minutes say the same. */
const MAX_OUTCOMES = 100;

/** Counts what came of a call to a provider and moves its circuit. Best inside the transaction that records the call's effect. */
export async function recordProviderOutcome(
  executor: Executor,
  outcome: { provider: string; source: CircuitSource; errorKind: ProviderErrorKind | null },
): Promise<void> {
  const { provider, source, errorKind } = outcome;
  await executor.insertInto('provider_outcomes').values({ provider, source, error_kind: errorKind }).execute();
  if (errorKind !== null) {
    await executor
      .insertInto('provider_circuits')
      .values({ provider, source })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  const row = await executor
    .selectFrom('provider_circuits')
    .selectAll()
    .where('provider', '=', provider)
    .where('source', '=', source)
    // A circuit that never opened is moved by trouble only: good calls need not wait for each other.
    .$if(errorKind === null, (query) => query.where('opens', '>', 0))
    .forUpdate()
    .executeTakeFirst();
  if (!row) return;
  const { rows } = await sql<{ at: Date; error_kind: ProviderErrorKind | null }>`
    select at, error_kind from provider_outcomes
    where provider = ${provider} and source = ${source} and at > now() - ${CIRCUIT_WINDOW_MS} * interval '1 millisecond'
    order by at desc, id desc limit ${MAX_OUTCOMES}`.execute(executor);
  const outcomes = rows.map((one) => ({ at: one.at.getTime(), errorKind: one.error_kind })).reverse();
  const before = circuitFromRow(row);
  const after = nextCircuit(before, source, outcomes, await readNow(executor));
  if (after !== before) await saveCircuit(executor, provider, source, after);
}

/** Every circuit that ever opened. */
export async function listCircuits(executor: Executor): Promise<ProviderCircuit[]> {
  const [rows, now] = await Promise.all([
    executor
      .selectFrom('provider_circuits')
      .selectAll()
      .where('opens', '>', 0)
      .orderBy('provider')
      .orderBy('source')
      .execute(),
    readNow(executor),
  ]);
  return rows.map((row) => {
    const circuit = circuitFromRow(row);
    return {
      provider: row.provider,
      source: row.source,
      state: circuitState(circuit, now),
      reason: row.reason,
      openUntil: row.open_until,
      opens: row.opens,
      mayReopen: mayReopen(circuit),
      isUsable: mayBuy(circuit, null, now),
    };
  });
}

/** Providers from which no new purchase may be begun now, with the reason: for planning. */
export async function listUnusableProviders(
  executor: Executor,
): Promise<Map<string, { reason: string; mayReopen: boolean }>> {
  const circuits = (await listCircuits(executor)).filter((circuit) => !circuit.isUsable);
  return new Map(
    circuits.map((circuit) => [
      circuit.provider,
      { reason: circuit.reason ?? circuit.state, mayReopen: circuit.mayReopen },
    ]),
  );
}

/**
 * Whether the attempt may be begun at the provider, in the transaction that records it: where a circuit is half open, for one
 * attempt at a time, which is then its probe.
 */
export async function claimProbe(tx: Tx, provider: string, attemptId: string): Promise<boolean> {
  const rows = await tx
    .selectFrom('provider_circuits')
    .selectAll()
    .where('provider', '=', provider)
    .where('open_until', 'is not', null)
    .orderBy('source')
    .forUpdate()
    .execute();
  if (rows.length === 0) return true;
  const now = await readNow(tx);
  if (!rows.every((row) => mayBuy(circuitFromRow(row), attemptId, now))) return false;
  await tx
    .updateTable('provider_circuits')
    .set({ probe_attempt_id: attemptId, probe_at: sql`now()` })
    .where('provider', '=', provider)
    .where('open_until', 'is not', null)
    .execute();
  return true;
}

/** A person says that the provider is well again: its circuits are as if nothing had ever failed. */
export async function resetCircuits(executor: Executor, provider: string): Promise<void> {
  await executor
    .updateTable('provider_circuits')
    .set({
      opens: 0,
      changed_at: sql`clock_timestamp()`,
      open_until: null,
      reason: null,
      cause: null,
      probe_attempt_id: null,
      probe_at: null,
      updated_at: sql`now()`,
    })
    .where('provider', '=', provider)
    .execute();
}

async function saveCircuit(
  executor: Executor,
  provider: string,
  source: CircuitSource,
  circuit: Circuit,
): Promise<void> {
  const time = (ms: number | null) => (ms === null ? null : new Date(ms));
  await executor
    .updateTable('provider_circuits')
    .set({
      opens: circuit.opens,
      changed_at: time(circuit.changedAt),
      open_until: time(circuit.openUntil),
      reason: circuit.reason,
      cause: circuit.cause,
      probe_attempt_id: circuit.probeAttemptId,
      probe_at: time(circuit.probeAt),
      updated_at: sql`now()`,
    })
    .where('provider', '=', provider)
    .where('source', '=', source)
    .execute();
}

async function readNow(executor: Executor): Promise<number> {
  const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(executor);
  return rows[0]?.now.getTime() ?? 0;
}

function circuitFromRow(row: CircuitRow): Circuit {
  if (row.opens === 0 && row.changed_at === null) return CLOSED_CIRCUIT;
  return {
    opens: row.opens,
    changedAt: row.changed_at?.getTime() ?? null,
    openUntil: row.open_until?.getTime() ?? null,
    reason: row.reason,
    cause: row.cause,
    probeAttemptId: row.probe_attempt_id,
    probeAt: row.probe_at?.getTime() ?? null,
  };
}
