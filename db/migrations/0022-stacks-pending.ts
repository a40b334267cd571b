/** Pending creates of a stack that a person has to decide, with what was decided. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  // null: nothing holds its updates back, as far as the last one that tried knows.
  await sql.raw(`alter table stacks add column pending jsonb`).execute(db);
}
