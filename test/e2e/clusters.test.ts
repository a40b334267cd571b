/** A cluster through the whole program: real processes, the real engine, simulated clouds, and a Kubernetes API that really answers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Sandbox } from '../../sandbox/server.ts';
import type { Loose } from '../support/api-server.ts';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor, type MusterProcess } from '../support/muster-process.ts';
import { listStates, readStateText } from '../support/state-client.ts';

const BOUND_MS = 240_000;
const KINDS = [
  {
    kind: 'eks',
    body: {
      region: 'eu-west-1',
      kubernetesVersion: '1.34',
      gpuNodeGroups: [
        { instanceType: 'g5.xlarge', minSize: 0, maxSize: 4, desiredSize: 2, capacityType: 'spot', autoscaled: true },
      ],
      config: { gpuOperator: {} },
    },
    gpus: [{ hardwareType: 'cuda', gpuModel: 'NVIDIA-A10G', nodes: 2, gpus: 2 }],
  },
  {
    kind: 'aks',
    body: {
      location: 'eastus',
      gpuNodePools: [{ vmSize: 'Standard_NC48ads_A100_v4', maxCount: 2, count: 1 }],
      config: { gpuOperator: {} },
    },
    gpus: [{ hardwareType: 'cuda', gpuModel: 'NVIDIA-A100-80GB-PCIe', nodes: 1, gpus: 2 }],
  },
];

describe('a cluster of the whole program', () => {
  let lab: MusterLab;
  let sandbox: Sandbox;
  let muster: MusterProcess;

  beforeAll(async () => {
    lab = await openMusterLab({ clouds: 'none' });
    ({ sandbox, muster } = lab);
  }, BOUND_MS);
  afterAll(() => lab?.close());

  const get = async (path: string): Promise<Loose> => (await muster.request<Loose>('GET', `/api/v1${path}`)).body;

  async function untilCluster(id: string, status: string): Promise<Loose> {
    let seen: Loose;
    await waitFor(async () => {
      seen = await get(`/clusters/${id}`);
      if (seen.status === 'failed') throw new Error(seen.failure.detail);
      return seen.status === status;
    }, BOUND_MS).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(seen)}`);
    });
    return seen;
  }

  async function ended(operation: Loose): Promise<Loose> {
    let seen: Loose;
    await waitFor(async () => {
      seen = await get(`/operations/${operation.id}`);
      return ['succeeded', 'failed', 'canceled'].includes(seen.status);
    }, BOUND_MS);
    expect(seen, JSON.stringify(seen)).toMatchObject({ status: 'succeeded' });
    return seen;
  }
  const post = async (path: string) => muster.request<Loose>('POST', `/api/v1${path}`, {});

  /** All of it, at Azure's own wire; what is in it is not taken for gone meanwhile, nor for changed afterwards. */
  async function stopAndStart(id: string, stackId: string): Promise<void> {
    const before = (await get(`/clusters/${id}`)).priceMicroUsdPerHour;
    const { resourceCount } = await get(`/stacks/${stackId}`);
    await ended((await post(`/clusters/${id}/stop`)).body.operation);
    expect(await get(`/clusters/${id}`)).toMatchObject({ status: 'stopped', isStopped: true });
    expect((await get(`/clusters/${id}`)).priceMicroUsdPerHour).toBeLessThan(before);
    for (const update of ['up', 'refresh', 'preview'])
      expect((await post(`/stacks/${stackId}/${update}`)).status, update).toBe(409);
    await ended((await post(`/clusters/${id}/start`)).body.operation);
    await untilCluster(id, 'available');
    const refreshed = await ended((await post(`/stacks/${stackId}/refresh`)).body.operation);
    expect(refreshed.note).toBe('0 resources had changed');
    expect(await get(`/stacks/${stackId}`)).toMatchObject({ resourceCount, priceMicroUsdPerHour: before });
  }

  /** A number that is asked for is set once; what its autoscaler makes of it later is left alone. */
  async function scaleBesideAutoscaler(id: string, stackId: string): Promise<void> {
    const type = 'aws:eks/nodeGroup:NodeGroup';
    const group = () =>
      sandbox.clouds?.resources(type).find(({ logicalName }) => logicalName === 'train-eks-gpu-1')?.properties as Loose;
    const order = { nodeGroup: 'gpu-1', minSize: 1, maxSize: 6, desiredSize: 4 };
    const scaled = await muster.request<Loose>('POST', `/api/v1/clusters/${id}/scale`, order);
    expect(scaled.status, JSON.stringify(scaled.body)).toBe(202);
    await ended(scaled.body.operation);
    expect(group().scalingConfig).toEqual({ minSize: 1, maxSize: 6, desiredSize: 4 });
    sandbox.clouds?.drift({ type, name: 'train-eks-gpu-1', changes: { 'scalingConfig.desiredSize': 2 } });
    await ended((await post(`/stacks/${stackId}/up`)).body.operation);
    expect(group().scalingConfig).toEqual({ minSize: 1, maxSize: 6, desiredSize: 2 });
  }

  it.each(KINDS)(
    '$kind is made as its dry run showed, looked into, opened and destroyed',
    async ({ kind, body, gpus }) => {
      const request = { kind, name: `train-${kind}`, ...body, protect: false };
      const plan = await muster.request<Loose>('POST', '/api/v1/clusters', { ...request, dryRun: true });
      expect(plan.status, JSON.stringify(plan.body)).toBe(200);
      expect(plan.body.changes.length).toBeGreaterThan(5);
      expect(plan.body.priceMicroUsdPerHour > 0 || plan.body.unpriced.length > 0).toBe(true);
      expect(sandbox.clouds?.resources()).toEqual([]);
      const { planHash } = plan.body;
      const made = await muster.request<Loose>('POST', '/api/v1/clusters', { ...request, planHash });
      expect(made.status, JSON.stringify(made.body)).toBe(202);
      const { id, stackId } = made.body.cluster;
      const cluster = await untilCluster(id, 'available');
      expect(cluster).toMatchObject({ platform: kind, nodes: { withUnknownGpuCount: 0, accelerators: gpus } });

      const { kubeconfig, expiresAt } = await get(`/clusters/${id}/kubeconfig`);
      expect(JSON.parse(kubeconfig).users[0].user).toEqual({ token: 'sandbox' });
      expect(expiresAt).not.toBeNull();
      // The stack's own output stays a secret wherever it is shown or kept.
      expect((await get(`/stacks/${stackId}/outputs`)).outputs.kubeconfig).toBe('[secret]');
      const server = cluster.endpoint as string;
      const states = await listStates(muster.url);
      expect(states).not.toEqual([]);
      for (const name of states) expect(await readStateText(muster.url, name)).not.toContain('current-context');
      expect(server).toMatch(/^https:\/\/127\.0\.0\.1:\d+\/clusters\//);
      expect(muster.output()).not.toContain('current-context');

      if (kind === 'aks') await stopAndStart(id, stackId);
      else await scaleBesideAutoscaler(id, stackId);

      const destroyed = await muster.request<Loose>('DELETE', `/api/v1/clusters/${id}`);
      expect(destroyed.status).toBe(202);
      await untilCluster(id, 'destroyed');
      expect(sandbox.clouds?.resources()).toEqual([]);
    },
    3 * BOUND_MS,
  );
});
