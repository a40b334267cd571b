/** Pools that nobody draws from keep fewer. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  // While nobody has asked for what it keeps for as long as idle_shrink_after_ms: how many it keeps then.
  await sql`alter table pools add column idle_size integer not null default 1 check (idle_size >= 0)`.execute(db);
}
