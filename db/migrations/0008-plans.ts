/** Plans that were shown before anything was spent, with their quotes. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table plans (
     plan_hash text primary key,
     org_id text not null references orgs(id),
     -- Of what was asked for: a plan holds for that request only.
     request_hash text not null,
     -- What the planner chose among equally good offers by: the request that carries the plan out chooses the same.
     seed text not null,
     quotes jsonb not null,
     created_by text not null,
     created_at timestamptz not null default now(),
     expires_at timestamptz not null
   )`,
  `create index plans_expiry on plans (org_id, expires_at)`,
];
