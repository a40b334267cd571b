/** An operator's calls about clusters of a cluster server, and bodies that are accepted. */
import { expect } from 'vitest';
import { findOperation } from '../../db/operations.ts';
import { makeEksGpuNode, makeSystemNode } from '../../sandbox/kubernetes-api/nodes.ts';
import type { Loose, Reply } from './api-server.ts';
import type { ClusterServer } from './cluster-server.ts';
import { until } from './fleet-database.ts';

/** Paths are those under /api/v1; `as` is another's key. */
export interface ClusterCaller {
  key: string;
  orgId: string;
  post(path: string, body?: unknown, headers?: Record<string, string>, as?: string): Promise<Reply>;
  get(path: string, as?: string): Promise<Reply>;
  remove(path: string, as?: string): Promise<Reply>;
  /** The operation's row. */
  untilEnded(operationId: string): Promise<Loose>;
  /** A simulated cluster, registered by its name. */
  registered(name: string): Promise<Loose>;
  /** A cluster of a stack, once its up has ended in one way or another. */
  made(body: Loose): Promise<Loose>;
}

export async function createClusterCaller(server: ClusterServer): Promise<ClusterCaller> {
  const { key, orgId } = await server.makeKey('operator');
  const caller: ClusterCaller = {
    key,
    orgId,
    post: (path, body = {}, headers = {}, as = key) =>
      server.call('POST', `/api/v1${path}`, { key: as, body, headers }),
    get: (path, as = key) => server.call('GET', `/api/v1${path}`, { key: as }),
    remove: (path, as = key) => server.call('DELETE', `/api/v1${path}`, { key: as }),
    untilEnded: (operationId) =>
      until(async () => {
        // Not through the API: hundreds of calls a second are no wait.
        const row = await findOperation(server.database.kysely, null, operationId);
        return row?.finished_at != null && row;
      }, `${operationId} has ended`),
    async registered(name) {
      server.simulate(name, { nodes: makeNodes() });
      const kubeconfig = server.kubernetes.kubeconfigOf(name);
      const reply = await caller.post('/clusters', { kind: 'registered', name, kubeconfig });
      expect(reply.status).toBe(202);
      return reply.body.cluster;
    },
    async made(body) {
      const { body: accepted } = await caller.post('/clusters', body);
      await caller.untilEnded(accepted.operation.id);
      return (await caller.get(`/clusters/${accepted.cluster.id}`)).body;
    },
  };
  return caller;
}

/** One with a GPU and one without. */
export function makeNodes() {
  return [makeSystemNode('sys'), makeEksGpuNode('gpu')];
}

let serial = 0;

export function eksBody(change: object = {}): Loose {
  return {
    kind: 'eks',
    name: `eks-${++serial}`,
    region: 'eu-west-1',
    kubernetesVersion: '1.34',
    gpuNodeGroups: [{ instanceType: 'g5.xlarge', minSize: 0, maxSize: 4, desiredSize: 1, capacityType: 'spot' }],
    ceilingUsdPerHour: '12.00',
    ...change,
  };
}

export function aksBody(change: object = {}): Loose {
  return {
    kind: 'aks',
    name: `aks-${++serial}`,
    location: 'swedencentral',
    gpuNodePools: [{ vmSize: 'Standard_NC24ads_A100_v4', maxCount: 2 }],
    protect: false,
    ...change,
  };
}
