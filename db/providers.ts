/** Providers: the state in which workers last found each vendor. The API shows these rows; it never asks a vendor itself. */
import { sql, type Selectable } from 'kysely';
import type { ProviderName } from '../domain/provider.ts';
import { recordProviderOutcome } from './circuits.ts';
import type { Executor } from './database.ts';
import type { Schema } from './schema.ts';

export type ProviderRow = Selectable<Schema['providers']>;

export function listProviders(executor: Executor): Promise<ProviderRow[]> {
  return executor.selectFrom('providers').selectAll().orderBy('name').execute();
}

export function findProvider(executor: Executor, name: string): Promise<ProviderRow | undefined> {
  return executor.selectFrom('providers').selectAll().where('name', '=', name).executeTakeFirst();
}

/** Makes the row at start; keeps what is known of a provider whose mode did not change. */
export async function registerProvider(
  executor: Executor,
  name: ProviderName,
  mode: 'live' | 'sandbox' | 'off',
): Promise<void> {
  await executor
    .insertInto('providers')
    .values({ name, mode, status: mode === 'off' ? 'off' : 'unknown' })
    .onConflict((conflict) =>
      conflict.column('name').doUpdateSet({
        mode,
        status: sql`case when ${mode} = 'off' then 'off' when providers.status = 'off' then 'unknown' else providers.status end`,
        updated_at: sql<Date>`now()`,
      }),
    )
    .execute();
}

export async function setProviderEnabled(executor: Executor, name: string, isEnabled: boolean): Promise<void> {
  await executor
    .updateTable('providers')
    .set({ enabled: isEnabled, updated_at: sql`now()` })
    .where('name', '=', name)
    .execute();
}

export interface ListingOutcome {
  /** What was listed: each kind is believed or not by itself. */
  listing: 'offers' | 'instances';
  count: number;
  foreignCount?: number;
}

/** A believable listing arrived: quarantine ends when the other kind is believed too. */
export async function recordBelievable(executor: Executor, name: ProviderName, outcome: ListingOutcome): Promise<void> {
  const other = outcome.listing === 'offers' ? sql.ref('instances_problem') : sql.ref('offers_problem');
  await executor
    .updateTable('providers')
    .set((eb) => ({
      status: sql`case when ${other} is null then 'ok' else status end`,
      reason: sql`${other}`,
      quarantined_at: sql`case when ${other} is null then null else quarantined_at end`,
      believable_listings: eb('believable_listings', '+', 1),
      updated_at: sql`now()`,
      ...(outcome.listing === 'offers'
        ? { offers_count: outcome.count, offers_seen_at: sql`now()`, offers_problem: null }
        : { instances_count: outcome.count, instances_seen_at: sql`now()`, instances_problem: null }),
      ...(outcome.foreignCount === undefined ? {} : { foreign_count: outcome.foreignCount }),
    }))
    .where('name', '=', name)
    .execute();
  await recordProviderOutcome(executor, { provider: name, source: outcome.listing, errorKind: null });
}

/** A listing failed or is not believed: nothing is bought there or destroyed on its word until a believable one returns. */
export async function recordQuarantine(
  executor: Executor,
  name: ProviderName,
  listing: ListingOutcome['listing'],
  status: 'quarantined' | 'auth_failed',
  reason: string,
): Promise<void> {
  await executor
    .updateTable('providers')
    .set({
      status,
      reason,
      believable_listings: 0,
      quarantined_at: sql`coalesce(quarantined_at, now())`,
      last_error: reason,
      last_error_at: sql`now()`,
      updated_at: sql`now()`,
      ...(listing === 'offers' ? { offers_problem: reason } : { instances_problem: reason }),
    })
    .where('name', '=', name)
    .execute();
  const errorKind = status === 'auth_failed' ? 'auth' : 'unbelievable';
  await recordProviderOutcome(executor, { provider: name, source: listing, errorKind });
}
