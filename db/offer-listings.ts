/** Listings of offers as they are asked for: who was asked when, and whether an answer came. What they said is in offers.ts and providers.ts. */
import { sql } from 'kysely';
import type { ProviderName } from '../domain/provider.ts';
import type { Executor } from './database.ts';

/** An answer older than this is too old for a plan; the cron asks every minute. */
const FRESH_MS = 120_000;
/** Who was asked so short ago is not asked again for a plan: the answer is under way, or just came. */
const MIN_GAP_MS = 55_000;

/** Whoever asked so long ago died with the answer (automation/cron/each-provider.ts bounds it). */
const LOST_MS = 125_000;

export interface ListingState {
  provider: ProviderName;
  /** An answer, believed or not, came a short while ago. */
  isFresh: boolean;
  /** It was asked and has not answered yet. */
  isAsked: boolean;
}

/** Of the providers that are switched on; `wanted` empty: all of them. */
export async function readListingStates(executor: Executor, wanted: readonly ProviderName[]): Promise<ListingState[]> {
  let query = executor
    .selectFrom('providers')
    .select([
      'name',
      sql<boolean>`coalesce(offers_asked_at > greatest(offers_answered_at, now() - ${LOST_MS} * interval '1 millisecond'), false)`.as(
        'asked',
      ),
      sql<boolean>`coalesce(offers_answered_at > now() - ${FRESH_MS} * interval '1 millisecond', false)`.as('fresh'),
    ])
    .where('enabled', '=', true)
    .where('mode', '<>', 'off');
  if (wanted.length > 0) query = query.where('name', 'in', [...wanted]);
  const rows = await query.execute();
  return rows.map((row) => ({ provider: row.name as ProviderName, isFresh: row.fresh, isAsked: row.asked }));
}

/** Before asking, always. */
export async function markAsked(executor: Executor, provider: ProviderName): Promise<void> {
  await executor
    .updateTable('providers')
    .set({ offers_asked_at: sql`now()` })
    .where('name', '=', provider)
    .execute();
}

/** Before asking out of turn: false where somebody asked a short while ago. */
export async function claimAsking(executor: Executor, provider: ProviderName): Promise<boolean> {
  const row = await executor
    .updateTable('providers')
    .set({ offers_asked_at: sql`now()` })
    .where('name', '=', provider)
    .where(sql<boolean>`coalesce(offers_asked_at < now() - ${MIN_GAP_MS} * interval '1 millisecond', true)`)
    .returning('name')
    .executeTakeFirst();
  return row !== undefined;
}

export async function markAnswered(executor: Executor, provider: ProviderName): Promise<void> {
  await executor
    .updateTable('providers')
    .set({ offers_answered_at: sql`now()` })
    .where('name', '=', provider)
    .execute();
}

export async function forgetAsking(executor: Executor, provider: ProviderName): Promise<void> {
  await executor.updateTable('providers').set({ offers_asked_at: null }).where('name', '=', provider).execute();
}
