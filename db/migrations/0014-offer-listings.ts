/** Listings of offers: when each provider was last asked and last answered, so that a plan can ask for fresh ones without asking twice. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql.raw(STATEMENT).execute(db);
}

const STATEMENT = `alter table providers
     add column offers_asked_at timestamptz,
     -- Believed or not: the asking is over.
     add column offers_answered_at timestamptz`;
