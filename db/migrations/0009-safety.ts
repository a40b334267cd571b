/** What keeps the fleet safe: how a finding ended and what was found, and the circuits that stop buying from a failing provider. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table findings
     -- The vendor's machine as last seen (an observed instance); null for a finding about a row.
     add column machine jsonb,
     -- How it ended; null while it has not.
     add column resolution text check (resolution in ('destroyed', 'adopted', 'unseen')),
     -- Ignored until then; null: for good.
     add column ignored_until timestamptz,
     add column reason text`,
  // An adopted machine keeps its label, which is that of an attempt that is gone: one live attempt for each label.
  `alter table attempts drop constraint attempts_label_key`,
  `create unique index attempts_live_label on attempts (label) where status <> 'gone'`,
  `create index attempts_label on attempts (label)`,

  // One circuit for each provider and what is asked of it. No row: closed, nothing ever failed.
  `create table provider_circuits (
     provider text not null,
     source text not null check (source in ('purchase', 'offers', 'instances')),
     -- How often in a row it opened without having proven itself in between.
     opens integer not null default 0,
     -- When it last opened or closed: what came of calls before that says nothing any more.
     changed_at timestamptz,
     -- From then on one purchase may probe it; null: closed.
     open_until timestamptz,
     reason text,
     -- What the call came to that opened it.
     cause text,
     -- The one purchase that probes a half-open circuit.
     probe_attempt_id text,
     probe_at timestamptz,
     updated_at timestamptz not null default now(),
     primary key (provider, source)
   )`,
  `create table provider_outcomes (
     id bigint generated always as identity primary key,
     provider text not null,
     source text not null check (source in ('purchase', 'offers', 'instances')),
     -- Not now(): outcomes of one transaction have an order too.
     at timestamptz not null default clock_timestamp(),
     -- null: the provider answered as it should.
     error_kind text
   )`,
  `create index provider_outcomes_window on provider_outcomes (provider, source, at desc)`,
];
