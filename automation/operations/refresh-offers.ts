/**
 * Refreshing offers: what the sync-offers cron does, now, for providers whose last answer is too old for a plan that somebody waits
 * for. Providers that are being asked already are not asked twice: who waits sees their answer in their rows.
 */
import type { ProviderName } from '../../domain/provider.ts';
import { claimAsking, readListingStates } from '../../db/offer-listings.ts';
import { syncOffers } from '../cron/sync-offers.ts';
import type { StepContext, StepResult } from './step.ts';

/** Kind `refresh_offers`, target `deployment`. It never fails: a provider that cannot be listed says so in its own row. */
export async function refreshOffers(context: StepContext): Promise<StepResult> {
  const states = await readListingStates(context.db, context.enabledProviders);
  const asked: ProviderName[] = [];
  for (const { provider, isFresh } of states) {
    if (!isFresh && (await claimAsking(context.db, provider))) asked.push(provider);
  }
  const signal = AbortSignal.any([context.cancel, context.kill]);
  await syncOffers({ ...context, providers: asked }, signal);
  return signal.aborted ? { kind: 'release' } : { kind: 'done', note: `listed ${asked.join(', ') || 'nobody'}` };
}
