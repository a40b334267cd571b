/** Burn reserved until there is a winner, and when each attempt's purchase was last asked for. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // What the instance may cost by the hour before it has a winner: racers bill beside each other.
  `alter table instances add column reserved_micro_usd_per_hour bigint`,
  `update instances set reserved_micro_usd_per_hour = max_price_micro_usd_per_hour`,
  `alter table instances alter column reserved_micro_usd_per_hour set not null`,
  // A machine found later by its label is no older than this.
  `alter table attempts add column purchase_called_at timestamptz`,
];
