/**
 * One believable listing of a provider's rented machines, or none: every trouble puts the provider in quarantine instead of being
 * read as an absence. Used by readiness and by reconcile, so that one rule decides what is believed.
 */
import { findMissing, judgeListing } from '../../domain/listing.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { countGoneSince, listLiveAttempts, type AttemptRow } from '../../db/attempts.ts';
import type { Db } from '../../db/database.ts';
import { findProvider, recordBelievable, recordQuarantine, type ProviderRow } from '../../db/providers.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';

export interface BelievableListing {
  observed: ObservedInstance[];
  /** Our records, read before the listing was asked for. */
  recorded: AttemptRow[];
}

/** A listing that was asked for before a purchase was recorded may be answered after it. */
const SETTLE_MS = 2_000;
/** Missing machines read one by one to tell a shrunken listing from machines that are really gone; more are not worth the calls. */
const MAX_CROSS_CHECKS = 20;

/** Whose machines are listed, and how. */
export interface ListedProvider {
  db: Db;
  provider: ProviderName;
  client: ProviderClient;
  /** How long the list may lag behind a purchase. */
  lagMs: number;
  now: () => Date;
}

/** null: not believed; the provider's row says why. `isForeign` counts what is not ours, for that row; without it the count stays. */
export async function listBelievably(
  listed: ListedProvider,
  signal: AbortSignal,
  isForeign?: (instance: ObservedInstance) => boolean,
): Promise<BelievableListing | null> {
  const listing = await takeListing(listed, signal);
  if (listing) await recordBelief(listed, listing, isForeign);
  return listing;
}

/** The provider is believed from now on: what waited for that goes on. */
export function recordBelief(
  { db, provider }: ListedProvider,
  { observed }: BelievableListing,
  isForeign?: (instance: ObservedInstance) => boolean,
): Promise<void> {
  return recordBelievable(db, provider, {
    listing: 'instances',
    count: observed.length,
    ...(isForeign ? { foreignCount: observed.filter(isForeign).length } : {}),
  });
}

/** As listBelievably, but leaves a quarantine standing: whoever judges machines by the listing ends it when that is done. */
export async function takeListing(listed: ListedProvider, signal: AbortSignal): Promise<BelievableListing | null> {
  const { db, provider, client, lagMs, now } = listed;
  const recorded = await listLiveAttempts(db, provider);
  const previous = await findProvider(db, provider);
  let observed: ObservedInstance[];
  try {
    observed = await client.listInstances(signal);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    if (error.kind === 'canceled') return null;
    await recordQuarantine(
      db,
      provider,
      'instances',
      error.kind === 'auth' ? 'auth_failed' : 'quarantined',
      error.message,
    );
    return null;
  }
  const seen = new Set(observed.map((instance) => instance.providerInstanceId));
  const expectedOurs = recorded.flatMap((attempt) =>
    isExpected(attempt, now(), lagMs) ? [attempt.provider_instance_id as string] : [],
  );
  const missing = findMissing({ expectedOurs, seen, confirmedGone: new Set() });
  const confirmedGone = await confirmGone(client, missing, signal);
  if (signal.aborted) return null; // cut off in the middle of asking: that says nothing
  const belief = judgeListing({
    error: null,
    previousCount: await readBaseline(db, provider, previous),
    count: observed.length,
    expectedOurs,
    seen,
    confirmedGone,
    now: now().getTime(),
    lastGoodAt: previous?.instances_seen_at?.getTime() ?? null,
  });
  if (belief !== 'believable') {
    await recordQuarantine(db, provider, 'instances', 'quarantined', belief.quarantine);
    return null;
  }
  return { observed, recorded };
}

/** A listing this young is not asked for again before a purchase. */
const FRESH_MS = 15_000;

/**
 * Whether the provider's listing of machines is believed now; asks for one when the last is old. Nothing is bought where it is not:
 * a purchase whose answer is lost could not be found again.
 */
export async function isListingBelieved(listed: ListedProvider, signal: AbortSignal): Promise<boolean> {
  const row = await findProvider(listed.db, listed.provider);
  const seenAt = row?.instances_seen_at?.getTime() ?? 0;
  if (row?.instances_problem === null && listed.now().getTime() - seenAt < FRESH_MS) return true;
  return (await listBelievably(listed, signal)) !== null;
}

/** Machines in the last believed listing, less those of ours that were proven gone since. */
async function readBaseline(db: Db, provider: ProviderName, previous: ProviderRow | undefined): Promise<number | null> {
  if (!previous || previous.instances_count === null || previous.instances_seen_at === null) return null;
  const gone = await countGoneSince(db, provider, previous.instances_seen_at);
  return Math.max(0, previous.instances_count - gone);
}

/** Whether a listing should show it: bought longer ago than the list may lag, and nobody destroys it. */
function isExpected(attempt: AttemptRow, now: Date, lagMs: number): boolean {
  if (attempt.provider_instance_id === null || (attempt.status !== 'bought' && attempt.status !== 'ready'))
    return false;
  return attempt.purchased_at !== null && now.getTime() - attempt.purchased_at.getTime() > lagMs + SETTLE_MS;
}

/** Ids of which the vendor itself says not-found, asked one by one. */
async function confirmGone(client: ProviderClient, missing: string[], signal: AbortSignal): Promise<Set<string>> {
  const gone = new Set<string>();
  for (const id of missing.slice(0, MAX_CROSS_CHECKS)) {
    try {
      if ((await client.readInstance(id, signal)) === null) gone.add(id);
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      return gone; // a vendor that does not answer confirms nothing
    }
  }
  return gone;
}
