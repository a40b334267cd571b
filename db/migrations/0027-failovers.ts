/** Failure of nodes and what follows: when we listened, what was suspected, policies, failovers, and where each workload is now. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // Written every second by whoever takes heartbeats: a gap is an outage of ours, in which silence counts for nothing.
  `create table pulses (
     role text primary key,
     listening_since timestamptz not null,
     at timestamptz not null
   ) with (fillfactor = 50)`,
  // A row while a node is looked at closely; none: nothing speaks against it.
  `create table node_watches (
     node_id text primary key references nodes(id) on delete cascade,
     verdict text not null check (verdict in ('alive', 'suspect', 'dead')),
     since timestamptz(3) not null,
     -- For people.
     reasons jsonb not null default '[]',
     is_silent boolean not null,
     failed_probes integer not null default 0,
     recoveries jsonb not null default '[]',
     heard_at timestamptz not null,
     checked_at timestamptz(3) not null default now()
   )`,
  `create index node_watches_verdict on node_watches (verdict) where verdict <> 'alive'`,

  `create table failover_policies (
     instance_id text primary key references instances(id),
     org_id text not null references orgs(id),
     mode text not null check (mode in ('off', 'replace', 'standby')),
     -- How old the data may be at most that a failover goes on with.
     rpo_ms bigint not null check (rpo_ms > 0),
     -- Of the replacement; null: as the request says.
     max_price_micro_usd_per_hour bigint check (max_price_micro_usd_per_hour > 0),
     -- Of failovers that begin by themselves; null: no bound.
     budget_micro_usd_per_day bigint check (budget_micro_usd_per_day > 0),
     cooldown_ms bigint not null check (cooldown_ms >= 0),
     max_per_day integer not null check (max_per_day >= 0),
     -- Whether a replacement takes over from the standby by itself.
     failback text not null check (failback in ('automatic', 'manual')),
     changed_by text not null,
     changed_at timestamptz not null default now()
   )`,

  `create table failovers (
     id text primary key,
     org_id text not null references orgs(id),
     instance_id text not null references instances(id),
     operation_id text references operations(id),
     cause text not null check (cause in ('detected', 'requested', 'drill')),
     mode text not null check (mode in ('replace', 'standby')),
     phase text not null check (phase in ('detected', 'fencing', 'promoting', 'serving', 'provisioning', 'restoring',
                                          'switching', 'complete', 'failed', 'canceled')),
     -- When each phase began.
     phase_at jsonb not null default '{}',
     -- What was rented for it when each phase began, in millionths of a dollar.
     phase_cost jsonb not null default '{}',
     reasons jsonb not null default '[]',
     failback text not null check (failback in ('automatic', 'manual')),
     failback_requested_at timestamptz(3),
     lost_attempt_id text references attempts(id),
     lost_node_id text,
     -- Its last proof of life.
     lost_at timestamptz(3) not null,
     detected_at timestamptz(3) not null default now(),
     standby_id text,
     replacement_attempt_id text references attempts(id),
     provision_id text references operations(id),
     -- What the work went on with, and the moment that it shows; null: nothing was to be restored.
     snapshot_id text,
     recovery_point_at timestamptz(3),
     rpo_ms bigint not null,
     -- What the standby had last: its replacement begins with that.
     failback_snapshot_id text,
     -- Somebody serves again: the standby, or where there is none the replacement.
     serving_at timestamptz(3),
     replaced_at timestamptz(3),
     note text,
     failure_code text,
     failure_detail text,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     finished_at timestamptz(3)
   )`,
  // At most one at a time: two would each buy a replacement.
  `create unique index failovers_running on failovers (instance_id) where finished_at is null`,
  `create index failovers_org on failovers (org_id, created_at desc, id desc)`,
  `create index failovers_instance on failovers (instance_id, created_at desc)`,
  `create index failovers_recent on failovers (created_at) where cause = 'detected'`,

  `create table endpoints (
     instance_id text primary key references instances(id),
     org_id text not null references orgs(id),
     kind text not null check (kind in ('instance', 'standby', 'none')),
     host text,
     port integer,
     ssh_user text,
     node_id text,
     -- Of kind instance.
     attempt_id text references attempts(id),
     -- Rises with every change, so that whoever is told twice knows which is newer.
     version bigint not null default 1,
     changed_at timestamptz(3) not null default now(),
     check ((kind = 'none') = (host is null))
   )`,
  `create index endpoints_attempt on endpoints (attempt_id) where attempt_id is not null`,

  `create function tell_webhooks_of_failover() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'failover', new.id, new.phase, jsonb_build_object(
       'phase', new.phase, 'previousPhase', case when tg_op = 'UPDATE' then old.phase end,
       'instanceId', new.instance_id, 'cause', new.cause, 'mode', new.mode, 'reasons', new.reasons,
       'lostAt', new.lost_at, 'detectedAt', new.detected_at, 'servingAt', new.serving_at,
       'recoveryPointAt', new.recovery_point_at, 'failureCode', new.failure_code, 'failureDetail', new.failure_detail));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on failovers for each row execute function tell_webhooks_of_failover()`,
  `create trigger webhooks_changed after update of phase on failovers
     for each row when (old.phase is distinct from new.phase) execute function tell_webhooks_of_failover()`,
  `create function tell_webhooks_of_endpoint() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'endpoint', new.instance_id, 'changed', jsonb_build_object(
       'instanceId', new.instance_id, 'kind', new.kind, 'host', new.host, 'port', new.port, 'user', new.ssh_user,
       'nodeId', new.node_id, 'version', new.version, 'changedAt', new.changed_at));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on endpoints for each row execute function tell_webhooks_of_endpoint()`,
  `create trigger webhooks_changed after update of version on endpoints
     for each row when (old.version is distinct from new.version) execute function tell_webhooks_of_endpoint()`,
  `create function tell_webhooks_of_watch() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(n.org_id, 'node', n.id, new.verdict, jsonb_build_object(
       'verdict', new.verdict, 'previousVerdict', case when tg_op = 'UPDATE' then old.verdict else 'alive' end,
       'reasons', new.reasons, 'instanceId', n.instance_id, 'attemptId', n.attempt_id, 'heardAt', new.heard_at))
     from nodes n where n.id = new.node_id;
     return null;
   end $$`,
  `create trigger webhooks_made after insert on node_watches
     for each row when (new.verdict <> 'alive') execute function tell_webhooks_of_watch()`,
  `create trigger webhooks_changed after update of verdict on node_watches
     for each row when (old.verdict is distinct from new.verdict) execute function tell_webhooks_of_watch()`,
  // A machine may come back with another address after it was stopped: whatever path records that, the endpoint follows.
  `create function follow_address_of_attempt() returns trigger language plpgsql as $$
   begin
     update endpoints set host = new.ssh_host, port = new.ssh_port, ssh_user = coalesce(new.ssh_user, 'root'),
                          version = version + 1, changed_at = now()
     where attempt_id = new.id and kind = 'instance' and new.ssh_host is not null
       and (host, port, ssh_user) is distinct from (new.ssh_host, new.ssh_port, coalesce(new.ssh_user, 'root'));
     return null;
   end $$`,
  `create trigger endpoint_follows after update of ssh_host, ssh_port, ssh_user on attempts
     for each row when ((old.ssh_host, old.ssh_port, old.ssh_user) is distinct from (new.ssh_host, new.ssh_port, new.ssh_user))
     execute function follow_address_of_attempt()`,
];
