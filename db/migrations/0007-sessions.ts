/** Sessions, what their webhooks are told, and what the last look at a machine found (for their diagnostics). */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table sessions (
     id text primary key,
     org_id text not null references orgs(id),
     instance_id text not null unique references instances(id),
     status text not null default 'opening' check (status in ('opening', 'open', 'ending', 'done', 'expired', 'failed')),
     consumer text,
     purpose text,
     -- What was asked for; the offer itself may be gone from the listing.
     offer_id text,
     -- Its end may be moved so far from its beginning; null: without bound.
     max_lifetime_ms bigint,
     override_reason text,
     -- As its instance's.
     expires_at timestamptz(3),
     -- The last warning given for this end, in minutes before it.
     warned_minutes integer,
     -- A key pair made for it; the private key only until it is over. Null: who opened it brought keys.
     ssh_public_key text,
     ssh_private_key_sealed text,
     opened_by text not null,
     -- The user behind an API key; null: none.
     opened_by_user text,
     created_at timestamptz(3) not null default now(),
     opened_at timestamptz,
     ended_at timestamptz,
     updated_at timestamptz not null default now()
   )`,
  `create index sessions_org on sessions (org_id, created_at desc, id desc)`,
  `create index sessions_expiring on sessions (expires_at) where status in ('opening', 'open')`,
  `create function tell_webhooks_of_session() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'session', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'instanceId', new.instance_id, 'consumer', new.consumer, 'purpose', new.purpose, 'expiresAt', new.expires_at));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on sessions for each row execute function tell_webhooks_of_session()`,
  `create trigger webhooks_changed after update of status on sessions
     for each row when (old.status is distinct from new.status) execute function tell_webhooks_of_session()`,
  `alter table attempts add column last_check jsonb`,
];
