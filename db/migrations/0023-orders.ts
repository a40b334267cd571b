/** Orders to agents, what a node shall be and is told, and more of what it reports. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table nodes
     -- Rises with every change of what its agent is told.
     add column desired_revision integer not null default 0,
     -- From now on its agent may write nothing that outlives the machine.
     add column fenced_at timestamptz,
     -- Its agent said that it switches the machine off.
     add column powering_off_at timestamptz,
     add column powering_off_reason text,
     -- false: not known whether a workload declared activity.
     add column is_activity_known boolean not null default false,
     add column activity_declared_at timestamptz,
     -- Of its last sample.
     add column sampled_at timestamptz`,
  // A row is written at each heartbeat: what it reports stays in it, neither compressed nor put elsewhere.
  `alter table nodes set (toast_tuple_target = 8160)`,
  `alter table node_samples
     -- The highest of the last minute, so that what was busy between two samples is seen.
     add column gpu_peak_percent real,
     add column cpu_percent real,
     add column memory_used_mib real,
     add column disk_free_mib real,
     add column network_received_bytes_per_second real,
     add column network_sent_bytes_per_second real,
     add column is_activity_declared boolean`,
  `create table node_orders (
     id text primary key,
     org_id text not null references orgs(id),
     node_id text not null references nodes(id) on delete cascade,
     kind text not null,
     input jsonb not null default '{}',
     -- Opened only for the agent's answer, and wiped when the order ends.
     secrets_sealed text,
     -- Woken when the order ends.
     operation_id text references operations(id),
     status text not null default 'queued' check (status in ('queued', 'running', 'done', 'failed', 'canceled')),
     progress jsonb,
     result jsonb,
     error_code text,
     error_detail text,
     deadline_at timestamptz not null,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     started_at timestamptz,
     finished_at timestamptz
   )`,
  `create index node_orders_open on node_orders (node_id, created_at) where status in ('queued', 'running')`,
  `create index node_orders_deadline on node_orders (deadline_at) where status in ('queued', 'running')`,
  `create index node_orders_operation on node_orders (operation_id) where operation_id is not null`,
];
