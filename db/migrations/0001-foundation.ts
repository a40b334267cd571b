/** The first schema: tenancy, operations, the rented fleet, inventory, audit. Money is bigint micro-dollars, times are timestamptz. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // --- the deployment ---------------------------------------------------------------------------------------------
  `create table deployment (
     singleton boolean primary key default true check (singleton),
     deployment_id text not null,
     mode text not null check (mode in ('sandbox', 'live')),
     max_instances integer not null,
     max_burn_micro_usd_per_hour bigint not null,
     created_at timestamptz not null default now()
   )`,
  // Things made once per deployment and sealed with the master key: label key, token signing key, SSH key, engine passphrase.
  `create table sealed_secrets (
     name text primary key,
     sealed text not null,
     public_part text,
     created_at timestamptz not null default now()
   )`,

  // --- tenancy ----------------------------------------------------------------------------------------------------
  `create table orgs (
     id text primary key,
     name text not null unique,
     created_at timestamptz not null default now()
   )`,
  `create table users (
     id text primary key,
     email text not null unique,
     password_hash text not null,
     is_admin boolean not null default false,
     disabled_at timestamptz,
     created_at timestamptz not null default now()
   )`,
  `create table members (
     org_id text not null references orgs(id),
     user_id text not null references users(id),
     role text not null check (role in ('owner', 'operator', 'viewer', 'billing')),
     created_at timestamptz not null default now(),
     primary key (org_id, user_id)
   )`,
  `create table invites (
     id text primary key,
     org_id text not null references orgs(id),
     token_hash bytea not null unique,
     email text,
     role text not null check (role in ('owner', 'operator', 'viewer', 'billing')),
     created_by text not null,
     expires_at timestamptz not null,
     used_at timestamptz,
     used_by text references users(id),
     created_at timestamptz not null default now()
   )`,
  `create table api_keys (
     id text primary key,
     org_id text not null references orgs(id),
     user_id text references users(id),
     name text not null,
     role text not null check (role in ('owner', 'operator', 'viewer', 'billing')),
     is_admin boolean not null default false,
     key_hash bytea not null unique,
     prefix text not null,
     expires_at timestamptz,
     last_used_at timestamptz,
     revoked_at timestamptz,
     created_at timestamptz not null default now()
   )`,
  // One row per refresh token; a family is one login. A used token presented again revokes its family.
  `create table refresh_tokens (
     token_hash bytea primary key,
     family_id uuid not null,
     user_id text not null references users(id),
     org_id text not null references orgs(id),
     expires_at timestamptz not null,
     used_at timestamptz,
     revoked_at timestamptz,
     created_at timestamptz not null default now()
   )`,
  `create index refresh_tokens_family on refresh_tokens (family_id)`,
  `create table idempotency_keys (
     principal_id text not null,
     route text not null,
     key text not null,
     body_hash bytea not null,
     response_status integer,
     response_body jsonb,
     response_location text,
     created_at timestamptz not null default now(),
     primary key (principal_id, route, key)
   )`,
  // Unlogged: its commits wait for no disk; counters of a second may be lost in a crash.
  `create unlogged table rate_limits (
     key text primary key,
     points integer not null default 0,
     expire bigint
   )`,
  `create table audit_log (
     seq bigint generated always as identity primary key,
     org_id text,
     at timestamptz not null default now(),
     actor_kind text not null check (actor_kind in ('user', 'api_key', 'agent', 'system')),
     actor_id text not null,
     action text not null,
     target_kind text not null,
     target_id text not null,
     request_id text,
     detail jsonb not null default '{}'
   )`,
  `create index audit_log_org on audit_log (org_id, seq desc)`,

  // --- operations -------------------------------------------------------------------------------------------------
  `create table stacks (
     id text primary key,
     org_id text not null references orgs(id),
     kind text not null,
     name text not null unique,
     removed_at timestamptz,
     created_at timestamptz not null default now()
   )`,
  `create table operations (
     id text primary key,
     org_id text references orgs(id),
     kind text not null,
     status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
     target_kind text not null,
     target_id text not null,
     stack_id text references stacks(id),
     -- What only one live operation may do at a time; null where any number may.
     deterministic_key text,
     input jsonb not null default '{}',
     state jsonb not null default '{}',
     note text,
     claim integer not null default 0,
     -- Start of the current or last step, and the last wake-up: a wake during a step ends the wait that the step records.
     claimed_at timestamptz,
     woken_at timestamptz,
     lease_owner text,
     lease_expires_at timestamptz,
     wait_until timestamptz,
     failures integer not null default 0,
     cancel_requested_at timestamptz,
     cancel_reason text,
     error_code text,
     error_detail text,
     updates jsonb not null default '[]',
     event_seq integer not null default 0,
     created_by text not null,
     -- Milliseconds, because pages are cut at it and JavaScript keeps no more.
     created_at timestamptz(3) not null default now(),
     started_at timestamptz,
     finished_at timestamptz,
     check ((lease_owner is null) = (lease_expires_at is null))
   )`,
  `create unique index operations_live_key on operations (deterministic_key)
     where deterministic_key is not null and status in ('queued', 'running')`,
  `create index operations_org on operations (org_id, created_at desc, id desc)`,
  `create index operations_stack on operations (stack_id) where status in ('queued', 'running')`,
  `create index operations_unfinished on operations (status, lease_expires_at) where status in ('queued', 'running')`,
  `create table operation_events (
     operation_id text not null references operations(id) on delete cascade,
     seq integer not null,
     at timestamptz not null default now(),
     type text not null,
     data jsonb not null default '{}',
     -- Of the writing transaction: a reader of many operations takes only events below the oldest transaction still running, so
     -- that none appears behind its back.
     xid xid8 not null default pg_current_xact_id(),
     primary key (operation_id, seq)
   )`,
  `create index operation_events_feed on operation_events (xid, operation_id, seq)`,

  // --- the rented fleet -------------------------------------------------------------------------------------------
  `create table instances (
     id text primary key,
     org_id text not null references orgs(id),
     stack_id text not null references stacks(id),
     operation_id text not null references operations(id),
     ordinal integer not null,
     name text not null,
     status text not null default 'requested',
     phase text not null default 'queued',
     phase_at jsonb not null default '{}',
     note text,
     request jsonb not null,
     strategy text not null,
     consumer text,
     winner_attempt_id text,
     max_price_micro_usd_per_hour bigint not null,
     failure_code text,
     failure_detail text,
     unbounded boolean not null default false,
     override_reason text,
     expires_at timestamptz(3),
     ready_at timestamptz,
     destroy_requested_at timestamptz,
     destroyed_at timestamptz,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     updated_at timestamptz not null default now()
   )`,
  `create index instances_org on instances (org_id, created_at desc, id desc)`,
  `create index instances_live on instances (status) where status <> 'destroyed'`,
  `create index instances_stack on instances (stack_id)`,
  `create index instances_operation on instances (operation_id)`,
  `create unique index instances_live_name on instances (org_id, name) where status <> 'destroyed'`,
  `create table attempts (
     id text primary key,
     org_id text not null references orgs(id),
     instance_id text not null references instances(id),
     stack_id text not null references stacks(id),
     provider text not null,
     label text not null unique,
     status text not null default 'reserved',
     -- The offer assigned now (the candidate being bought, or the one that was).
     provider_offer_id text,
     machine_id text,
     provider_instance_id text,
     gpu text,
     gpu_count integer,
     gpu_memory_gib integer,
     region text,
     price_micro_usd_per_hour bigint,
     reliability double precision,
     -- Engine runs that contained this attempt's create: above 0, a create looks its label up before it buys.
     engine_runs integer not null default 0,
     purchase_calls integer not null default 0,
     refusals jsonb not null default '[]',
     ssh_host text,
     ssh_port integer,
     ssh_user text,
     observed_status text,
     observed_detail text,
     observed_at timestamptz,
     missing_since timestamptz,
     missing_count integer not null default 0,
     failure_code text,
     failure_detail text,
     boot_deadline timestamptz,
     purchased_at timestamptz,
     running_at timestamptz,
     ready_at timestamptz,
     destroy_requested_at timestamptz,
     gone_at timestamptz,
     created_at timestamptz not null default now(),
     updated_at timestamptz not null default now()
   )`,
  `create index attempts_instance on attempts (instance_id)`,
  `create index attempts_stack on attempts (stack_id)`,
  `create index attempts_live on attempts (provider, status) where status <> 'gone'`,
  `create unique index attempts_machine on attempts (provider, provider_instance_id)
     where provider_instance_id is not null and status <> 'gone'`,

  // --- inventory --------------------------------------------------------------------------------------------------
  `create table offers (
     id text primary key,
     provider text not null,
     provider_offer_id text not null,
     machine_id text,
     host_id text,
     gpu text not null,
     gpu_key text not null,
     gpu_count integer not null,
     gpu_memory_gib integer,
     price_micro_usd_per_hour bigint not null,
     priced_disk_gib integer not null,
     disk_micro_usd_per_gib_hour bigint not null,
     floor_micro_usd_per_hour bigint,
     interruptible boolean not null,
     region text,
     location text,
     reliability double precision,
     verified boolean not null,
     disk_gib double precision,
     cpu_cores double precision,
     memory_gib double precision,
     inet_down_mbps double precision,
     inet_up_mbps double precision,
     cuda_version text,
     driver_version text,
     direct_ports integer,
     max_duration_seconds double precision,
     first_seen_at timestamptz not null,
     seen_at timestamptz not null,
     -- Bought by us, or refused when we tried to: hidden until a listing some minutes later still shows it.
     hidden_at timestamptz,
     unique (provider, provider_offer_id)
   )`,
  `create index offers_match on offers (gpu_key, gpu_count, price_micro_usd_per_hour)`,
  // Every GPU that was ever offered, so that a mistyped name is told from one that is sold out.
  `create table known_gpus (
     gpu_key text primary key,
     gpu text not null,
     first_seen_at timestamptz not null default now()
   )`,
  // Held by one attempt so that no other operation picks the same machine. Freed by deletion or by time.
  `create table offer_reservations (
     provider text not null,
     provider_offer_id text not null,
     machine_id text,
     attempt_id text not null references attempts(id) deferrable initially deferred,
     expires_at timestamptz not null,
     primary key (provider, provider_offer_id)
   )`,
  `create index offer_reservations_attempt on offer_reservations (attempt_id)`,
  `create table machine_history (
     provider text not null,
     machine_id text not null,
     attempts integer not null default 0,
     successes integer not null default 0,
     losses integer not null default 0,
     mean_ready_ms integer,
     last_failure_code text,
     last_failure_at timestamptz,
     denylisted_until timestamptz,
     denylist_reason text,
     updated_at timestamptz not null default now(),
     primary key (provider, machine_id)
   )`,
  `create table providers (
     name text primary key,
     mode text not null check (mode in ('live', 'sandbox', 'off')),
     enabled boolean not null default true,
     status text not null default 'unknown' check (status in ('unknown', 'ok', 'degraded', 'quarantined', 'auth_failed', 'off')),
     reason text,
     offers_count integer,
     offers_seen_at timestamptz,
     -- Why the last listing of offers, or of instances, was not believed; null: it was.
     offers_problem text,
     instances_problem text,
     instances_count integer,
     instances_seen_at timestamptz,
     foreign_count integer,
     believable_listings integer not null default 0,
     quarantined_at timestamptz,
     last_error text,
     last_error_at timestamptz,
     updated_at timestamptz not null default now()
   )`,
  // Shared spacing of calls per vendor endpoint: when the next one may be sent.
  `create table provider_rate_limits (
     provider text not null,
     endpoint text not null,
     next_at timestamptz not null,
     primary key (provider, endpoint)
   )`,
  `create table findings (
     id text primary key,
     org_id text references orgs(id),
     class text not null,
     provider text not null,
     provider_instance_id text,
     -- An orphan's label may name an attempt of which no row is left.
     attempt_id text,
     instance_id text references instances(id),
     label text,
     detail text not null,
     price_micro_usd_per_hour bigint,
     sightings integer not null default 1,
     status text not null default 'open' check (status in ('open', 'resolving', 'resolved', 'ignored')),
     operation_id text references operations(id),
     first_seen_at timestamptz(3) not null default now(),
     last_seen_at timestamptz not null default now(),
     resolved_at timestamptz
   )`,
  `create unique index findings_open on findings (class, provider, coalesce(provider_instance_id, ''), coalesce(attempt_id, ''))
     where status in ('open', 'resolving')`,

  // --- processes --------------------------------------------------------------------------------------------------
  `create table cron_ticks (
     name text not null,
     tick_at timestamptz not null,
     claimed_by text not null,
     claimed_at timestamptz not null default now(),
     finished_at timestamptz,
     counts jsonb,
     error text,
     primary key (name, tick_at)
   )`,
  // State of the engine and the like, written by workers, read by /ready.
  `create table component_status (
     component text not null,
     process text not null,
     ready boolean not null,
     reason text not null,
     updated_at timestamptz not null default now(),
     primary key (component, process)
   )`,
];
