import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCheckClustersCron } from '../../automation/cron/check-clusters.ts';
import { createPruneCron } from '../../automation/cron/prune.ts';
import { createClusterTokens } from '../../automation/clusters/cloud-token.ts';
import { makeAuthority } from '../../sandbox/kubernetes-api/certificates.ts';
import { makeEksGpuNode, makeSystemNode } from '../../sandbox/kubernetes-api/nodes.ts';
import { REQUIRED_TAGS } from '../../domain/stack-tags.ts';
import { makeSshKeyPair } from '../../secrets/deployment-secrets.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { StackResource } from '../../domain/state/stack-state.ts';
import { findOperation } from '../../db/operations.ts';
import type { Loose } from '../support/api-server.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';
import { until } from '../support/fleet-database.ts';
import { makeStep } from '../support/scripted-stack-runner.ts';

const tags = Object.fromEntries(REQUIRED_TAGS.map((tag) => [tag, 'x']));
const NAT = 'aws:ec2/natGateway:NatGateway';

let server: ClusterServer;
let key: string;
let orgId: string;
beforeAll(async () => {
  server = await startClusterServer();
  ({ key, orgId } = await server.makeKey('operator'));
});
afterAll(() => server.stop());

const post = (path: string, body: unknown = {}, headers: Record<string, string> = {}, as = key) =>
  server.call('POST', `/api/v1${path}`, { key: as, body, headers });
const get = (path: string, as = key) => server.call('GET', `/api/v1${path}`, { key: as });
const remove = (path: string, as = key) => server.call('DELETE', `/api/v1${path}`, { key: as });
const nodes = () => [makeSystemNode('sys'), makeEksGpuNode('gpu')];

async function registered(name: string): Promise<Loose> {
  server.simulate(name, { nodes: nodes() });
  const reply = await post('/clusters', { kind: 'registered', name, kubeconfig: server.kubernetes.kubeconfigOf(name) });
  expect(reply.status).toBe(202);
  return reply.body.cluster;
}

let serial = 0;
const eksBody = (change: object = {}): Loose => ({
  kind: 'eks',
  name: `eks-${++serial}`,
  region: 'eu-west-1',
  kubernetesVersion: '1.34',
  gpuNodeGroups: [{ instanceType: 'g5.xlarge', minSize: 0, maxSize: 4, desiredSize: 1, capacityType: 'spot' }],
  ceilingUsdPerHour: '12.00',
  ...change,
});
const aksBody = (change: object = {}): Loose => ({
  kind: 'aks',
  name: `aks-${++serial}`,
  location: 'swedencentral',
  gpuNodePools: [{ vmSize: 'Standard_NC24ads_A100_v4', maxCount: 2 }],
  protect: false,
  ...change,
});

async function untilEnded(operationId: string): Promise<Loose> {
  return until(async () => {
    // Not through the API: hundreds of calls a second are no wait.
    const row = await findOperation(server.database.kysely, null, operationId);
    return row?.finished_at != null && row;
  }, `${operationId} has ended`);
}

async function made(body: Loose): Promise<Loose> {
  const { body: accepted } = await post('/clusters', body);
  await untilEnded(accepted.operation.id);
  return (await get(`/clusters/${accepted.cluster.id}`)).body;
}

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

const makeResource = ({ type, inputs }: { type: string; inputs: Record<string, unknown> }): StackResource => ({
  urn: `urn:pulumi:s::muster::${type}::one`,
  name: 'one',
  type,
  id: 'one',
  parent: null,
  provider: null,
  isProtected: false,
  inputs,
  outputs: {},
  initErrors: [],
});

