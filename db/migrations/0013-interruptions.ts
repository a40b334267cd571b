/** Interruptible machines: what was bid for an attempt, and when and how often its machine was taken away. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table attempts
     -- For the GPUs of the whole machine and hour, disk not included; null: rented on demand.
     add column bid_micro_usd_per_hour bigint,
     -- What the disk of an interruptible machine costs on top of the bid, per hour.
     add column disk_micro_usd_per_hour bigint,
     add column rebids integer not null default 0,
     add column rebid_at timestamptz,
     -- Set while the vendor keeps the GPUs from us.
     add column interrupted_at timestamptz,
     add column interruptions integer not null default 0`,
  `create index attempts_interruptible on attempts (provider) where bid_micro_usd_per_hour is not null and status = 'ready'`,
  `alter table machine_history add column interruptions integer not null default 0`,
  // When the instance lost its machine and began to look for another: earlier attempts belong to its life before.
  `alter table instances add column replaced_at timestamptz`,
];
