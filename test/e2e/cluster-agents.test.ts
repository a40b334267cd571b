/** Agents on the nodes of a cluster that Muster makes: the real program, engine and agent; simulated clouds and Kubernetes. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../support/api-server.ts';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor } from '../support/muster-process.ts';

const BOUND_MS = 240_000;

let lab: MusterLab;
beforeAll(async () => {
  lab = await openMusterLab({
    clouds: 'none',
    hasNodeAgents: true,
    env: { MUSTER_AGENT: 'on', MUSTER_AGENT_INTERVAL: '1 seconds' },
  });
}, BOUND_MS);
afterAll(() => lab?.close());

const get = async (path: string): Promise<Loose> => (await lab.muster.request<Loose>('GET', `/api/v1${path}`)).body;

describe('a cluster with node agents', () => {
  it(
    'has a real agent on each GPU node, NVIDIA and Gaudi, joined by what the cluster says; they go with their nodes',
    async () => {
      const made = await lab.muster.request<Loose>('POST', '/api/v1/clusters', {
        kind: 'eks',
        name: 'train',
        region: 'us-east-1',
        gpuNodeGroups: [
          { instanceType: 'g5.xlarge', maxSize: 4, desiredSize: 2 },
          { instanceType: 'dl1.24xlarge', maxSize: 1, desiredSize: 1 },
        ],
        // The table of prices and types has no Gaudi.
        config: { checkCatalogue: false, nodeAgent: { image: 'muster/agent:1', controlPlaneUrl: lab.muster.url } },
        protect: false,
      });
      expect(made.status, JSON.stringify(made.body)).toBe(202);
      const { id, stackId } = made.body.cluster;
      const nodes = async (): Promise<Loose[]> => (await get(`/nodes?clusterId=${id}`)).items;
      const isDone = async () => {
        const { status, failure } = await get(`/clusters/${id}`);
        if (status === 'failed') throw new Error(failure.detail);
        const found = await nodes();
        return found.length === 3 && found.every(({ status, health }) => status === 'online' && health === 'healthy');
      };
      await waitFor(isDone, BOUND_MS, 'three healthy nodes');

      await waitFor(async () => (await get(`/clusters/${id}`)).status === 'available', BOUND_MS, 'available');
      const { items } = await get(`/clusters/${id}/nodes`);
      const withAgents = (items as Loose[]).filter(({ agent }) => agent !== null);
      const seen = withAgents.map(({ agent }) => `${agent.hardwareType} ${agent.gpuCount} ${agent.gpuModels.join()}`);
      expect(seen.sort((a, b) => a.localeCompare(b))).toEqual([
        'cuda 1 NVIDIA A10G',
        'cuda 1 NVIDIA A10G',
        'hpu 8 GAUDI',
      ]);
      expect(items.find(({ name }: Loose) => name.startsWith('ip-system')).agent).toBeNull();

      // Nothing has to change, and the token stands in no row, plan or output in clear.
      const plan = (await lab.muster.request<Loose>('POST', `/api/v1/stacks/${stackId}/preview`)).body;
      expect(plan).toMatchObject({ changes: [] });
      const token = lab.sandbox.clouds?.resources('kubernetes:core/v1:Secret')[0]?.properties['stringData'] as Loose;
      expect(token.token).toMatch(/^mn_/);
      const found = execFileSync(
        'sh',
        ['-c', `grep -rlF -e "$0" ${join(lab.dir, 'data', 'engine')} || true`, token.token],
        {
          encoding: 'utf8',
        },
      );
      expect(found).toBe('');
      for (const path of [`/stacks/${stackId}`, `/stacks/${stackId}/outputs`, `/stacks/${stackId}/history`])
        expect(JSON.stringify(await get(path)), path).not.toContain(token.token);
      expect(lab.muster.output()).not.toContain(token.token);

      const destroyed = await lab.muster.request<Loose>('DELETE', `/api/v1/clusters/${id}`);
      expect(destroyed.status).toBe(202);
      await waitFor(async () => (await get(`/clusters/${id}`)).status === 'destroyed', BOUND_MS, 'destroyed');
      expect((await nodes()).map(({ status }) => status)).toEqual(['gone', 'gone', 'gone']);
      await waitFor(() => lab.agents.running().length === 0, BOUND_MS, 'no agent runs');
    },
    2 * BOUND_MS,
  );
});
