/**
 * What the stored shims call, by the name `dynamicCrud`; it must keep working for texts stored long ago. Under the control plane
 * the operation child sets its runtime first; otherwise (plain `pulumi up`, in Pulumi's own plugin process) one is made from
 * the environment of that process at the first call. Credentials come from there only, never from stack config, which
 * goes to every dynamic provider's state.
 */
import type { ProviderName } from '../domain/provider.ts';
import { HOST_CRUD_NAMES, type CrudName, type DynamicCrud, type HostCrudName } from './dynamic-crud.ts';
import type { HostRuntime } from './host-runtime.ts';
import { createK3sNodeCrud } from './k3s/crud.ts';
import type { PurchaseRuntime } from './purchase-runtime.ts';
import { createRateLimiter } from './rate-limiter.ts';
import { createSshHostCrud } from './ssh-host/crud.ts';
import { createStandbyAgentCrud } from './standby-agent/crud.ts';
import { createStandaloneHostRuntime } from './standalone-host-runtime.ts';
import { createStandaloneRuntime } from './standalone-runtime.ts';
import type { ProviderClient } from './provider-client.ts';
import { createProviderClient } from './provider-clients.ts';
import { readStandaloneSettings, type StandaloneProvider } from './standalone-settings.ts';
import { createLambdaCrud } from './lambda/crud.ts';
import { createRunpodCrud } from './runpod/crud.ts';
import { createTensordockCrud } from './tensordock/crud.ts';
import { createVastaiCrud } from './vastai/crud.ts';

const CRUDS: Record<ProviderName, (runtime: PurchaseRuntime) => DynamicCrud> = {
  vastai: createVastaiCrud,
  tensordock: createTensordockCrud,
  runpod: createRunpodCrud,
  lambda: createLambdaCrud,
};

const HOST_CRUDS: Record<HostCrudName, (runtime: HostRuntime) => DynamicCrud> = {
  ssh_host: createSshHostCrud,
  k3s_node: createK3sNodeCrud,
  standby_agent: createStandbyAgentCrud,
};

let runtime: PurchaseRuntime | undefined;
let hostRuntime: HostRuntime | undefined;

/** From now on every dynamic resource of this process buys through `next`. */
export function setPurchaseRuntime(next: PurchaseRuntime): void {
  runtime = next;
}

/** From now on every resource on hosts of ours works through `next`. */
export function setHostRuntime(next: HostRuntime): void {
  hostRuntime = next;
}

/** Throws Error where there is no runtime and the environment makes none. */
export function dynamicCrud(provider: CrudName): DynamicCrud {
  if (isHostCrud(provider)) {
    hostRuntime ??= createStandaloneHostRuntime(process.env);
    return HOST_CRUDS[provider](hostRuntime);
  }
  runtime ??= makeStandaloneRuntime();
  return CRUDS[provider](runtime);
}

function isHostCrud(name: CrudName): name is HostCrudName {
  return (HOST_CRUD_NAMES as readonly string[]).includes(name);
}

/** Settings are read when a provider is first used: a key that is missing for another one is nobody's trouble. */
function makeStandaloneRuntime(): PurchaseRuntime {
  const settings = new Map<ProviderName, StandaloneProvider>();
  const clients = new Map<ProviderName, ProviderClient>();
  const settingsOf = (provider: ProviderName): StandaloneProvider => {
    const known = settings.get(provider) ?? readStandaloneSettings(process.env, provider);
    settings.set(provider, known);
    return known;
  };
  return createStandaloneRuntime({
    client(provider) {
      const known = settingsOf(provider);
      const client =
        clients.get(provider) ??
        createProviderClient(provider, known, createRateLimiter({ [provider]: known.rateLimits }));
      clients.set(provider, client);
      return client;
    },
    listLagMs: (provider) => settingsOf(provider).listLagMs,
  });
}
