/** Listings of offers: when each provider was last asked and last answered, so that a plan can ask for fresh ones without asking twice; room for what they say. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table providers
     add column offers_asked_at timestamptz,
     -- Believed or not: the asking is over.
     add column offers_answered_at timestamptz`,
  // Every listing rewrites every row, most of them alike: with room beside the old version no index is touched.
  `alter table offers set (fillfactor = 45)`,
];
