/** The proof of a live run: the vendors themselves are asked, past the control plane and its records. */
import type { Instance } from '../../api/contract/instances.ts';
import { createProviderClient } from '../../providers-dynamic/provider-clients.ts';
import { createRateLimiter } from '../../providers-dynamic/rate-limiter.ts';
import type { LiveOrder } from './live-order.ts';

const ASK_MS = 120_000;

/**
 * What may still exist: machines that the run bought and the vendor still knows by their id, and any in the account with a label of this
 * run. Empty: proven gone. Throws where a vendor cannot be asked.
 */
export async function findLeft(order: LiveOrder, instances: readonly Instance[]): Promise<string[]> {
  const left: string[] = [];
  for (const [provider, { apiKey, baseUrl, rateLimits }] of order.providers) {
    const client = createProviderClient(provider, { apiKey, baseUrl }, createRateLimiter({ [provider]: rateLimits }));
    const signal = AbortSignal.timeout(ASK_MS);
    for (const attempt of instances.flatMap((instance) => instance.attempts)) {
      if (attempt.provider !== provider || attempt.providerInstanceId === null) continue;
      if ((await client.readInstance(attempt.providerInstanceId, signal)) !== null) {
        left.push(`${provider} still knows ${attempt.providerInstanceId}`);
      }
    }
    for (const { providerInstanceId, label } of await client.listInstances(signal)) {
      if (label?.startsWith(`muster-${order.deploymentId}-`)) left.push(`${provider} lists ${providerInstanceId}`);
    }
  }
  return left;
}
