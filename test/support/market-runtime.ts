/** A purchase runtime over a provider's real client: candidates are what its market offers, cheapest first. For one sandbox and one test. */
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import type { Candidate, PurchaseRuntime, Refusal } from '../../providers-dynamic/purchase-runtime.ts';

export interface MarketScript {
  deploymentKeys?: string[];
  mayExist?: boolean;
  listLagMs?: number;
}

export function createMarketRuntime(client: ProviderClient, script: MarketScript = {}) {
  const refusals: Refusal[] = [];
  const messages: string[] = [];
  const runtime: PurchaseRuntime = {
    client: () => client,
    async nextCandidate(_label, _provider, requirements, refused): Promise<Candidate | null> {
      if (refused) refusals.push(refused);
      const { gpu, gpuCount, diskGib, maxPriceMicroUsdPerHour, interruptible } = requirements;
      const query = { gpu, gpuCount, diskGib, maxPriceMicroUsdPerHour, interruptible };
      const offers = await client.searchOffers(query);
      const isRefused = (id: string) => refusals.some((refusal) => refusal.providerOfferId === id);
      return offers.find((offer) => !isRefused(offer.providerOfferId)) ?? null;
    },
    mayExist: () => script.mayExist ?? false,
    labelFor: (key) => `muster-ext-${key}`,
    assertMaySpend: () => {},
    listLagMs: () => script.listLagMs ?? 0,
    deploymentSshPublicKeys: () => script.deploymentKeys ?? [],
    signal: () => new AbortController().signal,
    progress: (_label, message) => void messages.push(message),
    crashPoint: () => {},
  };
  return { runtime, refusals, messages };
}
