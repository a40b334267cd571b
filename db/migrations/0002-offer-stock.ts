/** Several marketplaces: an offer may sell more than one machine, and listings differ in how far they are to be trusted. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  // null: the vendor does not say how many. What was listed before is Vast.ai's: one machine an offer.
  `alter table offers
     add column stock integer default 1,
     add column confidence double precision not null default 0.9`,
  `alter table offers alter column stock drop default`,
  // One offer may be held by several attempts; the GPUs held of one machine never exceed its stock.
  `alter table offer_reservations add column gpu_count integer not null default 1`,
  `alter table offer_reservations drop constraint offer_reservations_pkey`,
  `alter table offer_reservations add primary key (provider, provider_offer_id, attempt_id)`,
  `create index offer_reservations_machine on offer_reservations (provider, machine_id)`,
];
