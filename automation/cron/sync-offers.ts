/**
 * The sync-offers cron: one listing of offers per provider and tick into `offers` and the prices. One that is not believed changes
 * neither: what was last believed stays, and its age tells.
 */
import type { Logger } from 'pino';
import { judgeOfferListing } from '../../domain/listing.ts';
import type { Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { Db } from '../../db/database.ts';
import { forgetAsking, markAnswered, markAsked } from '../../db/offer-listings.ts';
import { replaceOffers } from '../../db/offers.ts';
import { recordFloors } from '../../db/prices.ts';
import { findProvider, recordBelievable, recordQuarantine } from '../../db/providers.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import { forEachProvider } from './each-provider.ts';
import type { Cron, TickCounts } from './scheduler.ts';

/** Offers are listed with this disk in their price; a request's own disk is added by domain/offer.ts. */
const LISTED_DISK_GIB = 40;

export interface SyncOffersOptions {
  db: Db;
  client: (provider: ProviderName) => ProviderClient;
  providers: ProviderName[];
  now: () => Date;
  log: Logger;
}

export function createSyncOffersCron(options: SyncOffersOptions & { everyMs: number }): Cron {
  return {
    name: 'sync-offers',
    everyMs: options.everyMs,
    run: (signal) => syncOffers(options, signal),
  };
}

/** All providers side by side; it takes as long as the slowest. */
export function syncOffers(options: SyncOffersOptions, signal: AbortSignal): Promise<TickCounts> {
  const { db, log } = options;
  return forEachProvider(
    options.providers,
    async (provider, bound) => {
      await markAsked(db, provider);
      try {
        return await syncProvider(options, provider, bound);
      } finally {
        // Broken off by a drain: somebody else asks again at once.
        await (signal.aborted ? forgetAsking(db, provider) : markAnswered(db, provider));
      }
    },
    { signal, log },
  );
}

/** The number of offers now recorded; `quarantined`: the listing was not believed, and the provider's row says why. */
async function syncProvider(
  options: SyncOffersOptions,
  provider: ProviderName,
  signal: AbortSignal,
): Promise<TickCounts> {
  const { db } = options;
  const previous = await findProvider(db, provider);
  const askedAt = options.now();
  let offers: Offer[];
  try {
    offers = await options.client(provider).searchOffers({ diskGib: LISTED_DISK_GIB }, signal);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    if (error.kind !== 'canceled') {
      await recordQuarantine(
        db,
        provider,
        'offers',
        error.kind === 'auth' ? 'auth_failed' : 'quarantined',
        error.message,
      );
    }
    return { quarantined: 1 };
  }
  const belief = judgeOfferListing({
    error: null,
    previousCount: previous?.offers_count ?? null,
    count: offers.length,
    now: askedAt.getTime(),
    lastGoodAt: previous?.offers_seen_at?.getTime() ?? null,
  });
  if (belief !== 'believable') {
    await recordQuarantine(db, provider, 'offers', 'quarantined', belief.quarantine);
    return { quarantined: 1 };
  }
  await replaceOffers(db, provider, offers, askedAt);
  await recordFloors(db, provider, offers, askedAt);
  await recordBelievable(db, provider, { listing: 'offers', count: offers.length });
  return { offers: offers.length };
}