describe('registering a cluster', () => {
  it('connects, tells what answers, and shows nodes, health, warnings and storage at once', async () => {
    server.simulate('first', {
      nodes: nodes(),
      warnings: [
        { reason: 'BackOff', message: 'again', object: 'pod', count: 2, lastTimestamp: '2026-11-21T09:00:00Z' },
      ],
    });
    const kubeconfig = server.kubernetes.kubeconfigOf('first');
    const reply = await post('/clusters', { kind: 'registered', name: 'first', kubeconfig });
    expect(reply).toMatchObject({
      status: 202,
      body: {
        operation: { kind: 'register_cluster', status: 'succeeded' },
        cluster: {
          name: 'first',
          status: 'available',
          platform: 'eks',
          stackId: null,
          nodes: { total: 2, ready: 2, accelerators: [{ gpuModel: 'NVIDIA-A10G', gpus: 1 }] },
          allowedActions: ['kubeconfig', 'replace_kubeconfig', 'delete'],
        },
      },
    });
    const { id } = reply.body.cluster;
    expect((await get(`/clusters/${id}/nodes`)).body.items).toMatchObject([
      { name: 'gpu', hardwareType: 'cuda', gpuCount: 1, driverVersion: '570.133.20' },
      { name: 'sys', hardwareType: 'cpu' },
    ]);
    expect((await get(`/clusters/${id}/health`)).body).toMatchObject({
      status: 'available',
      changing: null,
      unfitNodes: [],
    });
    expect((await get(`/clusters/${id}/events`)).body.items).toMatchObject([{ reason: 'BackOff', count: 2 }]);
    expect((await get(`/clusters/${id}/storage-classes`)).body.items).toMatchObject([{ name: 'gp3', isDefault: true }]);
    expect((await get('/clusters?kind=registered')).body.items.map((one: Loose) => one.id)).toContain(id);
  });

  it('takes YAML too', async () => {
    const { clusters } = JSON.parse(server.kubernetes.kubeconfigOf('yaml'));
    server.simulate('yaml', { nodes: nodes() });
    const kubeconfig = `apiVersion: v1
kind: Config
current-context: c
clusters:
- name: k
  cluster: {server: "${clusters[0].cluster.server}", certificate-authority-data: ${clusters[0].cluster['certificate-authority-data']}}
contexts:
- {name: c, context: {cluster: k, user: u}}
users:
- {name: u, user: {token: sandbox}}
`;
    expect((await post('/clusters', { kind: 'registered', name: 'yaml', kubeconfig })).body.cluster.status).toBe(
      'available',
    );
  });

  it.each([
    ['an exec plugin', { exec: { command: 'aws' } }, 'kubeconfig.users.0.user.exec'],
    ['a token in a file', { tokenFile: '/var/run/token' }, 'kubeconfig.users.0.user.tokenFile'],
  ])('refuses %s before anything is asked or made', async (_name, user, path) => {
    const cluster = server.simulate('refused', { nodes: nodes() });
    const config = JSON.parse(server.kubernetes.kubeconfigOf('refused'));
    config.users[0].user = user;
    const reply = await post('/clusters', { kind: 'registered', name: 'refused', kubeconfig: config });
    expect(reply).toMatchObject({ status: 422, body: { code: 'invalid_request', errors: [{ path }] } });
    expect(cluster.asked).toEqual([]);
  });

  it('refuses what is no YAML without repeating it', async () => {
    const reply = await post('/clusters', { kind: 'registered', name: 'bad', kubeconfig: 'token: "hunter2\n\tx: [' });
    expect(reply).toMatchObject({ status: 422, body: { errors: [{ path: 'kubeconfig' }] } });
    expect(JSON.stringify(reply.body)).not.toContain('hunter2');
  });

  it.each([
    [
      'a foreign certificate',
      'cluster_refused',
      422,
      /certificate of https.*none of the authorities/,
      (config: Loose) => {
        const foreign = Buffer.from(makeAuthority('kubernetes').certificate).toString('base64');
        config.clusters[0].cluster['certificate-authority-data'] = foreign;
      },
    ],
    [
      'a token it does not know',
      'cluster_refused',
      422,
      /refuses our credential/,
      (config: Loose) => {
        config.users[0].user.token = 'stranger';
      },
    ],
    [
      'an address where nothing listens',
      'cluster_unreachable',
      503,
      /does not answer/,
      (config: Loose) => {
        config.clusters[0].cluster.server = 'https://127.0.0.1:1';
      },
    ],
  ])('refuses %s, and keeps nothing', async (_name, code, status, message, change) => {
    server.simulate('wrong', { nodes: nodes() });
    const config = JSON.parse(server.kubernetes.kubeconfigOf('wrong'));
    change(config);
    const reply = await post('/clusters', { kind: 'registered', name: 'wrong', kubeconfig: config });
    expect(reply).toMatchObject({ status, body: { code } });
    expect(reply.body.detail).toMatch(message);
    const { items } = (await get('/clusters')).body;
    expect(items.map((one: Loose) => one.name)).not.toContain('wrong');
    const kept = await server.database.kysely.selectFrom('cluster_access').selectAll().execute();
    expect(kept).toHaveLength(items.length);
  });

  it('refuses a user without the rights to look, naming them', async () => {
    server.simulate('blind', { nodes: nodes(), denied: new Set(['list nodes']) });
    const reply = await post('/clusters', {
      kind: 'registered',
      name: 'blind',
      kubeconfig: server.kubernetes.kubeconfigOf('blind'),
    });
    expect(reply).toMatchObject({ status: 422, body: { code: 'cluster_refused' } });
    expect(reply.body.detail).toMatch(/no right to list nodes/);
  });

  it('refuses a name that is taken and a cluster that is there by another name, naming it', async () => {
    const cluster = await registered('original');
    const kubeconfig = server.kubernetes.kubeconfigOf('original');
    const taken = await post('/clusters', { kind: 'registered', name: 'original', kubeconfig });
    expect(taken).toMatchObject({ status: 409, body: { code: 'conflict', errors: [{ path: 'name' }] } });
    const twice = await post('/clusters', { kind: 'registered', name: 'copy', kubeconfig });
    expect(twice).toMatchObject({ status: 409, body: { code: 'conflict' } });
    expect(twice.body.detail).toContain(`original (${cluster.id})`);
    const other = await server.makeKey('operator');
    expect((await post('/clusters', { kind: 'registered', name: 'copy', kubeconfig }, {}, other.key)).status).toBe(202);
  });

  it('happens once per Idempotency-Key', async () => {
    server.simulate('once', { nodes: nodes() });
    const body = { kind: 'registered', name: 'once', kubeconfig: server.kubernetes.kubeconfigOf('once') };
    const first = await post('/clusters', body, { 'Idempotency-Key': 'once' });
    const second = await post('/clusters', body, { 'Idempotency-Key': 'once' });
    expect(second.status).toBe(202);
    expect(second.body).toEqual(first.body);
  });
});

