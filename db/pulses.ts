/**
 * Pulses: since when the control plane has listened without a break. Whoever takes heartbeats writes one every second; where one is
 * missing for longer than PULSE_GAP_MS, or the clock was put back, nobody can have been heard, and listening begins anew.
 */
import { sql } from 'kysely';
import type { Executor } from './database.ts';

export const PULSE_MS = 1_000;
/** A blocked process writes none either: what it did not take, it did not hear. */
export const PULSE_GAP_MS = 4_000;

/** Of those that take heartbeats; any number of them together. */
const API = 'api';

export async function beatPulse(executor: Executor): Promise<void> {
  await sql`
    insert into pulses as p (role, listening_since, at) values (${API}, now(), now())
    on conflict (role) do update set
      listening_since = case
        when p.at > now() or now() - p.at > ${PULSE_GAP_MS} * interval '1 millisecond' then now()
        else p.listening_since end,
      at = now()`.execute(executor);
}

export interface Listening {
  /** null: it does not now. */
  since: Date | null;
  /** The clock by which all of it is judged: the database's. */
  now: Date;
}

export async function readListening(executor: Executor): Promise<Listening> {
  const { rows } = await sql<{ since: Date | null; now: Date }>`
    select (select listening_since from pulses
            where role = ${API} and at <= now() and now() - at <= ${PULSE_GAP_MS} * interval '1 millisecond') as since,
           now() as now`.execute(executor);
  return rows[0] as Listening;
}
