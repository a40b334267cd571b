/** The purchase runtime of an operation child: candidates, call spacing and the right to spend are the worker's to give. */
import { ProviderError } from '../../../domain/provider-error.ts';
import type { ProviderName } from '../../../domain/provider.ts';
import type { ProviderClient, RateLimiter } from '../../../providers-dynamic/provider-client.ts';
import type { PurchaseRuntime } from '../../../providers-dynamic/purchase-runtime.ts';
import { createProviderClient } from '../../../providers-dynamic/provider-clients.ts';
import { standaloneLabel } from '../../../providers-dynamic/standalone-runtime.ts';
import { crashPoint } from '../../crash-point.ts';
import type { ChildSettings } from '../protocol.ts';
import type { RunContext } from './run.ts';

/** A purchase is not begun with less of the lease left than this: its call should end while the lease lasts. */
const SPEND_MARGIN_MS = 1_000;

export function createChildRuntime(context: RunContext, signal: AbortSignal) {
  const { request, settings, ask } = context;
  const mayExist = new Set(request.mayExist);
  let leaseEndsAt = performance.now() + 10_000;
  const limiter: RateLimiter = {
    acquire: async (provider, endpoint, abort) => void (await ask('acquire', { provider, endpoint }, abort)),
    slowDown: async (provider, endpoint, forMs) => void (await ask('slowDown', { provider, endpoint, forMs })),
  };
  const clients = new Map<ProviderName, ProviderClient>();

  const runtime: PurchaseRuntime = {
    client(provider) {
      const made = clients.get(provider) ?? createClient(provider, settings, limiter);
      clients.set(provider, made);
      return made;
    },
    async nextCandidate(label, _provider, _requirements, refused, abort) {
      const answer = await ask('nextCandidate', { label, refused }, abort);
      return answer && { ...answer, priceMicroUsdPerHour: BigInt(answer.priceMicroUsdPerHour) };
    },
    mayExist: (label) => mayExist.has(label),
    // Attempts have theirs: this is of what a person's CLI rented into the stack.
    labelFor: standaloneLabel,
    assertMaySpend() {
      if (signal.aborted) throw new ProviderError('canceled', 'canceled before the purchase');
      if (performance.now() + SPEND_MARGIN_MS > leaseEndsAt)
        throw new ProviderError('canceled', 'the lease is over: nothing may be bought');
    },
    listLagMs: (provider) => settings.providers[provider]?.listLagMs ?? 15_000,
    deploymentSshPublicKeys: () => request.deploymentSshPublicKeys,
    signal: () => signal,
    progress: (label, message) =>
      context.send({ type: 'progress', runId: request.runId, message: `${label}: ${message}` }),
    crashPoint,
  };
  return {
    runtime,
    extendLease(validForMs: number) {
      leaseEndsAt = performance.now() + validForMs;
    },
  };
}

function createClient(provider: ProviderName, settings: ChildSettings, limiter: RateLimiter): ProviderClient {
  const account = settings.providers[provider];
  if (!account) throw new ProviderError('auth', `provider ${provider} is off: it has no key`);
  return createProviderClient(provider, { apiKey: account.apiKey, baseUrl: account.baseUrl }, limiter);
}