describe('the kubeconfig of a cluster', () => {
  it('is handed to operators, written down, and to nobody else', async () => {
    const cluster = await registered('secret');
    const viewer = await server.makeKey('viewer', orgId);
    expect((await get(`/clusters/${cluster.id}/kubeconfig`, viewer.key)).status).toBe(403);
    const reply = await get(`/clusters/${cluster.id}/kubeconfig`);
    expect(JSON.parse(reply.body.kubeconfig).users).toEqual([{ name: 'secret', user: { token: 'sandbox' } }]);
    expect(reply.headers.get('cache-control')).toBe('no-store');
    const audit = await server.database.kysely
      .selectFrom('audit_log')
      .selectAll()
      .where('target_id', '=', cluster.id)
      .where('action', '=', 'cluster.kubeconfig')
      .execute();
    expect(audit).toHaveLength(1);
  });

  it('is nowhere in clear: not in rows, replies, events or the log', async () => {
    const cluster = server.simulate('marked', { nodes: nodes(), tokens: new Set(['a-very-secret-token']) });
    const kubeconfig = server.kubernetes.kubeconfigOf('marked', 'a-very-secret-token');
    const { body } = await post('/clusters', { kind: 'registered', name: 'marked', kubeconfig });
    expect(cluster.asked.length).toBeGreaterThan(0);
    const db = server.database.kysely;
    for (const table of [
      'clusters',
      'cluster_access',
      'cluster_facts',
      'operations',
      'operation_events',
      'audit_log',
      'webhook_deliveries',
      'idempotency_keys',
    ] as const) {
      const rows = JSON.stringify(await db.selectFrom(table).selectAll().execute(), (_key, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      );
      expect(rows, table).not.toContain('very-secret');
      expect(rows, table).not.toContain(Buffer.from('a-very-secret-token').toString('base64').slice(0, 20));
    }
    expect(JSON.stringify(body)).not.toContain('very-secret');
    expect(server.log.join('\n')).not.toContain('very-secret');
  });

  it('is replaced by one that leads to the same cluster, and by no other', async () => {
    const cluster = await registered('rotated');
    const simulated = server.kubernetes.clusters.get('rotated') as Loose;
    await registered('elsewhere');
    const other = await post(`/clusters/${cluster.id}/kubeconfig`, {
      kubeconfig: server.kubernetes.kubeconfigOf('elsewhere'),
    });
    expect(other).toMatchObject({ status: 409, body: { code: 'conflict' } });
    const stranger = await post(`/clusters/${cluster.id}/kubeconfig`, {
      kubeconfig: server.kubernetes.kubeconfigOf('rotated', 'no'),
    });
    expect(stranger).toMatchObject({ status: 422, body: { code: 'cluster_refused' } });
    expect(JSON.parse((await get(`/clusters/${cluster.id}/kubeconfig`)).body.kubeconfig).users[0].user.token).toBe(
      'sandbox',
    );
    simulated.tokens = new Set(['fresh']);
    const replaced = await post(`/clusters/${cluster.id}/kubeconfig`, {
      kubeconfig: server.kubernetes.kubeconfigOf('rotated', 'fresh'),
    });
    expect(replaced).toMatchObject({ status: 202, body: { cluster: { status: 'available' } } });
    expect(JSON.parse((await get(`/clusters/${cluster.id}/kubeconfig`)).body.kubeconfig).users[0].user.token).toBe(
      'fresh',
    );
  });

  it('is forgotten with its cluster, at which nothing changes', async () => {
    const cluster = await registered('forgotten');
    const simulated = server.kubernetes.clusters.get('forgotten') as Loose;
    const asked = simulated.asked.length;
    expect(await remove(`/clusters/${cluster.id}`)).toMatchObject({
      status: 200,
      body: { status: 'destroyed', allowedActions: [] },
    });
    expect(simulated.asked).toHaveLength(asked);
    expect((await get(`/clusters/${cluster.id}/kubeconfig`)).status).toBe(409);
    expect((await get('/clusters')).body.items.map((one: Loose) => one.id)).not.toContain(cluster.id);
    expect((await registered('forgotten')).id).not.toBe(cluster.id);
  });
});

describe('a cluster made at a cloud', () => {
  it('is a stack, and becomes available by what it puts out', async () => {
    server.simulate('cloud', { nodes: nodes() });
    server.runner.outcomes.up = { outputs: { clusterName: 'train-eu' }, secretOutputs: { kubeconfig: kubeconfig() } };
    const accepted = await post('/clusters', eksBody());
    expect(accepted).toMatchObject({
      status: 202,
      body: { operation: { kind: 'up_stack' }, cluster: { status: 'creating', kind: 'eks' } },
    });
    const { id, stackId } = accepted.body.cluster;
    await untilEnded(accepted.body.operation.id);
    expect((await get(`/stacks/${stackId}`)).body).toMatchObject({
      kind: 'eks',
      status: 'up',
      costCentre: orgId,
      ceilingMicroUsdPerHour: 12_000_000,
      config: { region: 'eu-west-1', gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 4, capacityType: 'spot' }] },
    });
    expect((await get(`/clusters/${id}/kubeconfig`)).status).toBe(503);
    const { services } = server;
    const now = () => new Date();
    const clusterTokens = createClusterTokens({ aws: null, azure: null, sandboxToken: 'sandbox' }, now);
    const cron = createCheckClustersCron({ ...services, clusterTokens, now });
    expect(await cron.run(new AbortController().signal)).toMatchObject({ looked: 1, available: 1 });
    expect((await get(`/clusters/${id}`)).body).toMatchObject({
      status: 'available',
      platform: 'eks',
      nodes: { total: 2 },
    });
    const handed = (await get(`/clusters/${id}/kubeconfig`)).body;
    expect(JSON.parse(handed.kubeconfig).users[0].user).toEqual({ token: 'sandbox' });
    expect(new Date(handed.expiresAt).getTime()).toBeGreaterThan(Date.now());
    delete server.runner.outcomes.up;
  });

  it('is planned with its price by a dry run that makes and reserves nothing, and is then made as shown', async () => {
    const tags = Object.fromEntries(REQUIRED_TAGS.map((tag) => [tag, 'x']));
    server.runner.steps = [makeStep('aws:ec2/natGateway:NatGateway', 'nat', 'create', { tags })];
    const body = eksBody();
    const plan = await post('/clusters', { ...body, dryRun: true });
    expect(plan.status).toBe(200);
    expect(plan.body).toMatchObject({
      changes: [{ name: 'nat', op: 'create' }],
      unpriced: [],
      priceMicroUsdPerHour: 48_000,
    });
    expect((await get('/clusters')).body.items.map((one: Loose) => one.name)).not.toContain(body.name);
    expect((await get('/stacks?status=created')).body.items).toEqual([]);
    const { planHash } = plan.body;
    const { targetId } = (await get(`/operations/${plan.body.operation.id}`)).body;
    expect(await post(`/stacks/${targetId}/up`)).toMatchObject({ status: 409, body: { code: 'conflict' } });
    const otherwise = await post('/clusters', { ...body, region: 'eu-west-2', planHash });
    expect(otherwise).toMatchObject({ status: 409, body: { code: 'plan_changed' } });
    expect(otherwise.body.detail).toMatch(/configuration/);
    const accepted = await post('/clusters', { ...body, planHash });
    expect(accepted.status).toBe(202);
    expect((await untilEnded(accepted.body.operation.id)).status).toBe('succeeded');
    expect((await post('/clusters', { ...body, planHash })).body.code).toBe('plan_changed');
    expect((await post('/clusters', { ...body, dryRun: true })).status).toBe(409);
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
    const reply = await post('/clusters', eksBody(change));
    expect(reply.status).toBe(422);
    expect(reply.body.errors.map((error: Loose) => error.path).join(' ')).toContain(path);
  });

  it('fails with its stack, and says why', async () => {
    server.runner.outcomes.up = { isOk: false, error: { kind: 'resource_failed', detail: 'no quota for g5' } };
    const cluster = await made(eksBody());
    expect(cluster).toMatchObject({ status: 'failed', failure: { code: 'stack_failed', detail: 'no quota for g5' } });
    delete server.runner.outcomes.up;
  });

  it('is scaled by its stack: sizes and names are checked first', async () => {
    const cluster = await made(eksBody());
    const scale = (body: object) => post(`/clusters/${cluster.id}/scale`, body);
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
    await untilEnded(accepted.body.operation.id);
    const { config } = (await get(`/stacks/${cluster.stackId}`)).body;
    expect(config.gpuNodeGroups).toMatchObject([{ name: 'gpu-1', minSize: 2, maxSize: 8, desiredSize: 2 }]);
  });

  it('that was only planned is forgotten with its engine state once the plan is over, and its name of the engine with it', async () => {
    const removed: string[] = [];
    const { remove: forget } = server.runner;
    server.runner.remove = (name) => {
      removed.push(name);
      return forget(name);
    };
    const body = eksBody();
    const { body: plan } = await post('/clusters', { ...body, dryRun: true });
    const { body: other } = await post('/clusters', { ...eksBody(), dryRun: true });
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
    expect((await get(`/operations/${plan.operation.id}`)).body).toMatchObject({
      status: 'succeeded',
      targetId: stackId,
    });
    expect(await tick()).toBe(0);
    expect(await post('/clusters', { ...body, planHash: plan.planHash })).toMatchObject({
      status: 409,
      body: { code: 'plan_changed' },
    });
    expect((await post('/clusters', body)).status).toBe(202);
    server.runner.remove = forget;
  });

  it('shows what a change would cost, changes nothing by it, and does exactly that with its planHash', async () => {
    const cluster = await made(eksBody());
    const scale = (body: object) => post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', maxSize: 8, ...body });
    const config = async () => (await get(`/stacks/${cluster.stackId}`)).body.config.gpuNodeGroups[0].maxSize;
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
    const refused = await untilEnded(stale.body.operation.id);
    expect(refused).toMatchObject({ status: 'failed', error_code: 'plan_changed' });
    expect(refused.error_detail).toMatch(/The configuration is as it was before$/);
    expect(await config()).toBe(4);
    server.runner.steps = [makeStep(NAT, 'nat', 'create', { tags })];
    const accepted = await scale({ planHash: plan.body.planHash });
    expect(await untilEnded(accepted.body.operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await config()).toBe(8);
    server.runner.steps = [];
  });

  it('is left as it was by a change that is refused, and keeps one that began, whatever came of it', async () => {
    const cluster = await made(eksBody({ kubernetesVersion: '1.33' }));
    const upgrade = async () =>
      untilEnded((await post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.34' })).body.operation.id);
    const version = async () => (await get(`/stacks/${cluster.stackId}`)).body.config.kubernetesVersion;
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
    await untilEnded((await post(`/stacks/${cluster.stackId}/up`)).body.operation.id);
    expect((await get(`/stacks/${cluster.stackId}`)).body).toMatchObject({ status: 'up', failure: null });
  });

  it('keeps its configuration while a change of it is under way', async () => {
    const cluster = await made(eksBody());
    server.runner.isHanging = true;
    const first = await post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', maxSize: 5 });
    const patch = (body: object) => server.call('PATCH', `/api/v1/stacks/${cluster.stackId}`, { key, body });
    const { config } = (await get(`/stacks/${cluster.stackId}`)).body;
    expect(await patch({ config })).toMatchObject({ status: 409, body: { operationId: first.body.operation.id } });
    expect((await patch({ protect: false })).status).toBe(200);
    server.runner.isHanging = false;
    await post(`/operations/${first.body.operation.id}/cancel`);
    await untilEnded(first.body.operation.id);
    expect((await patch({ config })).status).toBe(200);
  });

  it('with an autoscaler keeps the number that it came to, as long as somebody has seen it', async () => {
    const groups = [{ instanceType: 'g5.xlarge', minSize: 0, maxSize: 4, desiredSize: 1, autoscaled: true }];
    const cluster = await made(eksBody({ gpuNodeGroups: groups }));
    const scale = (body: object) => post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', ...body });
    expect(await scale({ maxSize: 8 })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'desiredSize', message: expect.stringMatching(/nobody has seen its nodes/) }] },
    });
    const nodes = ['gpu-1-a1b2c3', 'gpu-1-a1b2c3', 'gpu-1-a1b2c3', 'system-ffffff'].map((nodeGroup) => ({ nodeGroup }));
    const facts = { nodes: JSON.stringify(nodes), storage_classes: '[]', warnings: '[]' };
    const values = { cluster_id: cluster.id, ...facts, taken_at: new Date() };
    await server.database.kysely.insertInto('cluster_facts').values(values).execute();
    const sizeOf = async () => (await get(`/stacks/${cluster.stackId}`)).body.config.gpuNodeGroups[0];
    for (const [body, size] of [
      [{ maxSize: 8 }, { minSize: 0, maxSize: 8, desiredSize: 3 }],
      [{ minSize: 5 }, { minSize: 5, maxSize: 8, desiredSize: 5 }],
      [{ desiredSize: 7 }, { minSize: 5, maxSize: 8, desiredSize: 7 }],
    ] as const) {
      await untilEnded((await scale(body)).body.operation.id);
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
    await untilEnded((await post(`/stacks/${cluster.stackId}/up`)).body.operation.id);
    expect(server.runner.ran.at(-1)?.request.program?.args ?? {}).not.toHaveProperty('resize');
  });

  it('is upgraded one minor at a time', async () => {
    const cluster = await made(eksBody({ kubernetesVersion: '1.33' }));
    const upgrade = (kubernetesVersion: string) => post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion });
    for (const [version, message] of [
      ['1.35', /one minor/],
      ['1.32', /go back/],
      ['1.33', /already/],
    ] as const) {
      const reply = await upgrade(version);
      expect(reply).toMatchObject({ status: 422, body: { errors: [{ path: 'kubernetesVersion' }] } });
      expect(reply.body.errors[0].message).toMatch(message);
    }
    await untilEnded((await upgrade('1.34')).body.operation.id);
    expect((await get(`/stacks/${cluster.stackId}`)).body.config.kubernetesVersion).toBe('1.34');
  });

  it('takes one change at a time', async () => {
    const cluster = await made(eksBody());
    server.runner.isHanging = true;
    const first = await post(`/clusters/${cluster.id}/scale`, { nodeGroup: 'gpu-1', maxSize: 5 });
    const second = await post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.35' });
    expect(second).toMatchObject({ status: 409, body: { code: 'conflict', operationId: first.body.operation.id } });
    server.runner.isHanging = false;
    await post(`/operations/${first.body.operation.id}/cancel`);
    await untilEnded(first.body.operation.id);
  });

  it('is stopped and started as a whole, at AKS only: meanwhile it is not touched, and costs nothing', async () => {
    const eks = await made(eksBody());
    const refused = await post(`/clusters/${eks.id}/stop`);
    expect(refused).toMatchObject({ status: 409, body: { code: 'conflict' } });
    expect(refused.body.detail).toMatch(/EKS cannot stop .* Scale its groups/);
    const azure = simulateAzure();
    const priced = { type: 'azure-native:containerservice:ManagedCluster', inputs: { location: 'swedencentral' } };
    server.runner.resources = [makeResource({ ...priced, inputs: { ...priced.inputs, sku: { tier: 'Standard' } } })];
    server.runner.outcomes.up = { outputs: { clusterName: 'aks', clusterId: ARM_ID } };
    const aks = await made(aksBody());
    expect(aks).toMatchObject({ kind: 'aks', isStopped: false, priceMicroUsdPerHour: 100_000 });
    expect((await post(`/clusters/${aks.id}/start`)).body.detail).toMatch(/is not stopped/);

    azure.busy = 'OperationNotAllowed: there is an in progress scale operation';
    const stopping = await post(`/clusters/${aks.id}/stop`);
    expect(stopping).toMatchObject({ status: 202, body: { operation: { kind: 'stop_cluster' } } });
    const beside = await post(`/clusters/${aks.id}/scale`, { nodeGroup: 'gpu1', desiredSize: 2 });
    expect(beside).toMatchObject({ status: 409, body: { operationId: stopping.body.operation.id } });
    expect((await post(`/operations/${stopping.body.operation.id}/cancel`)).status).toBe(409);
    await until(async () => {
      const row = await findOperation(server.database.kysely, null, stopping.body.operation.id);
      return /in progress scale/.test(row?.note ?? '');
    }, 'Azure is busy');
    azure.busy = null;
    await untilEnded(stopping.body.operation.id);
    expect(azure.asked).toBeGreaterThan(1);
    const stopped = (await get(`/clusters/${aks.id}`)).body;
    expect(stopped).toMatchObject({ status: 'stopped', isStopped: true, allowedActions: ['start', 'delete'] });
    expect(stopped.priceMicroUsdPerHour).toBe(0);
    expect((await post(`/clusters/${aks.id}/stop`)).body.detail).toMatch(/stopped already/);
    for (const path of [`clusters/${aks.id}/scale`, `stacks/${aks.stackId}/up`, `stacks/${aks.stackId}/refresh`]) {
      const body = path.endsWith('scale') ? { nodeGroup: 'gpu1', desiredSize: 1 } : {};
      const answer = await post(`/${path}`, body);
      expect(answer, path).toMatchObject({
        status: 409,
        body: { detail: expect.stringMatching(/is stopped: start it first/) },
      });
    }

    await untilEnded((await post(`/clusters/${aks.id}/start`)).body.operation.id);
    expect((await get(`/clusters/${aks.id}`)).body).toMatchObject({
      status: 'creating',
      isStopped: false,
      priceMicroUsdPerHour: 100_000,
    });
    const scaled = await post(`/clusters/${aks.id}/scale`, { nodeGroup: 'gpu1', desiredSize: 2 });
    await untilEnded(scaled.body.operation.id);
    expect((await get(`/stacks/${aks.stackId}`)).body.config.gpuNodePools).toMatchObject([{ count: 2, maxCount: 2 }]);
  });

  it('that Azure does not stop says so, and is looked at again', async () => {
    const azure = simulateAzure();
    server.runner.outcomes.up = { outputs: { clusterName: 'aks', clusterId: ARM_ID } };
    const aks = await made(aksBody());
    azure.fails = true;
    const { id } = (await post(`/clusters/${aks.id}/stop`)).body.operation;
    await untilEnded(id);
    expect((await get(`/operations/${id}`)).body).toMatchObject({
      status: 'failed',
      error: { code: 'cluster_refused', detail: expect.stringMatching(/its state is Failed/) },
    });
    expect((await get(`/clusters/${aks.id}`)).body).toMatchObject({ status: 'creating', isStopped: false });
    delete server.runner.outcomes.up;
  });

  it('is destroyed with its stack, unless that is protected', async () => {
    const kept = await made(eksBody());
    expect(await remove(`/clusters/${kept.id}`)).toMatchObject({ status: 409, body: { code: 'stack_protected' } });
    const gone = await made(aksBody());
    const accepted = await remove(`/clusters/${gone.id}`);
    expect(accepted).toMatchObject({ status: 202, body: { operation: { kind: 'destroy_stack' } } });
    await untilEnded(accepted.body.operation.id);
    expect((await get(`/clusters/${gone.id}`)).body.status).toBe('destroyed');
    expect((await post('/clusters', aksBody({ name: gone.name }))).status).toBe(202);
    const stuck = await made(aksBody());
    server.runner.outcomes.destroy = { isOk: false, error: { kind: 'resource_failed', detail: 'in use' } };
    await untilEnded((await remove(`/clusters/${stuck.id}`)).body.operation.id);
    expect((await get(`/clusters/${stuck.id}`)).body).toMatchObject({
      status: 'unavailable',
      failure: { detail: 'in use' },
    });
    delete server.runner.outcomes.destroy;
  });

  it('is there for a stack that was recorded as one, and is deleted from either side', async () => {
    const record = async (change: object = {}) => {
      const body = { name: `recorded-${++serial}`, kind: 'eks', config: { region: 'eu-west-1' }, costCentre: 'x' };
      return post('/stacks', { ...body, protect: false, ...change });
    };
    const clusterOf = async (stack: Loose) =>
      (await get('/clusters')).body.items.find(({ stackId }: Loose) => stackId === stack.id);
    const [first, second] = [(await record()).body, (await record()).body];
    const cluster = await clusterOf(first);
    expect(cluster).toMatchObject({ name: first.name, kind: 'eks', region: 'eu-west-1', status: 'creating' });
    await untilEnded((await post(`/stacks/${first.id}/up`)).body.operation.id);
    const removed = await remove(`/clusters/${cluster.id}`);
    expect(removed).toMatchObject({ status: 202, body: { operation: { kind: 'destroy_stack' } } });
    await untilEnded(removed.body.operation.id);
    expect((await get(`/stacks/${first.id}`)).body.status).toBe('destroyed');
    const other = await clusterOf(second);
    await untilEnded((await post(`/stacks/${second.id}/destroy`)).body.operation.id);
    expect((await get(`/clusters/${other.id}`)).body.status).toBe('destroyed');
    await registered('taken');
    expect(await record({ name: 'taken' })).toMatchObject({ status: 409, body: { errors: [{ path: 'name' }] } });
    expect((await get('/stacks')).body.items.map(({ name }: Loose) => name)).not.toContain('taken');
    const snapshots = await post('/stacks', {
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
    const plan = async (path: string, body: object) => (await post(path, body)).body;
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
      expect((await get(`/stacks/${stack.id}/plans/${id}`)).body.notes).toEqual(preview.notes);
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
    const credential = await post('/credentials', {
      name: 'ssh',
      kind: 'ssh_private_key',
      value: (await makeSshKeyPair('t')).secret,
    });
    expect(credential.status, JSON.stringify(credential.body)).toBe(201);
    server.simulate('lab', { gitVersion: 'v1.34.1+k3s1', nodes: nodes() });
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
    const unknown = await post('/clusters', { ...body, credentialRef: 'other' });
    expect(unknown).toMatchObject({ status: 422, body: { errors: [{ path: 'credentialRef' }] } });
    const wrong = await post('/clusters', { ...body, hosts: [{ ...body.hosts[0], hostKeySha256: 'x' }] });
    expect(wrong).toMatchObject({ status: 422, body: { errors: [{ path: 'hosts.0.hostKeySha256' }] } });
    const secret = await post('/clusters', { ...body, config: { kubeconfig: yaml } });
    expect(secret.status).toBe(422);
    expect(secret.body.errors.map((error: Loose) => error.path)).toContain('config.kubeconfig');
    const cluster = await made(body);
    expect(cluster).toMatchObject({ kind: 'onprem', endpoint: server.kubernetes.urlOf('lab') });
    const handed = (await get(`/clusters/${cluster.id}/kubeconfig`)).body;
    expect(JSON.parse(handed.kubeconfig).users[0].user).toEqual({ token: 'sandbox' });
    expect(handed.expiresAt).toBeNull();
    expect((await post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.35' })).status).toBe(409);
    delete server.runner.outcomes.up;
  });

  it("is not another org's to see or to change", async () => {
    const cluster = await made(eksBody());
    const other = (await server.makeKey('owner')).key;
    for (const path of ['', '/nodes', '/health', '/events', '/storage-classes', '/kubeconfig'])
      expect((await get(`/clusters/${cluster.id}${path}`, other)).status, path).toBe(404);
    expect((await post(`/clusters/${cluster.id}/upgrade`, { kubernetesVersion: '1.35' }, {}, other)).status).toBe(404);
    expect((await remove(`/clusters/${cluster.id}`, other)).status).toBe(404);
  });

  it('is listed newest first, in pages', async () => {
    const all = (await get('/clusters?limit=500')).body.items.map((one: Loose) => one.id);
    const paged: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const { body } = await get(`/clusters?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`);
      paged.push(...body.items.map((one: Loose) => one.id));
      cursor = body.nextCursor;
    }
    expect(paged).toEqual(all);
    expect(all.length).toBeGreaterThan(5);
  });
});
