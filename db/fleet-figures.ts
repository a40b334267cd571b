/** Fleet figures: what a dashboard wants to know at a glance, counted from the rows in one go. */
import { sql } from 'kysely';
import type { CircuitState } from '../domain/circuit.ts';
import { listCircuits } from './circuits.ts';
import type { Executor } from './database.ts';
import { measureFleet } from './instances.ts';

export interface FleetFigures {
  /** By status; destroyed and gone ones are left out. */
  instances: Record<string, number>;
  attempts: Record<string, number>;
  /** Unfinished, by kind. */
  operations: Record<string, number>;
  /** Open, by class. */
  findings: Record<string, number>;
  /** Status by provider. */
  providers: Record<string, string>;
  /** By `provider/source`: 0 closed, 0.5 half open, 1 open; those that ever opened. */
  circuits: Record<string, number>;
  /** Machines without a row that were found and destroyed, by provider. */
  orphansDestroyed: Record<string, number>;
  burnMicroUsdPerHour: bigint;
}

const CIRCUIT_FIGURE: Record<CircuitState, number> = { closed: 0, half_open: 0.5, open: 1 };

export async function readFleetFigures(executor: Executor): Promise<FleetFigures> {
  const { rows } = await sql<{ family: string; name: string; count: bigint }>`
    select 'instances' as family, status as name, count(*) from instances where status <> 'destroyed' group by status
    union all select 'attempts', status, count(*) from attempts where status <> 'gone' group by status
    union all select 'operations', kind, count(*) from operations where status in ('queued', 'running') group by kind
    union all select 'findings', class, count(*) from findings where status in ('open', 'resolving') group by class
    union all select 'destroyed', provider, count(*) from findings where resolution = 'destroyed' group by provider`.execute(
    executor,
  );
  const family = (name: string) =>
    Object.fromEntries(rows.filter((row) => row.family === name).map((row) => [row.name, Number(row.count)]));
  const providers = await executor.selectFrom('providers').select(['name', 'status']).execute();
  const circuits = await listCircuits(executor);
  const { burnMicroUsdPerHour } = await measureFleet(executor);
  return {
    instances: family('instances'),
    attempts: family('attempts'),
    operations: family('operations'),
    findings: family('findings'),
    providers: Object.fromEntries(providers.map((row) => [row.name, row.status])),
    circuits: Object.fromEntries(
      circuits.map(({ provider, source, state }) => [`${provider}/${source}`, CIRCUIT_FIGURE[state]]),
    ),
    orphansDestroyed: family('destroyed'),
    burnMicroUsdPerHour,
  };
}
