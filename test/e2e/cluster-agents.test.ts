/** Agents on the nodes of a cluster that Muster makes: the real program, engine and agent; simulated clouds and Kubernetes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAgentRunner, type AgentRunner } from '../../sandbox/agent/agent-runner.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import type { Loose } from '../support/api-server.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from '../support/muster-process.ts';

const BOUND_MS = 90_000;

let dir: string;
let agents: AgentRunner;
let sandbox: Sandbox;
let muster: MusterProcess;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'muster-cluster-agents-'));
  agents = createAgentRunner(join(dir, 'agents'));
  const sandboxPort = await findFreePort(10);
  const parts = { machineWatch: agents, nodeAgents: agents, clouds: 'none' } as const;
  sandbox = await startSandbox({ port: sandboxPort, dir: join(dir, 'sandbox'), ...parts });
  muster = await createMusterProcess({
    dataDir: join(dir, 'data'),
    sandboxPort,
    env: { MUSTER_AGENT: 'on', MUSTER_AGENT_INTERVAL: '1 seconds' },
  });
  await muster.start();
  await waitFor(async () => (await muster.request('GET', '/ready')).status === 200, BOUND_MS);
}, BOUND_MS);
afterAll(async () => {
  await muster?.kill('SIGTERM');
  agents?.close();
  await sandbox?.close();
  rmSync(dir, { recursive: true, force: true });
});

const get = async (path: string): Promise<Loose> => (await muster.request<Loose>('GET', `/api/v1${path}`)).body;

describe('a cluster with node agents', () => {
  it(
    'has a real agent on each GPU node, NVIDIA and Gaudi, joined by what the cluster says; they go with their nodes',
    async () => {
      const made = await muster.request<Loose>('POST', '/api/v1/clusters', {
        kind: 'eks',
        name: 'train',
        region: 'us-east-1',
        gpuNodeGroups: [
          { instanceType: 'g5.xlarge', maxSize: 4, desiredSize: 2 },
          { instanceType: 'dl1.24xlarge', maxSize: 1, desiredSize: 1 },
        ],
        // The table of prices and types has no Gaudi.
        config: { checkCatalogue: false, nodeAgent: { image: 'muster/agent:1', controlPlaneUrl: muster.url } },
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
      const plan = (await muster.request<Loose>('POST', `/api/v1/stacks/${stackId}/preview`)).body;
      expect(plan).toMatchObject({ changes: [] });
      const token = sandbox.clouds?.resources('kubernetes:core/v1:Secret')[0]?.properties['stringData'] as Loose;
      expect(token.token).toMatch(/^mn_/);
      const found = execFileSync(
        'sh',
        ['-c', `grep -rlF -e "$0" ${join(dir, 'data', 'engine')} || true`, token.token],
        {
          encoding: 'utf8',
        },
      );
      expect(found).toBe('');
      for (const path of [`/stacks/${stackId}`, `/stacks/${stackId}/outputs`, `/stacks/${stackId}/history`])
        expect(JSON.stringify(await get(path)), path).not.toContain(token.token);
      expect(muster.output()).not.toContain(token.token);

      const destroyed = await muster.request<Loose>('DELETE', `/api/v1/clusters/${id}`);
      expect(destroyed.status).toBe(202);
      await waitFor(async () => (await get(`/clusters/${id}`)).status === 'destroyed', BOUND_MS, 'destroyed');
      expect((await nodes()).map(({ status }) => status)).toEqual(['gone', 'gone', 'gone']);
      await waitFor(() => agents.running().length === 0, BOUND_MS, 'no agent runs');
    },
    2 * BOUND_MS,
  );
});
