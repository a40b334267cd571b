/**
 * Belief in a listing: whether what a provider listed may be acted on. A listing that is not believed puts the provider in
 * quarantine: nothing is bought from it, destroyed or called lost on its word. A believable listing ends the quarantine; there
 * is no other way out, and none by repetition alone: the same lie told twice is still one.
 */
import type { ProviderErrorKind } from './provider-error.ts';

export type Belief = 'believable' | { quarantine: string };

/** Without a fresh baseline a count says nothing: after this long the market or the account may really have changed. */
export const BASELINE_MS = 3_600_000;
/** A listing below this share of the last one is a sudden drop. Between two listings a minute apart real change is a few percent. */
export const MIN_KEPT_PERCENT = 50;
/** Accounts with a few machines halve every day; a drop by fewer than this is none. */
export const MIN_DROPPED_INSTANCES = 3;
/** The same for offers; below it a share means nothing. */
export const MIN_OFFERS_BASELINE = 10;

export interface InstanceListing {
  /** What went wrong; a malformed or deprecated reply is `unbelievable`. null: a well-formed listing came. */
  error: ProviderErrorKind | null;
  /** Machines in this listing, foreign ones included. */
  count: number;
  /** Machines in the last believed one, less those of ours that were proven gone since; null: there was none. */
  previousCount: number | null;
  /** When the last believed listing came; null: never. */
  lastGoodAt: number | null;
  /** providerInstanceIds of our machines that should be there: bought longer ago than the listing lags, nobody destroys them. */
  expectedOurs: readonly string[];
  /** providerInstanceIds in this listing. */
  seen: ReadonlySet<string>;
  /** Of `expectedOurs`: those of which the provider said not-found when it was asked for each by id. */
  confirmedGone: ReadonlySet<string>;
  now: number;
}

/**
 * A machine of ours that is not listed is believed missing only when the provider, asked for it by id, said not-found: read what
 * `findMissing` gives one by one (the first that exists proves the listing wrong) and judge again. However few are missing: a
 * listing that lacks one of three machines twice in a row would otherwise cost a healthy machine. A drop in other people's machines
 * is believed where the listing shows some of ours and lacks none, which vouches for it, or where the baseline is old.
 */
export function judgeListing(listing: InstanceListing): Belief {
  if (listing.error !== null) return { quarantine: `the listing failed: ${listing.error}` };
  const { count, expectedOurs } = listing;
  const missing = findMissing(listing).length;
  if (missing > 0) {
    return {
      quarantine: `${missing} of our ${countOf(expectedOurs.length, 'machine')} not in a listing of ${count}, and not confirmed gone`,
    };
  }
  const isVouchedFor = expectedOurs.some((id) => listing.seen.has(id));
  const baseline = freshBaseline(listing);
  const kept = count + listing.confirmedGone.size;
  const isDrop =
    baseline !== null && baseline - kept >= MIN_DROPPED_INSTANCES && kept * 100 < baseline * MIN_KEPT_PERCENT;
  if (isDrop && !isVouchedFor) return { quarantine: `the listing fell from ${baseline} to ${count} machines` };
  return 'believable';
}

/** Machines of ours that are neither listed nor confirmed gone: to be asked for one by one. */
export function findMissing(listing: Pick<InstanceListing, 'expectedOurs' | 'seen' | 'confirmedGone'>): string[] {
  return listing.expectedOurs.filter((id) => !listing.seen.has(id) && !listing.confirmedGone.has(id));
}

export interface OfferListing {
  error: ProviderErrorKind | null;
  count: number;
  /** Offers in the last believed listing; null: there was none. */
  previousCount: number | null;
  lastGoodAt: number | null;
  now: number;
}

/** An empty market is never believed: every provider here lists hundreds of offers, and nothing could be bought on its word anyway. */
export function judgeOfferListing(listing: OfferListing): Belief {
  if (listing.error !== null) return { quarantine: `the listing of offers failed: ${listing.error}` };
  if (listing.count === 0) return { quarantine: 'the listing of offers is empty' };
  const baseline = freshBaseline(listing);
  if (baseline !== null && baseline >= MIN_OFFERS_BASELINE && listing.count * 100 < baseline * MIN_KEPT_PERCENT) {
    return { quarantine: `the listing of offers fell from ${baseline} to ${listing.count}` };
  }
  return 'believable';
}

function freshBaseline(listing: {
  previousCount: number | null;
  lastGoodAt: number | null;
  now: number;
}): number | null {
  const { previousCount, lastGoodAt, now } = listing;
  return lastGoodAt !== null && now - lastGoodAt <= BASELINE_MS ? previousCount : null;
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
