/** Hibernation: what an instance gets back on its next machine, and each of its sleeps. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table instances
     -- Its next machine is ready only with the files of this snapshot on it; null: it begins empty, or has them.
     add column restore_snapshot_id text,
     -- By which its winner gets them.
     add column restore_operation_id text references operations(id),
     -- In which its lifetime stood still.
     add column asleep_ms bigint not null default 0`,
  `create table hibernations (
     id text primary key,
     org_id text not null references orgs(id),
     instance_id text not null references instances(id),
     operation_id text not null references operations(id),
     cause text not null check (cause in ('request', 'idle', 'schedule', 'budget')),
     -- The machine that it had, and what that cost.
     attempt_id text not null references attempts(id),
     price_micro_usd_per_hour bigint not null,
     status text not null default 'copying'
       check (status in ('copying', 'releasing', 'asleep', 'waking', 'woken', 'failed', 'ended')),
     snapshot_id text,
     began_at timestamptz not null default now(),
     -- The snapshot was verified, and the machine given up: from here on it does not come back to ready by itself.
     released_at timestamptz,
     -- The provider said not-found for every machine.
     slept_at timestamptz,
     -- A believed listing after half an hour showed nothing that carries a label of it.
     proven_empty_at timestamptz,
     -- Of the hard lifetime; null: it has none.
     lifetime_left_ms bigint,
     wake_operation_id text references operations(id),
     wake_cause text check (wake_cause in ('request', 'schedule')),
     wake_began_at timestamptz,
     woken_at timestamptz,
     wake_failures integer not null default 0,
     wake_failed_at timestamptz,
     wake_failure_code text,
     wake_failure_detail text,
     -- Why it never slept.
     failure_code text,
     failure_detail text,
     ended_at timestamptz
   )`,
  `create unique index hibernations_open on hibernations (instance_id)
     where status in ('copying', 'releasing', 'asleep', 'waking')`,
  `create index hibernations_instance on hibernations (instance_id, began_at desc)`,
  `create index hibernations_org on hibernations (org_id, slept_at) where slept_at is not null`,
];
