/** Starting and stopping a whole AKS cluster, as Azure's resource manager does: it takes minutes, and nothing else is taken meanwhile. */
import type { CloudResource, CloudStore } from '../cloud-store.ts';
import { durationMs, type CloudTimings } from '../cloud-time.ts';
import { objectOf } from '../properties.ts';
import { createRandom } from '../../random.ts';

export interface ArmAnswer {
  status: number;
  error: { code: string; message: string } | null;
}

const CLUSTER = 'azure-native:containerservice:ManagedCluster';
const SECONDS = [180, 600] as const;

export function switchManagedCluster(
  armId: string,
  to: 'start' | 'stop',
  { store, now, timings, seed }: { store: CloudStore; now: number; timings: CloudTimings; seed: number },
): ArmAnswer | null {
  const cluster = store.ofType(CLUSTER).find(({ id }) => id.toLowerCase() === armId.toLowerCase());
  if (!cluster) return null;
  const name = cluster.id.split('/').at(-1)!;
  const busy = [cluster, ...poolsOf(store, cluster)].find(({ transition }) => transition !== null);
  if (busy) {
    const message = `Operation is not allowed because there's an in progress ${busy.transition!.operation} operation on the managed cluster ${name}. Please wait for it to finish before starting a new operation.`;
    return { status: 409, error: { code: 'OperationNotAllowed', message } };
  }
  const code = to === 'stop' ? 'Stopped' : 'Running';
  if (objectOf(cluster.outputs.powerState).code === code) return { status: 204, error: null };
  store.put({
    ...cluster,
    // Its API goes first and comes last.
    outputs: {
      ...cluster.outputs,
      provisioningState: to === 'stop' ? 'Stopping' : 'Starting',
      ...(to === 'stop' ? { powerState: { code } } : {}),
    },
    transition: {
      operation: to,
      untilMs: now + durationMs(timings, SECONDS, createRandom(seed, `${to} ${cluster.id}`)),
      outputs: { provisioningState: 'Succeeded', powerState: { code } },
    },
  });
  return { status: 202, error: null };
}

function poolsOf(store: CloudStore, { id }: CloudResource): CloudResource[] {
  const pools = store.ofType('azure-native:containerservice:AgentPool');
  return pools.filter((pool) => pool.id.toLowerCase().startsWith(`${id.toLowerCase()}/agentpools/`));
}
