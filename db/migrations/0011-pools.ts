/** Pools: warm instances kept ready to be claimed, who claimed which, and whose a machine was before it was handed over. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table pools (
     id text primary key,
     org_id text not null references orgs(id),
     name text not null,
     target_size integer not null,
     max_size integer not null,
     max_price_micro_usd_per_hour bigint not null,
     idle_shrink_after_ms bigint not null,
     wanted jsonb not null,
     consumer text not null,
     -- Since when it has more than its target.
     above_target_since timestamptz,
     -- Of the last look at it.
     trouble text,
     retry_at timestamptz,
     refilled_at timestamptz,
     -- Failures from before it say nothing about what is wanted now.
     changed_at timestamptz not null default now(),
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     -- Kept for what it bought.
     deleted_at timestamptz,
     check (target_size between 0 and max_size)
   )`,
  `create unique index pools_name on pools (org_id, name) where deleted_at is null`,
  // A warm instance's pool, and the instance that claimed it: set once, in the transaction that accepts the claim.
  `alter table instances
     add column pool_id text references pools(id),
     add column claimed_by text references instances(id) deferrable initially deferred,
     add column claimed_at timestamptz`,
  `create index instances_pool on instances (pool_id, created_at desc) where pool_id is not null`,
  `create index instances_claimed on instances (claimed_by) where claimed_by is not null`,
  // Of a machine that was handed over: whose it was before, and until when.
  `alter table attempts add column pooled_instance_id text references instances(id), add column handed_over_at timestamptz(3)`,
];
