/** Clusters that are made: planned, made by their stack at a cloud or on hosts of our own, shown, and destroyed. The engine is scripted. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClusterTokens } from '../../automation/clusters/cloud-token.ts';
import { createCheckClustersCron } from '../../automation/cron/check-clusters.ts';
import { createPruneCron } from '../../automation/cron/prune.ts';
import { findOperation } from '../../db/operations.ts';
import { REQUIRED_TAGS } from '../../domain/stack-tags.ts';
import { makeSshKeyPair } from '../../secrets/deployment-secrets.ts';
import type { Loose } from '../support/api-server.ts';
import { aksBody, createClusterCaller, eksBody, makeNodes, type ClusterCaller } from '../support/cluster-caller.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';
import { until } from '../support/fleet-database.ts';
import { makeStep } from '../support/scripted-stack-runner.ts';

let server: ClusterServer;
let caller: ClusterCaller;
beforeAll(async () => {
  server = await startClusterServer();
  caller = await createClusterCaller(server);
});
afterAll(() => server.stop());

describe('a cluster made at a cloud', () => {
  it('is a stack, and becomes available by what it puts out', async () => {
    server.simulate('cloud', { nodes: makeNodes() });
    server.runner.outcomes.up = { outputs: { clusterName: 'train-eu' }, secretOutputs: { kubeconfig: kubeconfig() } };
    const accepted = await caller.post('/clusters', eksBody());
    expect(accepted).toMatchObject({
      status: 202,
      body: { operation: { kind: 'up_stack' }, cluster: { status: 'creating', kind: 'eks' } },
    });
    const { id, stackId } = accepted.body.cluster;
    await caller.untilEnded(accepted.body.operation.id);
    expect((await caller.get(`/stacks/${stackId}`)).body).toMatchObject({
      kind: 'eks',
      status: 'up',
      costCentre: caller.orgId,
      ceilingMicroUsdPerHour: 12_000_000,
      config: { region: 'eu-west-1', gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 4, capacityType: 'spot' }] },
    });
    expect((await caller.get(`/clusters/${id}/kubeconfig`)).status).toBe(503);
    const { services } = server;
    const now = () => new Date();
    const clusterTokens = createClusterTokens({ aws: null, azure: null, sandboxToken: 'sandbox' }, now);
    const cron = createCheckClustersCron({ ...services, clusterTokens, now });
    expect(await cron.run(new AbortController().signal)).toMatchObject({ looked: 1, available: 1 });
    expect((await caller.get(`/clusters/${id}`)).body).toMatchObject({
      status: 'available',
      platform: 'eks',
      nodes: { total: 2 },
    });
    const handed = (await caller.get(`/clusters/${id}/kubeconfig`)).body;
    expect(JSON.parse(handed.kubeconfig).users[0].user).toEqual({ token: 'sandbox' });
    expect(new Date(handed.expiresAt).getTime()).toBeGreaterThan(Date.now());
    delete server.runner.outcomes.up;
  });

  it('is planned with its price by a dry run that makes and reserves nothing, and is then made as shown', async () => {
    const tags = Object.fromEntries(REQUIRED_TAGS.map((tag) => [tag, 'x']));
    server.runner.steps = [makeStep('aws:ec2/natGateway:NatGateway', 'nat', 'create', { tags })];
    const body = eksBody();
    const plan = await caller.post('/clusters', { ...body, dryRun: true });
    expect(plan.status).toBe(200);
    expect(plan.body).toMatchObject({
      changes: [{ name: 'nat', op: 'create' }],
      unpriced: [],
      priceMicroUsdPerHour: 48_000,
    });
    expect((await caller.get('/clusters')).body.items.map((one: Loose) => one.name)).not.toContain(body.name);
    expect((await caller.get('/stacks?status=created')).body.items).toEqual([]);
    const { planHash } = plan.body;
    const { targetId } = (await caller.get(`/operations/${plan.body.operation.id}`)).body;
    expect(await caller.post(`/stacks/${targetId}/up`)).toMatchObject({ status: 409, body: { code: 'conflict' } });
    const otherwise = await caller.post('/clusters', { ...body, region: 'eu-west-2', planHash });
    expect(otherwise).toMatchObject({ status: 409, body: { code: 'plan_changed' } });
    expect(otherwise.body.detail).toMatch(/configuration/);
    const accepted = await caller.post('/clusters', { ...body, planHash });
    expect(accepted.status).toBe(202);
    expect((await caller.untilEnded(accepted.body.operation.id)).status).toBe('succeeded');
    expect((await caller.post('/clusters', { ...body, planHash })).body.code).toBe('plan_changed');
    expect((await caller.post('/clusters', { ...body, dryRun: true })).status).toBe(409);
    server.runner.steps = [];
  });

  it.each([
    ['an overlap of networks', { config: { vpcCidr: '172.20.0.0/16' } }, 'serviceCidr'],
    [
      'a GPU that the region lacks',
      { region: 'eu-west-3', gpuNodeGroups: [{ instanceType: 'p5.48xlarge', maxSize: 1 }] },
      'gpuNodeGroups.0.instanceType',
    ],
    ['an unknown field', { config: { nodes: 3 } }, 'config.nodes'],
    ['a field said twice', { config: { region: 'eu-west-2' } }, 'config.region'],
    ['a version there is not', { kubernetesVersion: '1.99' }, 'kubernetesVersion'],
  ])('is refused with %s, naming the field', async (_name, change, path) => {
    const reply = await caller.post('/clusters', eksBody(change));
    expect(reply.status).toBe(422);
    expect(reply.body.errors.map((error: Loose) => error.path).join(' ')).toContain(path);
  });

  it('fails with its stack, and says why', async () => {
    server.runner.outcomes.up = { isOk: false, error: { kind: 'resource_failed', detail: 'no quota for g5' } };
    const cluster = await caller.made(eksBody());
    expect(cluster).toMatchObject({ status: 'failed', failure: { code: 'stack_failed', detail: 'no quota for g5' } });
    delete server.runner.outcomes.up;
  });

  it('that was only planned is forgotten with its engine state once the plan is over, and its name of the engine with it', async () => {
    const removed: string[] = [];
    const { remove: forget } = server.runner;
    server.runner.remove = (name) => {
      removed.push(name);
      return forget(name);
    };
    const body = eksBody();
    const { body: plan } = await caller.post('/clusters', { ...body, dryRun: true });
    const { body: other } = await caller.post('/clusters', { ...eksBody(), dryRun: true });
    const cron = createPruneCron(server.database.kysely, server.queue);
    const tick = async () => (await cron.run(new AbortController().signal))?.['dryRuns'];
    expect(await tick()).toBe(0);
    const db = server.database.kysely;
    const stackOf = async ({ operation }: Loose) => (await findOperation(db, null, operation.id))?.target_id as string;
    const [stackId, keptId] = [await stackOf(plan), await stackOf(other)];
    const past = new Date(Date.now() - 3_600_000);
    await db.updateTable('stacks').set({ removed_at: past }).where('id', 'in', [stackId, keptId]).execute();
    await db.updateTable('stack_plans').set({ expires_at: past }).where('stack_id', '=', stackId).execute();
    expect(await tick()).toBe(1);
    const left = () => db.selectFrom('stacks').select('id').where('id', 'in', [stackId, keptId]).execute();
    expect(await until(async () => (await left()).length === 1 && left(), 'it is forgotten')).toEqual([{ id: keptId }]);
    expect(removed).toEqual([`eks-${stackId.slice('stk_'.length)}`]);
    expect((await caller.get(`/operations/${plan.operation.id}`)).body).toMatchObject({
      status: 'succeeded',
      targetId: stackId,
    });
    expect(await tick()).toBe(0);
    expect(await caller.post('/clusters', { ...body, planHash: plan.planHash })).toMatchObject({
      status: 409,
      body: { code: 'plan_changed' },
    });
    expect((await caller.post('/clusters', body)).status).toBe(202);
    server.runner.remove = forget;
  });

  it('is destroyed with its stack, unless that is protected', async () => {
    const kept = await caller.made(eksBody());
    expect(await caller.remove(`/clusters/${kept.id}`)).toMatchObject({
      status: 409,
      body: { code: 'stack_protected' },
    });
    const gone = await caller.made(aksBody());
    const accepted = await caller.remove(`/clusters/${gone.id}`);
    expect(accepted).toMatchObject({ status: 202, body: { operation: { kind: 'destroy_stack' } } });
    await caller.untilEnded(accepted.body.operation.id);
    expect((await caller.get(`/clusters/${gone.id}`)).body.status).toBe('destroyed');
    expect((await caller.post('/clusters', aksBody({ name: gone.name }))).status).toBe(202);
    const stuck = await caller.made(aksBody());
    server.runner.outcomes.destroy = { isOk: false, error: { kind: 'resource_failed', detail: 'in use' } };
    await caller.untilEnded((await caller.remove(`/clusters/${stuck.id}`)).body.operation.id);
    expect((await caller.get(`/clusters/${stuck.id}`)).body).toMatchObject({
      status: 'unavailable',
      failure: { detail: 'in use' },
    });
    delete server.runner.outcomes.destroy;
  });

  it('is there for a stack that was recorded as one, and is deleted from either side', async () => {
    const record = async (change: object = {}) => {
      const { name, kind, region } = eksBody();
      const body = { name, kind, config: { region }, costCentre: 'x' };
      return caller.post('/stacks', { ...body, protect: false, ...change });
    };
    const clusterOf = async (stack: Loose) =>
      (await caller.get('/clusters')).body.items.find(({ stackId }: Loose) => stackId === stack.id);
    const [first, second] = [(await record()).body, (await record()).body];
    const cluster = await clusterOf(first);
    expect(cluster).toMatchObject({ name: first.name, kind: 'eks', region: 'eu-west-1', status: 'creating' });
    await caller.untilEnded((await caller.post(`/stacks/${first.id}/up`)).body.operation.id);
    const removed = await caller.remove(`/clusters/${cluster.id}`);
    expect(removed).toMatchObject({ status: 202, body: { operation: { kind: 'destroy_stack' } } });
    await caller.untilEnded(removed.body.operation.id);
    expect((await caller.get(`/stacks/${first.id}`)).body.status).toBe('destroyed');
    const other = await clusterOf(second);
    await caller.untilEnded((await caller.post(`/stacks/${second.id}/destroy`)).body.operation.id);
    expect((await caller.get(`/clusters/${other.id}`)).body.status).toBe('destroyed');
    await caller.registered('taken');
    expect(await record({ name: 'taken' })).toMatchObject({ status: 409, body: { errors: [{ path: 'name' }] } });
    expect((await caller.get('/stacks')).body.items.map(({ name }: Loose) => name)).not.toContain('taken');
    const snapshots = await caller.post('/stacks', {
      name: 'store',
      kind: 'snapshots',
      config: { buckets: [{ provider: 's3', name: 'x' }] },
      costCentre: 'x',
    });
    expect(await clusterOf(snapshots.body)).toBeUndefined();
    const config = {
      hosts: [{ address: '10.0.0.1', user: 'root', hostKeySha256: `SHA256:${'a'.repeat(43)}`, credentialRef: 'none' }],
      k3s: { artefactUrl: 'https://example.org/k3s', artefactSha256: 'a'.repeat(64) },
    };
    expect(await record({ kind: 'onprem', config })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'config.hosts.0.credentialRef' }] },
    });
  });

  it('is planned with a note where the agents of the deployment are off, and only there', async () => {
    const plan = async (path: string, body: object) => (await caller.post(path, body)).body;
    const body = { ...eksBody(), dryRun: true };
    expect((await plan('/clusters', body)).notes).toEqual([]);
    server.deps.agents.isOn = false;
    try {
      expect((await plan('/clusters', body)).notes).toMatchObject([
        expect.stringMatching(/^agents are off.*Kubernetes/),
      ]);
      const stack = await plan('/stacks', {
        name: body.name,
        kind: 'eks',
        config: { region: 'eu-west-1' },
        costCentre: 'x',
      });
      const preview = await plan(`/stacks/${stack.id}/preview`, {});
      expect(preview.notes).toHaveLength(1);
      const { id } = preview.operation;
      expect((await caller.get(`/stacks/${stack.id}/plans/${id}`)).body.notes).toEqual(preview.notes);
    } finally {
      delete server.deps.agents.isOn;
    }
  });

  const kubeconfig = () => {
    const config = JSON.parse(server.kubernetes.kubeconfigOf('cloud'));
    config.users[0].user = { exec: { apiVersion: 'client.authentication.k8s.io/v1beta1', command: 'aws' } };
    return JSON.stringify(config);
  };

  it('on hosts of our own is a stack that installs k3s and puts its kubeconfig out', async () => {
    const credential = await caller.post('/credentials', {
      name: 'ssh',
      kind: 'ssh_private_key',
      value: (await makeSshKeyPair('t')).secret,
    });
    expect(credential.status, JSON.stringify(credential.body)).toBe(201);
    server.simulate('lab', { gitVersion: 'v1.34.1+k3s1', nodes: makeNodes() });
    const config = JSON.parse(server.kubernetes.kubeconfigOf('lab'));
    const yaml = `current-context: d\nclusters: ${JSON.stringify([{ ...config.clusters[0], name: 'd' }])}\ncontexts: [{name: d, context: {cluster: d, user: d}}]\nusers: [{name: d, user: {token: sandbox}}]\n`;
    server.runner.outcomes.up = { secretOutputs: { kubeconfig: yaml } };
    const body = {
      kind: 'onprem',
      name: 'lab',
      hosts: [{ address: '10.0.0.7', user: 'ops', hostKeySha256: `SHA256:${'A'.repeat(43)}` }],
      credentialRef: 'ssh',
      k3s: { artefactUrl: 'https://mirror.test/k3s', artefactSha256: 'a'.repeat(64) },
      protect: false,
    };
    const unknown = await caller.post('/clusters', { ...body, credentialRef: 'other' });
    expect(unknown).toMatchObject({ status: 422, body: { errors: [{ path: 'credentialRef' }] } });
    const wrong = await caller.post('/clusters', { ...body, hosts: [{ ...body.hosts[0], hostKeySha256: 'x' }] });
    expect(wrong).toMatchObject({ status: 422, body: { errors: [{ path: 'hosts.0.hostKeySha256' }] } });
    const secret = await caller.post('/clusters', { ...body, config: { kubeconfig: yaml } });
    expect(secret.status).toBe(422);
    expect(secret.body.errors.map((error: Loose) => error.path)).toContain('config.kubeconfig');
    const cluster = await caller.made(body);
    expect(cluster).toMatchObject({ kind: 'onprem', endpoint: server.kubernetes.urlOf('lab') });
    const handed = (await caller.get(`/clusters/${cluster.id}/kubeconfig`)).body;
    expect(JSON.parse(handed.kubeconfig).users[0].user).toEqual({ token: 'sandbox' });
    expect(handed.expiresAt).toBeNull();
    expect((await caller.post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.35' })).status).toBe(409);
    delete server.runner.outcomes.up;
  });

  it("is not another org's to see or to change", async () => {
    const cluster = await caller.made(eksBody());
    const other = (await server.makeKey('owner')).key;
    for (const path of ['', '/nodes', '/health', '/events', '/storage-classes', '/kubeconfig'])
      expect((await caller.get(`/clusters/${cluster.id}${path}`, other)).status, path).toBe(404);
    expect(
      (await caller.post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.35' }, {}, other)).status,
    ).toBe(404);
    expect((await caller.remove(`/clusters/${cluster.id}`, other)).status).toBe(404);
  });

  it('is listed newest first, in pages', async () => {
    const all = (await caller.get('/clusters?limit=500')).body.items.map((one: Loose) => one.id);
    const paged: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const { body } = await caller.get(`/clusters?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`);
      paged.push(...body.items.map((one: Loose) => one.id));
      cursor = body.nextCursor;
    }
    expect(paged).toEqual(all);
    expect(all.length).toBeGreaterThan(5);
  });
});
