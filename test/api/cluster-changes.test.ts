/** Changes of clusters that were made at a cloud: scaled, upgraded, stopped and started. The engine is scripted. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findOperation } from '../../db/operations.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { REQUIRED_TAGS } from '../../domain/stack-tags.ts';
import { aksBody, createClusterCaller, eksBody, type ClusterCaller } from '../support/cluster-caller.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';
import { until } from '../support/fleet-database.ts';
import { makeStackResource, makeStep } from '../support/scripted-stack-runner.ts';

const tags = Object.fromEntries(REQUIRED_TAGS.map((tag) => [tag, 'x']));
const NAT = 'aws:ec2/natGateway:NatGateway';

let server: ClusterServer;
let caller: ClusterCaller;
beforeAll(async () => {
  server = await startClusterServer();
  caller = await createClusterCaller(server);
});
afterAll(() => server.stop());

const ARM_ID =
  '/subscriptions/s/resourceGroups/train-aks/providers/Microsoft.ContainerService/managedClusters/train-aks';

/** A managed cluster that runs, as Azure's resource manager tells of it. */
function simulateAzure() {
  const azure = { power: 'running', state: 'Succeeded', busy: null as string | null, fails: false, asked: 0 };
  server.services.azure = {
    readCluster: (armId) => {
      expect(armId).toBe(ARM_ID);
      const seen = { power: azure.power as 'running', provisioningState: azure.state };
      // What was under way is done with the next look.
      if (azure.state.endsWith('ing')) azure.state = azure.fails ? 'Failed' : 'Succeeded';
      return Promise.resolve(seen);
    },
    switchPower: (_armId, to) => {
      azure.asked++;
      if (azure.busy !== null) return Promise.resolve({ busy: azure.busy });
      azure.state = to === 'stopped' ? 'Stopping' : 'Starting';
      if (!azure.fails) azure.power = to;
      return Promise.resolve('taken');
    },
  };
  return azure;
}

