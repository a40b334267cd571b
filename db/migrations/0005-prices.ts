/** Prices: what traffic costs, floors now and over time, and the orders of the inventory. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table offers
     add column inet_down_micro_usd_per_gb bigint,
     add column inet_up_micro_usd_per_gb bigint`,
  `create index offers_price on offers (price_micro_usd_per_hour, id) where hidden_at is null`,
  `create index offers_price_per_gpu on offers ((price_micro_usd_per_hour::numeric / gpu_count), id) where hidden_at is null`,
  `create index offers_reliability on offers ((coalesce(reliability, -1)) desc, id) where hidden_at is null`,
  `create index offers_memory on offers ((coalesce(gpu_memory_gib, -1)) desc, id) where hidden_at is null`,

  // The floor of each class (a GPU model at a provider, on demand or interruptible) by the last believable listing.
  `create table price_floors (
     provider text not null,
     gpu_key text not null,
     interruptible boolean not null,
     gpu text not null,
     -- null: the last believable listing had no such offer.
     floor_micro_usd_per_gpu_hour bigint,
     median_micro_usd_per_gpu_hour bigint,
     offers integer not null,
     changed_at timestamptz not null,
     seen_at timestamptz not null,
     primary key (provider, gpu_key, interruptible)
   )`,
  `create index price_floors_gpu on price_floors (gpu_key)`,
  // Each change of a floor, in the order in which they were committed: (xid, seq). Appended to and pruned, never updated.
  `create table price_changes (
     seq bigint generated always as identity primary key,
     xid xid8 not null default pg_current_xact_id(),
     provider text not null,
     gpu_key text not null,
     gpu text not null,
     interruptible boolean not null,
     floor_micro_usd_per_gpu_hour bigint,
     previous_micro_usd_per_gpu_hour bigint,
     at timestamptz not null
   )`,
  `create index price_changes_feed on price_changes (xid, seq)`,
  `create index price_changes_class on price_changes (gpu_key, at)`,
  // One row for each class and hour in which it was listed believably.
  `create table price_hours (
     gpu_key text not null,
     provider text not null,
     interruptible boolean not null,
     hour timestamptz not null,
     low_micro_usd_per_gpu_hour bigint not null,
     high_micro_usd_per_gpu_hour bigint not null,
     -- Of the floors of all listings of the hour; the mean is their sum by their number.
     sum_micro_usd_per_gpu_hour bigint not null,
     samples integer not null,
     primary key (gpu_key, provider, interruptible, hour)
   )`,
  `create index price_hours_hour on price_hours (hour)`,
];
