/** Nodes: hosts that run our agent, the one-time tokens by which they join, and what they report. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // Sealed, because an engine run that is repeated must hand out the very same token. null: this machine carries no agent.
  `alter table attempts add column agent_sealed text, add column agent_registered_at timestamptz`,
  `create table node_tokens (
     token_hash bytea primary key,
     attempt_id text not null unique references attempts(id),
     expires_at timestamptz not null,
     used_at timestamptz,
     -- Of whoever used it: only the same agent may ask again when the answer was lost.
     nonce_hash bytea,
     created_at timestamptz not null default now()
   )`,
  `create table nodes (
     id text primary key,
     org_id text not null references orgs(id),
     attempt_id text unique references attempts(id),
     instance_id text references instances(id),
     key_hash bytea not null unique,
     key_made_at timestamptz not null default now(),
     -- Offered and not used yet: until it is, the old key stays good.
     next_key_hash bytea unique,
     agent_version text not null,
     hostname text,
     boot_id text,
     previous_boot_id text,
     sequence bigint not null default 0,
     reboots integer not null default 0,
     rebooted_at timestamptz,
     heartbeat_at timestamptz,
     system jsonb,
     gpu jsonb,
     -- Milliseconds, because pages are cut at it.
     registered_at timestamptz(3) not null default now()
   ) with (fillfactor = 50)`,
  `create index nodes_org on nodes (org_id, registered_at desc, id desc)`,
  `create index nodes_instance on nodes (instance_id)`,
  // A ring of a day: one row a minute, the oldest written over. So it is bounded without anybody pruning.
  `create table node_samples (
     node_id text not null references nodes(id) on delete cascade,
     slot smallint not null check (slot >= 0 and slot < 1440),
     at timestamptz not null,
     verdict text not null,
     gpu_percent real,
     gpu_memory_used_mib real,
     gpu_memory_total_mib real,
     gpu_temperature_c real,
     gpu_power_w real,
     load1 real,
     memory_available_mib real,
     primary key (node_id, slot)
   )`,
];
