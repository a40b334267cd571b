/**
 * Webhooks and their deliveries. A delivery is written by triggers, in the very transaction that changes the status of an instance, an
 * operation or a finding: whatever path changes it, nothing is told that did not happen, and nothing that happened is forgotten.
 * A trigger rather than a call in each of those paths, because one that forgets to call would not be noticed.
 */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table webhooks (
     id text primary key,
     org_id text not null references orgs(id),
     url text not null,
     description text,
     -- Of domain/webhook.ts: '*', 'instance.*', 'instance.ready', …
     events text[] not null,
     -- Also what belongs to no org.
     includes_deployment boolean not null default false,
     secret_sealed text not null,
     -- Signs beside the present one until it is over.
     previous_secret_sealed text,
     previous_secret_until timestamptz,
     enabled boolean not null default true,
     disabled_reason text,
     -- Of the first try since the last success.
     failing_since timestamptz,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     updated_at timestamptz not null default now(),
     check ((previous_secret_sealed is null) = (previous_secret_until is null))
   )`,
  `create index webhooks_org on webhooks (org_id, created_at desc, id desc)`,
  `create index webhooks_deployment on webhooks (id) where includes_deployment`,
  `create table webhook_deliveries (
     id text primary key,
     webhook_id text not null references webhooks(id) on delete cascade,
     -- The order of what happened to one object: its row is locked by whoever changes it.
     seq bigint generated always as identity,
     type text not null,
     object_kind text not null,
     object_id text not null,
     org_id text,
     data jsonb not null,
     happened_at timestamptz(3) not null default now(),
     status text not null default 'pending' check (status in ('pending', 'succeeded', 'failed', 'canceled')),
     tries integer not null default 0,
     next_at timestamptz not null default now(),
     -- Until then a try is under way; past it the process that made it has died.
     leased_until timestamptz,
     response_status integer,
     response_excerpt text,
     error text,
     duration_ms integer,
     tried_at timestamptz,
     finished_at timestamptz
   )`,
  `create index webhook_deliveries_log on webhook_deliveries (webhook_id, seq desc)`,
  `create index webhook_deliveries_due on webhook_deliveries (next_at) where status = 'pending'`,
  `create index webhook_deliveries_order on webhook_deliveries (webhook_id, object_id, seq) where status = 'pending'`,

  // 'dlv_' and 16 characters of base32, as domain/ids.ts shapes ids; 79 of a random UUID's bits reach them.
  `create function new_delivery_id() returns text language sql volatile as $$
     select 'dlv_' || string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', 1 + (get_byte(random.bytes, place) & 31), 1), '' order by place)
     from (select uuid_send(gen_random_uuid()) as bytes) as random, generate_series(0, 15) as place
   $$`,
  `create function record_webhook_event(p_org_id text, p_kind text, p_id text, p_status text, p_data jsonb) returns void
   language sql as $$
     insert into webhook_deliveries (id, webhook_id, type, object_kind, object_id, org_id, data)
     select new_delivery_id(), w.id, p_kind || '.' || p_status, p_kind, p_id, p_org_id, p_data
     from webhooks w
     where w.enabled and (w.org_id = p_org_id or (p_org_id is null and w.includes_deployment))
       and w.events && array['*', p_kind || '.*', p_kind || '.' || p_status]
     order by w.id
   $$`,
  `create function tell_webhooks_of_instance() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'instance', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'name', new.name, 'consumer', new.consumer, 'note', new.note,
       'failureCode', new.failure_code, 'failureDetail', new.failure_detail, 'operationId', new.operation_id));
     return null;
   end $$`,
  `create function tell_webhooks_of_operation() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'operation', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'kind', new.kind, 'targetKind', new.target_kind, 'targetId', new.target_id, 'note', new.note,
       'errorCode', new.error_code, 'errorDetail', new.error_detail));
     return null;
   end $$`,
  `create function tell_webhooks_of_finding() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'finding', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'class', new.class, 'provider', new.provider, 'providerInstanceId', new.provider_instance_id,
       'instanceId', new.instance_id, 'detail', new.detail));
     return null;
   end $$`,
  ...['instance', 'operation', 'finding'].flatMap((kind) => [
    `create trigger webhooks_made after insert on ${kind}s
       for each row execute function tell_webhooks_of_${kind}()`,
    `create trigger webhooks_changed after update of status on ${kind}s
       for each row when (old.status is distinct from new.status) execute function tell_webhooks_of_${kind}()`,
  ]),
];
