/** Machines: how long each attempt took to become ready, who denylisted a machine, and what was forgiven when it was lifted. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table ready_samples (
     attempt_id text primary key,
     provider text not null,
     -- null where the vendor names no machine.
     machine_id text,
     gpu_key text not null,
     -- From purchase to verified ready; null: it never was.
     ready_ms integer,
     at timestamptz not null
   )`,
  `create index ready_samples_class on ready_samples (gpu_key, provider, at desc)`,
  `create index ready_samples_machine on ready_samples (provider, machine_id) where machine_id is not null`,
  `alter table machine_history
     add column denylisted_at timestamptz,
     add column denylisted_by text check (denylisted_by in ('automatic', 'person')),
     -- Counted before the last lift: they no longer speak against the machine.
     add column forgiven_attempts integer not null default 0,
     add column forgiven_successes integer not null default 0`,
  `create index audit_log_target on audit_log (target_id, seq desc)`,
];
