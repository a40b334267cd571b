/** Standbys: what is kept in sync to take over for an instance, how far behind it is, and the drills that prove it. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table standbys (
     id text primary key,
     org_id text not null references orgs(id),
     instance_id text not null references instances(id),
     name text not null,
     stack_id text not null references stacks(id),
     -- As declared; what it is now is its status.
     state text not null check (state in ('warm', 'stopped')),
     status text not null default 'creating'
       check (status in ('creating', 'warm', 'stopped', 'failed', 'promoting', 'serving', 'demoting', 'destroying', 'destroyed')),
     rpo_ms integer not null check (rpo_ms > 0),
     -- The configuration of its stack at rest: a failover changes the stack's own.
     config jsonb not null,
     -- Where it is reached, of its stack's outputs.
     address text,
     -- What is on its disk; null: nothing that is known.
     synced_snapshot_id text,
     -- The moment that it shows.
     synced_to timestamptz(3),
     -- The restore under way to keep it in sync.
     sync_snapshot_id text,
     sync_operation_id text,
     sync_failure text,
     sync_failed_at timestamptz(3),
     -- The moment that the newest verified snapshot of its workspace shows, as of the last look.
     recovery_point_at timestamptz(3),
     checked_at timestamptz(3),
     behind_since timestamptz(3),
     behind_reason text,
     -- The takeover under way: whose it is and how far it came.
     promotion jsonb,
     serving_since timestamptz(3),
     -- null: none by itself.
     drill_every_ms bigint check (drill_every_ms > 0),
     drill_policy jsonb,
     drilled_at timestamptz(3),
     failure_code text,
     failure_detail text,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     removed_at timestamptz
   )`,
  `create unique index standbys_name on standbys (org_id, name) where removed_at is null`,
  // Two would both be restored and both be promoted.
  `create unique index standbys_instance on standbys (instance_id) where removed_at is null`,
  `create unique index standbys_stack on standbys (stack_id)`,
  `create index standbys_org on standbys (org_id, created_at desc, id desc)`,
  `create index standbys_looked_at on standbys (checked_at nulls first) where removed_at is null`,
  `alter table nodes add column standby_id text references standbys(id)`,
  `create unique index nodes_standby on nodes (standby_id) where standby_id is not null`,

  `create table drills (
     id text primary key,
     org_id text not null references orgs(id),
     standby_id text not null references standbys(id),
     instance_id text not null references instances(id),
     operation_id text references operations(id),
     -- How the loss is made: in the sandbox the machine is killed; a real one is fenced and stopped, with somebody's consent.
     mode text not null check (mode in ('sandbox', 'consented')),
     status text not null default 'running' check (status in ('running', 'passed', 'failed', 'canceled')),
     phase text not null default 'preparing',
     -- Milliseconds and millionths of a dollar; null members are not judged.
     targets jsonb not null,
     -- What was measured; null: not over.
     measures jsonb,
     -- Each target that was missed, or why it could not be held.
     failures jsonb not null default '[]',
     -- Moments, by their names.
     moments jsonb not null default '{}',
     failover_id text,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     finished_at timestamptz(3)
   )`,
  `create index drills_org on drills (org_id, created_at desc, id desc)`,
  `create index drills_standby on drills (standby_id, created_at desc)`,
  `create unique index drills_running on drills (instance_id) where status = 'running'`,

  // A record in somebody's zone that follows an instance's endpoint; what keeps it is a stack.
  `create table endpoint_names (
     stack_id text primary key references stacks(id),
     instance_id text not null references instances(id),
     org_id text not null references orgs(id),
     hostname text not null,
     -- Of the endpoint as its stack was last told; 0: it was nowhere.
     told_version bigint,
     operation_id text references operations(id),
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     removed_at timestamptz
   )`,
  `create unique index endpoint_names_instance on endpoint_names (instance_id) where removed_at is null`,

  `create function tell_webhooks_of_standby() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'standby', new.id, case
       when tg_op = 'UPDATE' and old.status = new.status then
         case when new.behind_since is null then 'caught_up' else 'behind' end
       else new.status end, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'name', new.name, 'instanceId', new.instance_id, 'stackId', new.stack_id, 'rpoMs', new.rpo_ms,
       'recoveryPointAt', new.recovery_point_at, 'behindSince', new.behind_since, 'behindReason', new.behind_reason,
       'failureCode', new.failure_code, 'failureDetail', new.failure_detail));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on standbys for each row execute function tell_webhooks_of_standby()`,
  `create trigger webhooks_changed after update of status on standbys
     for each row when (old.status is distinct from new.status) execute function tell_webhooks_of_standby()`,
  `create trigger webhooks_lag after update of behind_since on standbys
     for each row when (old.status = new.status and (old.behind_since is null) <> (new.behind_since is null))
     execute function tell_webhooks_of_standby()`,
  `create function tell_webhooks_of_drill() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'drill', new.id, new.status, jsonb_build_object(
       'status', new.status, 'standbyId', new.standby_id, 'instanceId', new.instance_id, 'mode', new.mode,
       'measures', new.measures, 'failures', new.failures));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on drills for each row execute function tell_webhooks_of_drill()`,
  `create trigger webhooks_changed after update of status on drills
     for each row when (old.status is distinct from new.status) execute function tell_webhooks_of_drill()`,
];
