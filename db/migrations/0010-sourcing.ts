/** Sourcing: rules by which an org keeps machines ready. What a rule bought are ordinary instances, created by it. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table sourcing_rules (
     id text primary key,
     org_id text not null references orgs(id),
     name text not null,
     enabled boolean not null,
     target integer not null,
     max_price_micro_usd_per_hour bigint not null,
     wanted jsonb not null,
     consumer text,
     -- Of the last tick.
     outcome text,
     reason text,
     retry_at timestamptz,
     candidates jsonb not null default '[]',
     fitting integer not null default 0,
     searched_at timestamptz,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     updated_at timestamptz not null default now(),
     -- Kept for what it bought.
     deleted_at timestamptz
   )`,
  `create unique index sourcing_rules_name on sourcing_rules (org_id, name) where deleted_at is null`,
  `create index instances_sourced on instances (created_by, created_at desc) where created_by like 'rul\\_%'`,
];
