/**
 * The dynamic resource of one k3s server or agent on a host of ours. Create and update are the same "ensure"; a host that cannot be
 * reached is never taken for one without k3s.
 */
import { hostId } from '../../domain/on-prem-host.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { keepingShim, PartialFailure, type DynamicCrud, type Properties } from '../dynamic-crud.ts';
import type { HostRuntime } from '../host-runtime.ts';
import { withHost, type HostClient } from '../ssh-host/client.ts';
import { HOST_TIMINGS, type HostTimings } from '../ssh-host/connection.ts';
import { orForget } from '../ssh-host/crud.ts';
import { installK3s, lookAtK3s, removeK3s } from './client.ts';
import { checkK3s, configOf, diffK3s, k3sOutputs, reachableKubeconfig, type K3sOutputs } from './properties.ts';

export interface K3sTimings extends HostTimings {
  /** How long a server may take to be ready, and an agent to have joined. */
  readySeconds: number;
}

export const K3S_TIMINGS: K3sTimings = { ...HOST_TIMINGS, readySeconds: 180 };

export function createK3sNodeCrud(runtime: HostRuntime, timings: K3sTimings = K3S_TIMINGS): DynamicCrud {
  return {
    check: (_olds, news) => Promise.resolve(checkK3s(news)),
    diff: (_id, olds, news) => Promise.resolve(diffK3s(olds, news)),
    async create(inputs) {
      const outputs = k3sOutputs(inputs);
      return { id: hostId(outputs), outs: await keepingShim(inputs, ensureK3s(runtime, outputs, timings)) };
    },
    async read(id, props) {
      const known = k3sOutputs(props, props);
      const seen = await withHost(runtime, known, timings, (client) => look(client, known));
      // Where k3s is stopped its secrets are what they were.
      return {
        id,
        props: {
          ...seen,
          nodeToken: seen.nodeToken ?? known.nodeToken,
          kubeconfig: seen.kubeconfig ?? known.kubeconfig,
        },
      };
    },
    async update(_id, olds, news) {
      return { outs: await keepingShim(news, ensureK3s(runtime, k3sOutputs(news, olds), timings)) };
    },
    async delete(_id, props) {
      const known = k3sOutputs(props, props);
      await orForget(runtime, known, () => withHost(runtime, known, timings, (client) => removeK3s(client, known)));
    },
  };
}

/** From the first change on, every failure is a PartialFailure: what is half done stays in the state. */
async function ensureK3s(runtime: HostRuntime, wanted: K3sOutputs, timings: K3sTimings): Promise<Properties> {
  let outputs = wanted;
  let isTouched = false;
  try {
    await withHost(runtime, wanted, timings, async (client) => {
      outputs = await look(client, wanted);
      isTouched = true;
      await installK3s(client, { ...wanted, config: configOf(wanted), readySeconds: timings.readySeconds });
      outputs = await look(client, wanted);
      if (outputs.state !== 'running')
        throw new ProviderError('retryable', `k3s on ${hostId(wanted)} is ${outputs.state} after its installation`);
    });
  } catch (error) {
    if (!isTouched) throw error;
    throw new PartialFailure(hostId(wanted), { ...outputs }, error);
  }
  return { ...outputs };
}

async function look(client: HostClient, known: K3sOutputs): Promise<K3sOutputs> {
  const seen = await lookAtK3s(client, known);
  return {
    ...known,
    ...seen,
    kubeconfig: seen.kubeconfig === null ? null : reachableKubeconfig(seen.kubeconfig, known),
  };
}