describe('a cluster made at a cloud', () => {
  it('is scaled by its stack: sizes and names are checked first', async () => {
    const cluster = await caller.made(eksBody());
    const scale = (body: object) => caller.post(`/clusters/${cluster.id}/scale`, body);
    expect(await scale({ nodeGroup: 'gpu-9', maxSize: 2 })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'nodeGroup' }] },
    });
    expect(await scale({ nodeGroup: 'gpu-1', desiredSize: 9 })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'desiredSize' }] },
    });
    expect(await scale({ nodeGroup: 'gpu-1', minSize: 5 })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'minSize' }] },
    });
    expect((await scale({ nodeGroup: 'gpu-1' })).status).toBe(422);
    const accepted = await scale({ nodeGroup: 'gpu-1', minSize: 2, maxSize: 8 });
    expect(accepted).toMatchObject({ status: 202, body: { operation: { kind: 'up_stack' } } });
    await caller.untilEnded(accepted.body.operation.id);
    const { config } = (await caller.get(`/stacks/${cluster.stackId}`)).body;
    expect(config.gpuNodeGroups).toMatchObject([{ name: 'gpu-1', minSize: 2, maxSize: 8, desiredSize: 2 }]);
  });

  it('shows what a change would cost, changes nothing by it, and does exactly that with its planHash', async () => {
    const cluster = await caller.made(eksBody());
    const scale = (body: object) =>
      caller.post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', maxSize: 8, ...body });
    const config = async () => (await caller.get(`/stacks/${cluster.stackId}`)).body.config.gpuNodeGroups[0].maxSize;
    server.runner.steps = [makeStep(NAT, 'nat', 'create', { tags })];
    const plan = await scale({ dryRun: true });
    expect(plan).toMatchObject({
      status: 200,
      body: { changes: [{ op: 'create', name: 'nat' }], priceMicroUsdPerHour: 48_000, violations: [] },
    });
    expect(server.runner.ran.at(-1)?.request.program?.args).toMatchObject({
      config: { gpuNodeGroups: [{ name: 'gpu-1', maxSize: 8 }] },
    });
    expect(await config()).toBe(4);
    expect(await scale({ planHash: 'f'.repeat(64) })).toMatchObject({ status: 409, body: { code: 'plan_changed' } });
    server.runner.steps = [makeStep(NAT, 'other', 'create', { tags })];
    const stale = await scale({ planHash: plan.body.planHash });
    const refused = await caller.untilEnded(stale.body.operation.id);
    expect(refused).toMatchObject({ status: 'failed', error_code: 'plan_changed' });
    expect(refused.error_detail).toMatch(/The configuration is as it was before$/);
    expect(await config()).toBe(4);
    server.runner.steps = [makeStep(NAT, 'nat', 'create', { tags })];
    const accepted = await scale({ planHash: plan.body.planHash });
    expect(await caller.untilEnded(accepted.body.operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await config()).toBe(8);
    server.runner.steps = [];
  });

  it('is left as it was by a change that is refused, and keeps one that began, whatever came of it', async () => {
    const cluster = await caller.made(eksBody({ kubernetesVersion: '1.33' }));
    const upgrade = async () =>
      caller.untilEnded(
        (await caller.post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.34' })).body.operation.id,
      );
    const version = async () => (await caller.get(`/stacks/${cluster.stackId}`)).body.config.kubernetesVersion;
    server.runner.steps = [makeStep(NAT, 'nat', 'create', {})];
    expect(await upgrade()).toMatchObject({ status: 'failed', error_code: 'policy_violated' });
    server.runner.steps = [];
    server.runner.outcomes.preview = { isOk: false, error: { kind: 'resource_failed', detail: 'no such version' } };
    expect(await upgrade()).toMatchObject({ status: 'failed', error_code: 'stack_refused' });
    delete server.runner.outcomes.preview;
    server.runner.refusals.up = new ProviderError('invalid', 'an interrupted create has to be decided');
    const unbegun = await upgrade();
    expect(unbegun.error_detail).toMatch(/has to be decided\. The configuration is as it was before$/);
    expect(await version()).toBe('1.33');
    server.runner.outcomes.up = { isOk: false, error: { kind: 'resource_failed', detail: 'quota' } };
    const failed = await upgrade();
    expect(failed.error_detail).toMatch(/quota\. The changed configuration holds: the next up goes on with it/);
    expect(await version()).toBe('1.34');
    delete server.runner.outcomes.up;
    await caller.untilEnded((await caller.post(`/stacks/${cluster.stackId}/up`)).body.operation.id);
    expect((await caller.get(`/stacks/${cluster.stackId}`)).body).toMatchObject({ status: 'up', failure: null });
  });

  it('keeps its configuration while a change of it is under way', async () => {
    const cluster = await caller.made(eksBody());
    server.runner.isHanging = true;
    const first = await caller.post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', maxSize: 5 });
    const patch = (body: object) =>
      server.call('PATCH', `/api/v1/stacks/${cluster.stackId}`, { key: caller.key, body });
    const { config } = (await caller.get(`/stacks/${cluster.stackId}`)).body;
    expect(await patch({ config })).toMatchObject({ status: 409, body: { operationId: first.body.operation.id } });
    expect((await patch({ protect: false })).status).toBe(200);
    server.runner.isHanging = false;
    await caller.post(`/operations/${first.body.operation.id}/cancel`);
    await caller.untilEnded(first.body.operation.id);
    expect((await patch({ config })).status).toBe(200);
  });

  it('with an autoscaler keeps the number that it came to, as long as somebody has seen it', async () => {
    const groups = [{ instanceType: 'g5.xlarge', minSize: 0, maxSize: 4, desiredSize: 1, autoscaled: true }];
    const cluster = await caller.made(eksBody({ gpuNodeGroups: groups }));
    const scale = (body: object) => caller.post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', ...body });
    expect(await scale({ maxSize: 8 })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'desiredSize', message: expect.stringMatching(/nobody has seen its nodes/) }] },
    });
    const nodes = ['gpu-1-a1b2c3', 'gpu-1-a1b2c3', 'gpu-1-a1b2c3', 'system-ffffff'].map((nodeGroup) => ({ nodeGroup }));
    const facts = { nodes: JSON.stringify(nodes), storage_classes: '[]', warnings: '[]' };
    const values = { cluster_id: cluster.id, ...facts, taken_at: new Date() };
    await server.database.kysely.insertInto('cluster_facts').values(values).execute();
    const sizeOf = async () => (await caller.get(`/stacks/${cluster.stackId}`)).body.config.gpuNodeGroups[0];
    for (const [body, size] of [
      [{ maxSize: 8 }, { minSize: 0, maxSize: 8, desiredSize: 3 }],
      [{ minSize: 5 }, { minSize: 5, maxSize: 8, desiredSize: 5 }],
      [{ desiredSize: 7 }, { minSize: 5, maxSize: 8, desiredSize: 7 }],
    ] as const) {
      await caller.untilEnded((await scale(body)).body.operation.id);
      expect(await sizeOf()).toMatchObject(size);
      expect(server.runner.ran.at(-1)).toMatchObject({
        update: 'up',
        request: { program: { args: { resize: ['gpu-1'] } } },
      });
    }
    const dry = await scale({ maxSize: 9, desiredSize: 6, dryRun: true });
    expect(dry.status, JSON.stringify(dry.body)).toBe(200);
    expect(server.runner.ran.at(-1)).toMatchObject({
      update: 'preview',
      request: { program: { args: { resize: ['gpu-1'] } } },
    });
    await caller.untilEnded((await caller.post(`/stacks/${cluster.stackId}/up`)).body.operation.id);
    expect(server.runner.ran.at(-1)?.request.program?.args ?? {}).not.toHaveProperty('resize');
  });

  it('is upgraded one minor at a time', async () => {
    const cluster = await caller.made(eksBody({ kubernetesVersion: '1.33' }));
    const upgrade = (kubernetesVersion: string) =>
      caller.post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion });
    for (const [version, message] of [
      ['1.35', /one minor/],
      ['1.32', /go back/],
      ['1.33', /already/],
    ] as const) {
      const reply = await upgrade(version);
      expect(reply).toMatchObject({ status: 422, body: { errors: [{ path: 'kubernetesVersion' }] } });
      expect(reply.body.errors[0].message).toMatch(message);
    }
    await caller.untilEnded((await upgrade('1.34')).body.operation.id);
    expect((await caller.get(`/stacks/${cluster.stackId}`)).body.config.kubernetesVersion).toBe('1.34');
  });

  it('takes one change at a time', async () => {
    const cluster = await caller.made(eksBody());
    server.runner.isHanging = true;
    const first = await caller.post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', maxSize: 5 });
    const second = await caller.post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.35' });
    expect(second).toMatchObject({ status: 409, body: { code: 'conflict', operationId: first.body.operation.id } });
    server.runner.isHanging = false;
    await caller.post(`/operations/${first.body.operation.id}/cancel`);
    await caller.untilEnded(first.body.operation.id);
  });

  it('is stopped and started as a whole, at AKS only: meanwhile it is not touched, and costs nothing', async () => {
    const eks = await caller.made(eksBody());
    const refused = await caller.post(`/clusters/${eks.id}/stop`);
    expect(refused).toMatchObject({ status: 409, body: { code: 'conflict' } });
    expect(refused.body.detail).toMatch(/EKS cannot stop .* Scale its groups/);
    const azure = simulateAzure();
    const priced = { location: 'swedencentral', sku: { tier: 'Standard' } };
    server.runner.resources = [makeStackResource('azure-native:containerservice:ManagedCluster', 'one', priced)];
    server.runner.outcomes.up = { outputs: { clusterName: 'aks', clusterId: ARM_ID } };
    const aks = await caller.made(aksBody());
    expect(aks).toMatchObject({ kind: 'aks', isStopped: false, priceMicroUsdPerHour: 100_000 });
    expect((await caller.post(`/clusters/${aks.id}/start`)).body.detail).toMatch(/is not stopped/);

    azure.busy = 'OperationNotAllowed: there is an in progress scale operation';
    const stopping = await caller.post(`/clusters/${aks.id}/stop`);
    expect(stopping).toMatchObject({ status: 202, body: { operation: { kind: 'stop_cluster' } } });
    const beside = await caller.post(`/clusters/${aks.id}/scale`, { nodeGroup: 'gpu1', desiredSize: 2 });
    expect(beside).toMatchObject({ status: 409, body: { operationId: stopping.body.operation.id } });
    expect((await caller.post(`/operations/${stopping.body.operation.id}/cancel`)).status).toBe(409);
    await until(async () => {
      const row = await findOperation(server.database.kysely, null, stopping.body.operation.id);
      return /in progress scale/.test(row?.note ?? '');
    }, 'Azure is busy');
    azure.busy = null;
    await caller.untilEnded(stopping.body.operation.id);
    expect(azure.asked).toBeGreaterThan(1);
    const stopped = (await caller.get(`/clusters/${aks.id}`)).body;
    expect(stopped).toMatchObject({ status: 'stopped', isStopped: true, allowedActions: ['start', 'delete'] });
    expect(stopped.priceMicroUsdPerHour).toBe(0);
    expect((await caller.post(`/clusters/${aks.id}/stop`)).body.detail).toMatch(/stopped already/);
    for (const path of [`clusters/${aks.id}/scale`, `stacks/${aks.stackId}/up`, `stacks/${aks.stackId}/refresh`]) {
      const body = path.endsWith('scale') ? { nodeGroup: 'gpu1', desiredSize: 1 } : {};
      const answer = await caller.post(`/${path}`, body);
      expect(answer, path).toMatchObject({
        status: 409,
        body: { detail: expect.stringMatching(/is stopped: start it first/) },
      });
    }

    await caller.untilEnded((await caller.post(`/clusters/${aks.id}/start`)).body.operation.id);
    expect((await caller.get(`/clusters/${aks.id}`)).body).toMatchObject({
      status: 'creating',
      isStopped: false,
      priceMicroUsdPerHour: 100_000,
    });
    const scaled = await caller.post(`/clusters/${aks.id}/scale`, { nodeGroup: 'gpu1', desiredSize: 2 });
    await caller.untilEnded(scaled.body.operation.id);
    expect((await caller.get(`/stacks/${aks.stackId}`)).body.config.gpuNodePools).toMatchObject([
      { count: 2, maxCount: 2 },
    ]);
  });

  it('that Azure does not stop says so, and is looked at again', async () => {
    const azure = simulateAzure();
    server.runner.outcomes.up = { outputs: { clusterName: 'aks', clusterId: ARM_ID } };
    const aks = await caller.made(aksBody());
    azure.fails = true;
    const { id } = (await caller.post(`/clusters/${aks.id}/stop`)).body.operation;
    await caller.untilEnded(id);
    expect((await caller.get(`/operations/${id}`)).body).toMatchObject({
      status: 'failed',
      error: { code: 'cluster_refused', detail: expect.stringMatching(/its state is Failed/) },
    });
    expect((await caller.get(`/clusters/${aks.id}`)).body).toMatchObject({ status: 'creating', isStopped: false });
    delete server.runner.outcomes.up;
  });
});
