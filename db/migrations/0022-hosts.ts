/** Hosts of our own: nodes before their agent has registered, and the credentials by which we log in to them. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table credentials (
     id text primary key,
     org_id text not null references orgs(id),
     name text not null,
     kind text not null check (kind in ('ssh_private_key')),
     sealed text not null,
     -- What may be known of it: of a private key its public part.
     public_part text,
     created_by text not null,
     -- Milliseconds, because pages are cut at it.
     created_at timestamptz(3) not null default now(),
     unique (org_id, name)
   )`,
  // A host is a node from the moment it is added; it has a key only once its agent has registered.
  `alter table nodes
     alter column key_hash drop not null,
     alter column agent_version drop not null,
     add column cordoned_at timestamptz`,
  `create table hosts (
     node_id text primary key references nodes(id) on delete cascade,
     org_id text not null references orgs(id),
     stack_id text not null references stacks(id),
     -- In the stack.
     name text not null,
     address text not null,
     port integer not null,
     ssh_user text not null,
     host_key_sha256 text not null,
     credential_id text references credentials(id),
     labels jsonb not null default '{}',
     -- Who added it by itself; null: its stack's program has it among others.
     added_by text,
     -- A person said that it is dead for ever: what cannot be uninstalled is let go.
     forget_requested_at timestamptz,
     -- Nothing of ours is on it any more.
     removed_at timestamptz,
     created_at timestamptz not null default now(),
     unique (stack_id, name)
   )`,
  `create unique index hosts_place on hosts (org_id, address, port) where added_by is not null and removed_at is null`,
  `create index hosts_credential on hosts (credential_id) where removed_at is null`,
  `alter table node_tokens
     alter column attempt_id drop not null,
     add column node_id text references nodes(id) on delete cascade,
     add check ((attempt_id is null) <> (node_id is null))`,
  `create index node_tokens_node on node_tokens (node_id) where node_id is not null`,
];
