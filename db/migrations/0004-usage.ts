/** Usage: the prices that listings showed of a rented machine, and the metered intervals that follow (domain/usage.ts). */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // A price other than the one before, from the moment at which a believable listing first showed it.
  `create table attempt_prices (
     attempt_id text not null references attempts(id),
     from_at timestamptz(3) not null,
     price_micro_usd_per_hour bigint not null check (price_micro_usd_per_hour >= 0),
     primary key (attempt_id, from_at)
   )`,
  // Everything by which cost is grouped is copied, so that a record says for ever what it said when it was made.
  `create table usage_records (
     attempt_id text not null references attempts(id),
     started_at timestamptz(3) not null,
     ended_at timestamptz(3) not null,
     -- A sign of life reaches so far; beyond it the machine is charged unseen.
     proven_until timestamptz(3) not null,
     is_open boolean not null,
     price_micro_usd_per_hour bigint not null check (price_micro_usd_per_hour >= 0),
     org_id text not null,
     -- No foreign keys beside the attempt's: metering would wait for whoever holds the instance.
     instance_id text not null,
     consumer text,
     provider text not null,
     gpu text,
     gpu_count integer,
     primary key (attempt_id, started_at),
     check (started_at <= proven_until and proven_until <= ended_at),
     check (is_open or started_at < ended_at)
   )`,
  `create unique index usage_records_open on usage_records (attempt_id) where is_open`,
  `create index usage_records_org on usage_records (org_id, started_at)`,
  `create index usage_records_instance on usage_records (instance_id)`,
  // Whether its records are final: it is gone and they say so.
  `alter table attempts add column is_metered boolean not null default false`,
  `create index attempts_unmetered on attempts (id) where purchased_at is not null and not is_metered`,
];
