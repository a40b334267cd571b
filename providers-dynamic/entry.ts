/**
 * What the stored shims call, by the name `dynamicCrud`; it must keep working for texts stored long ago. Under the control plane
 * the operation child sets its runtime first; otherwise (plain `pulumi up`, in Pulumi's own plugin process) one is made from
 * the environment of that process at the first call. Credentials come from there only, never from stack config, which
 * goes to every dynamic provider's state.
 */
import type { ProviderName } from '../domain/provider.ts';
import type { DynamicCrud } from './dynamic-crud.ts';
import type { PurchaseRuntime } from './purchase-runtime.ts';
import { createRateLimiter } from './rate-limiter.ts';
import { createStandaloneRuntime } from './standalone-runtime.ts';
import { readStandaloneSettings } from './standalone-settings.ts';
import { createVastaiClient } from './vastai/client.ts';
import { createVastaiCrud } from './vastai/crud.ts';

let runtime: PurchaseRuntime | undefined;

/** From now on every dynamic resource of this process buys through `next`. */
export function setPurchaseRuntime(next: PurchaseRuntime): void {
  runtime = next;
}

/** Throws Error where there is no runtime and the environment makes none. */
export function dynamicCrud(provider: ProviderName): DynamicCrud {
  runtime ??= makeStandaloneRuntime();
  switch (provider) {
    case 'vastai':
      return createVastaiCrud(runtime);
  }
}

function makeStandaloneRuntime(): PurchaseRuntime {
  const { vastai } = readStandaloneSettings(process.env);
  const client = createVastaiClient(vastai, createRateLimiter({ vastai: vastai.rateLimits }));
  return createStandaloneRuntime({ client: () => client, listLagMs: vastai.listLagMs });
}
