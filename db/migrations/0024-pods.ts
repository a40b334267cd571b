/** Pods: container workloads on nodes, what their nodes' engines are, and what passes through us of their logs. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // As its agent last said; null: it said nothing of one.
  `alter table nodes add column engine jsonb`,
  `alter table credentials
     drop constraint credentials_kind_check,
     add constraint credentials_kind_check check (kind in ('ssh_private_key', 'registry'))`,
  `create table pods (
     id text primary key,
     org_id text not null references orgs(id),
     name text not null,
     status text not null default 'pending'
       check (status in ('pending', 'scheduled', 'pulling', 'starting', 'running', 'restarting', 'exited', 'failed',
                         'stopping', 'stopped', 'lost', 'removing', 'removed')),
     -- Why it is in its status; null: nothing to say.
     reason text,
     desired text not null default 'running' check (desired in ('running', 'stopped', 'removed')),
     -- One life of its container: each start, restart and move is another.
     run integer not null default 1,
     node_id text references nodes(id) on delete set null,
     -- Where it was; taken again where it fits.
     previous_node_id text,
     -- It is to end on its node, and to be placed elsewhere then.
     is_leaving boolean not null default false,
     -- Those of its node that are its own: [{index, uuid}].
     gpus jsonb not null default '[]',
     spec jsonb not null,
     requirements jsonb not null,
     -- What sealed environment variables are called.
     secret_names text[] not null default '{}',
     secrets_sealed text,
     -- By which its image is fetched.
     credential_id text references credentials(id),
     on_node_lost text not null check (on_node_lost in ('reschedule', 'stop')),
     -- Of its present run, as its agent said.
     restarts integer not null default 0,
     exit_code integer,
     health text,
     pull_percent real,
     published_ports jsonb not null default '[]',
     image_digest text,
     started_at timestamptz,
     finished_at timestamptz,
     reported_at timestamptz,
     -- How often it was placed on another node.
     moves integer not null default 0,
     created_by text not null,
     -- Milliseconds, because pages are cut at it.
     created_at timestamptz(3) not null default now(),
     removed_at timestamptz
   )`,
  `create unique index pods_name on pods (org_id, name) where removed_at is null`,
  `create index pods_org on pods (org_id, created_at desc, id desc)`,
  `create index pods_node on pods (node_id) where node_id is not null and removed_at is null`,
  `create index pods_pending on pods (org_id, created_at) where status = 'pending'`,
  // What passes through on its way from an agent to a reader: bounded by the writer, gone with the reader, worth nothing after a crash.
  `create unlogged table pod_log_streams (
     order_id text primary key,
     pod_id text not null references pods(id) on delete cascade,
     node_id text not null,
     -- Of the batch that is awaited: one that comes again counts for nothing.
     next_seq integer not null default 0,
     -- The reader moves it on while it reads.
     wanted_until timestamptz not null,
     ended_at timestamptz,
     error text,
     created_at timestamptz not null default now()
   )`,
  `create unlogged table pod_log_chunks (
     order_id text not null references pod_log_streams(order_id) on delete cascade,
     seq integer not null,
     lines jsonb not null,
     primary key (order_id, seq)
   )`,
  `create function tell_webhooks_of_pod() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'pod', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'name', new.name, 'nodeId', new.node_id, 'run', new.run, 'reason', new.reason, 'exitCode', new.exit_code));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on pods for each row execute function tell_webhooks_of_pod()`,
  `create trigger webhooks_changed after update of status on pods
     for each row when (old.status is distinct from new.status) execute function tell_webhooks_of_pod()`,
];
