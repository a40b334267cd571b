/** Stacks that people make (clusters, standbys, stores): what they want, what they hold, what was planned. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // Of an instance's stack all of these stay empty: its instances say it.
  `alter table stacks
     -- By which people know it: unique in the org while the stack is there. \`name\` is the engine's.
     add column title text,
     add column status text check (status in ('created', 'updating', 'up', 'failed', 'destroying', 'destroyed')),
     add column config jsonb,
     add column owner text,
     add column cost_centre text,
     add column ceiling_micro_usd_per_hour bigint,
     add column protect boolean not null default true,
     -- What to do when an outside hand changed something.
     add column on_drift text not null default 'report' check (on_drift in ('report', 'repair')),
     -- As of the last update; secrets are left out by name.
     add column outputs jsonb not null default '{}',
     add column resources jsonb not null default '[]',
     add column price_micro_usd_per_hour bigint,
     add column unpriced jsonb not null default '[]',
     add column updated_at timestamptz,
     add column drift jsonb,
     add column drift_checked_at timestamptz,
     add column failure_code text,
     add column failure_detail text,
     add column created_by text`,
  `create unique index stacks_title on stacks (org_id, title) where title is not null and removed_at is null`,
  `create index stacks_org on stacks (org_id, created_at desc, id desc) where title is not null`,
  `create table stack_plans (
     id text primary key,
     stack_id text not null references stacks(id),
     org_id text not null references orgs(id),
     operation_id text not null references operations(id),
     update_kind text not null check (update_kind in ('up', 'destroy')),
     plan_hash text not null,
     steps jsonb not null,
     prices jsonb not null,
     violations jsonb not null,
     created_at timestamptz(3) not null default now(),
     expires_at timestamptz not null
   )`,
  `create index stack_plans_stack on stack_plans (stack_id, created_at desc)`,
  `create unique index stack_plans_operation on stack_plans (operation_id)`,
];
