/**
 * The purchase runtime of plain `pulumi up`: no control plane, no database. Candidates come from live searches, ranked by
 * price; labels are unsigned, so a control plane on the same account counts these machines as foreign and leaves them alone.
 */
import { noCrash } from '../domain/crash-points.ts';
import { matchesRequirements, offerKey, placeKey } from '../domain/provisioning/match.ts';
import { priceWithDisk, type Offer, type OfferRequirements } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { ProviderClient } from './provider-client.ts';
import type { Candidate, PurchaseRuntime } from './purchase-runtime.ts';

export interface StandaloneOptions {
  client: (provider: ProviderName) => ProviderClient;
  listLagMs: (provider: ProviderName) => number;
}

/** Offers go fast, and searches are few: ten a minute at Vast.ai. One search serves all resources of an update. */
const SEARCH_KEPT_MS = 20_000;

/** Of what plain `pulumi up` rents without saying how it is to be called. */
export function standaloneLabel(resourceKey: string): string {
  return `muster-ext-${resourceKey}`;
}

export function createStandaloneRuntime(options: StandaloneOptions): PurchaseRuntime {
  const search = createSearches(options.client);
  /** Keys of offers and machines that some resource of this process has taken: one machine each, spread. */
  const taken = new Set<string>();
  const current = new Map<string, Candidate>();
  const never = new AbortController();

  return {
    client: options.client,
    async nextCandidate(label, provider, requirements, refused, signal) {
      const kept = current.get(label);
      if (kept && refused?.providerOfferId !== kept.providerOfferId) return kept;
      const offers = await search(provider, requirements, signal);
      const fitting = offers.filter((offer) => matchesRequirements(offer, requirements) && !taken.has(offerKey(offer)));
      fitting.sort((a, b) => Number(priceWithDisk(a, requirements.diskGib) - priceWithDisk(b, requirements.diskGib)));
      const offer = fitting.find((each) => !taken.has(placeKey(each))) ?? fitting[0];
      if (!offer) return null;
      taken.add(offerKey(offer));
      taken.add(placeKey(offer));
      const candidate = {
        providerOfferId: offer.providerOfferId,
        machineId: offer.machineId,
        priceMicroUsdPerHour: priceWithDisk(offer, requirements.diskGib),
      };
      current.set(label, candidate);
      return candidate;
    },
    // Nothing was recorded before: any earlier run may have been cut off.
    mayExist: () => true,
    labelFor: standaloneLabel,
    assertMaySpend: () => {},
    listLagMs: options.listLagMs,
    deploymentSshPublicKeys: () => [],
    // The stock plugin process is not told of a cancel; the engine waits for what is under way.
    signal: () => never.signal,
    progress: (label, message) => void process.stderr.write(`${label}: ${message}\n`),
    crashPoint: noCrash,
  };
}

/** Resources that ask for the same at the same time share one search. */
function createSearches(client: StandaloneOptions['client']) {
  const searches = new Map<string, { atMs: number; offers: Promise<Offer[]> }>();
  return (provider: ProviderName, requirements: OfferRequirements, signal: AbortSignal): Promise<Offer[]> => {
    const { gpu, gpuCount, diskGib, interruptible, maxPriceMicroUsdPerHour } = requirements;
    const query = { gpu, gpuCount, diskGib, interruptible, maxPriceMicroUsdPerHour };
    const key = `${provider} ${Object.values(query).join(' ')}`;
    const kept = searches.get(key);
    if (kept && performance.now() - kept.atMs < SEARCH_KEPT_MS) return kept.offers;
    const offers = client(provider).searchOffers(query, signal);
    searches.set(key, { atMs: performance.now(), offers });
    offers.catch(() => searches.delete(key));
    return offers;
  };
}
