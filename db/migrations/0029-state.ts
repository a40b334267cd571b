/** The engine's state: stacks of every project, their immutable versions, the updates that made them, and each update's journal and events. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table state_stacks (
     uuid text primary key,
     -- null: of the deployment itself, shown to nobody.
     org_id text references orgs(id),
     project text not null,
     name text not null,
     -- Muster's own runner made it: people may look at it and update it, not remove or rename it.
     is_engine boolean not null default false,
     tags jsonb not null default '{}',
     -- Of the newest version; 0: nothing was ever written.
     version int not null default 0,
     active_update_id text,
     -- The stack that the data key was made for: itself, or the one that it looks something up for.
     key_owner text not null,
     key_sealed text not null,
     created_at timestamptz(3) not null default now()
   )`,
  `create unique index state_stacks_name on state_stacks (coalesce(org_id, ''), project, name)`,
  `create unique index state_stacks_engine on state_stacks (name) where is_engine`,
  `create table state_updates (
     id text primary key,
     stack_uuid text not null references state_stacks(uuid) on delete cascade,
     kind text not null check (kind in ('update', 'preview', 'refresh', 'destroy', 'import')),
     is_dry_run boolean not null,
     status text not null default 'not_started' check (status in ('not_started', 'running', 'succeeded', 'failed', 'canceled')),
     -- Of the state before it; its own is one more.
     base_version int,
     version int,
     journal_version int,
     token_hash bytea,
     lease_expires_at timestamptz,
     -- The run of our own runner that it belongs to; null: a person's.
     run_id text,
     -- Message, environment and config as the CLI gave them; secrets among them encrypted.
     request jsonb not null default '{}',
     engine_version text not null default '',
     requested_by text not null,
     -- Of a CLI that writes whole states; null: it journals, or has written nothing.
     checkpoint text,
     end_reason text,
     created_at timestamptz(3) not null default now(),
     started_at timestamptz(3),
     ended_at timestamptz(3)
   )`,
  `create index state_updates_stack on state_updates (stack_uuid, created_at desc, id)`,
  `create index state_updates_run on state_updates (run_id) where run_id is not null and status = 'running'`,
  `create table state_versions (
     stack_uuid text not null references state_stacks(uuid) on delete cascade,
     version int not null,
     -- As it is exported; kept as text, because nothing is ever asked of its parts.
     deployment text not null,
     resource_count int not null,
     update_id text,
     created_at timestamptz(3) not null default now(),
     primary key (stack_uuid, version)
   )`,
  `create table state_journal (
     update_id text not null references state_updates(id) on delete cascade,
     sequence_id bigint not null,
     entry text not null,
     primary key (update_id, sequence_id)
   )`,
  `create table state_events (
     update_id text not null references state_updates(id) on delete cascade,
     sequence int not null,
     at timestamptz(3) not null default now(),
     event text not null,
     primary key (update_id, sequence)
   )`,
];
