/** Workspaces, their snapshots, and the short-lived tokens by which nodes reach a workspace's repository. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table workspaces (
     instance_id text primary key references instances(id),
     org_id text not null references orgs(id),
     -- On the node; null: the agent's own setting.
     path text,
     -- Raised whenever the writer changes: whoever has an older one is fenced. 0: there was no writer yet.
     epoch integer not null default 0,
     writer_attempt_id text references attempts(id),
     writer_standby_id text,
     -- Of the repository, made with it; both null until then.
     password_sealed text,
     store_url text,
     -- Counts the workspace's repositories: one that turned out damaged is left as it is, and the next one begun.
     generation integer not null default 1,
     initialized_at timestamptz,
     -- null: on request only.
     snapshot_every_ms bigint,
     keep jsonb not null,
     excludes jsonb not null default '[]',
     -- KiB a second; null: no limit.
     upload_limit_kib integer,
     download_limit_kib integer,
     -- Of the repository, when it was last measured.
     stored_bytes bigint,
     measured_at timestamptz,
     -- Its newest verified snapshot is older than promised since then.
     behind_since timestamptz,
     -- The operation that removes data from the repository: no snapshot begins meanwhile.
     pruning_operation_id text,
     created_at timestamptz(3) not null default now(),
     check (writer_attempt_id is null or writer_standby_id is null)
   )`,
  `create index workspaces_org on workspaces (org_id, created_at desc, instance_id desc)`,
  `create table snapshots (
     id text primary key,
     org_id text not null references orgs(id),
     instance_id text not null references workspaces(instance_id),
     -- Who took it; nodes may be forgotten.
     node_id text not null,
     -- Of the workspace when it began.
     epoch integer not null,
     -- Which of the workspace's repositories has it.
     generation integer not null default 1,
     cause text not null check (cause in ('schedule', 'request', 'hibernate', 'failover', 'standby')),
     status text not null default 'taking'
       check (status in ('taking', 'taken', 'verifying', 'verified', 'failed', 'deleting', 'deleted')),
     -- That takes and verifies it.
     operation_id text references operations(id),
     -- That waits for its end.
     waiting_operation_id text references operations(id),
     order_id text,
     -- As restic names it, in full.
     restic_id text,
     -- As the node reported.
     file_count bigint,
     source_bytes bigint,
     added_bytes bigint,
     -- Read back by us.
     verified_files bigint,
     verified_bytes bigint,
     -- Nothing written to the workspace later than this is in it.
     data_at timestamptz,
     taken_at timestamptz,
     verified_at timestamptz,
     deleted_at timestamptz,
     failure_code text,
     failure_detail text,
     created_by text not null,
     -- Milliseconds, because pages are cut at it.
     created_at timestamptz(3) not null default now()
   )`,
  `create index snapshots_org on snapshots (org_id, created_at desc, id desc)`,
  `create index snapshots_instance on snapshots (instance_id, created_at desc)`,
  `create index snapshots_unfinished on snapshots (instance_id) where status in ('taking', 'taken', 'verifying', 'deleting')`,
  `create table repository_tokens (
     token_hash bytea primary key,
     instance_id text not null references workspaces(instance_id),
     node_id text not null,
     epoch integer not null,
     generation integer not null,
     access text not null check (access in ('read', 'write')),
     -- Of the operation that it was made for.
     operation_id text not null,
     expires_at timestamptz not null,
     revoked_at timestamptz,
     created_at timestamptz not null default now()
   )`,
  `create index repository_tokens_instance on repository_tokens (instance_id)`,
  `create index repository_tokens_over on repository_tokens (expires_at)`,
  `create function tell_webhooks_of_snapshot() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'snapshot', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'instanceId', new.instance_id, 'nodeId', new.node_id, 'cause', new.cause, 'dataAt', new.data_at,
       'failureCode', new.failure_code, 'failureDetail', new.failure_detail, 'operationId', new.operation_id));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on snapshots
     for each row execute function tell_webhooks_of_snapshot()`,
  `create trigger webhooks_changed after update of status on snapshots
     for each row when (old.status is distinct from new.status) execute function tell_webhooks_of_snapshot()`,
];
