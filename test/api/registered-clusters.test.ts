/** Clusters that are there already: registered with their kubeconfig, looked at, and forgotten. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeAuthority } from '../../sandbox/kubernetes-api/certificates.ts';
import type { Loose } from '../support/api-server.ts';
import { createClusterCaller, makeNodes, type ClusterCaller } from '../support/cluster-caller.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';

let server: ClusterServer;
let caller: ClusterCaller;
beforeAll(async () => {
  server = await startClusterServer();
  caller = await createClusterCaller(server);
});
afterAll(() => server.stop());

describe('registering a cluster', () => {
  it('connects, tells what answers, and shows nodes, health, warnings and storage at once', async () => {
    server.simulate('first', {
      nodes: makeNodes(),
      warnings: [
        { reason: 'BackOff', message: 'again', object: 'pod', count: 2, lastTimestamp: '2026-11-21T09:00:00Z' },
      ],
    });
    const kubeconfig = server.kubernetes.kubeconfigOf('first');
    const reply = await caller.post('/clusters', { kind: 'registered', name: 'first', kubeconfig });
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
    expect((await caller.get(`/clusters/${id}/nodes`)).body.items).toMatchObject([
      { name: 'gpu', hardwareType: 'cuda', gpuCount: 1, driverVersion: '570.133.20' },
      { name: 'sys', hardwareType: 'cpu' },
    ]);
    expect((await caller.get(`/clusters/${id}/health`)).body).toMatchObject({
      status: 'available',
      changing: null,
      unfitNodes: [],
    });
    expect((await caller.get(`/clusters/${id}/events`)).body.items).toMatchObject([{ reason: 'BackOff', count: 2 }]);
    expect((await caller.get(`/clusters/${id}/storage-classes`)).body.items).toMatchObject([
      { name: 'gp3', isDefault: true },
    ]);
    expect((await caller.get('/clusters?kind=registered')).body.items.map((one: Loose) => one.id)).toContain(id);
  });

  it('takes YAML too', async () => {
    const { clusters } = JSON.parse(server.kubernetes.kubeconfigOf('yaml'));
    server.simulate('yaml', { nodes: makeNodes() });
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
    expect((await caller.post('/clusters', { kind: 'registered', name: 'yaml', kubeconfig })).body.cluster.status).toBe(
      'available',
    );
  });

  it.each([
    ['an exec plugin', { exec: { command: 'aws' } }, 'kubeconfig.users.0.user.exec'],
    ['a token in a file', { tokenFile: '/var/run/token' }, 'kubeconfig.users.0.user.tokenFile'],
  ])('refuses %s before anything is asked or made', async (_name, user, path) => {
    const cluster = server.simulate('refused', { nodes: makeNodes() });
    const config = JSON.parse(server.kubernetes.kubeconfigOf('refused'));
    config.users[0].user = user;
    const reply = await caller.post('/clusters', { kind: 'registered', name: 'refused', kubeconfig: config });
    expect(reply).toMatchObject({ status: 422, body: { code: 'invalid_request', errors: [{ path }] } });
    expect(cluster.asked).toEqual([]);
  });

  it('refuses what is no YAML without repeating it', async () => {
    const reply = await caller.post('/clusters', {
      kind: 'registered',
      name: 'bad',
      kubeconfig: 'token: "hunter2\n\tx: [',
    });
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
    server.simulate('wrong', { nodes: makeNodes() });
    const config = JSON.parse(server.kubernetes.kubeconfigOf('wrong'));
    change(config);
    const reply = await caller.post('/clusters', { kind: 'registered', name: 'wrong', kubeconfig: config });
    expect(reply).toMatchObject({ status, body: { code } });
    expect(reply.body.detail).toMatch(message);
    const { items } = (await caller.get('/clusters')).body;
    expect(items.map((one: Loose) => one.name)).not.toContain('wrong');
    const kept = await server.database.kysely.selectFrom('cluster_access').selectAll().execute();
    expect(kept).toHaveLength(items.length);
  });

  it('refuses a user without the rights to look, naming them', async () => {
    server.simulate('blind', { nodes: makeNodes(), denied: new Set(['list nodes']) });
    const reply = await caller.post('/clusters', {
      kind: 'registered',
      name: 'blind',
      kubeconfig: server.kubernetes.kubeconfigOf('blind'),
    });
    expect(reply).toMatchObject({ status: 422, body: { code: 'cluster_refused' } });
    expect(reply.body.detail).toMatch(/no right to list nodes/);
  });

  it('refuses a name that is taken and a cluster that is there by another name, naming it', async () => {
    const cluster = await caller.registered('original');
    const kubeconfig = server.kubernetes.kubeconfigOf('original');
    const taken = await caller.post('/clusters', { kind: 'registered', name: 'original', kubeconfig });
    expect(taken).toMatchObject({ status: 409, body: { code: 'conflict', errors: [{ path: 'name' }] } });
    const twice = await caller.post('/clusters', { kind: 'registered', name: 'copy', kubeconfig });
    expect(twice).toMatchObject({ status: 409, body: { code: 'conflict' } });
    expect(twice.body.detail).toContain(`original (${cluster.id})`);
    const other = await server.makeKey('operator');
    expect(
      (await caller.post('/clusters', { kind: 'registered', name: 'copy', kubeconfig }, {}, other.key)).status,
    ).toBe(202);
  });

  it('happens once per Idempotency-Key', async () => {
    server.simulate('once', { nodes: makeNodes() });
    const body = { kind: 'registered', name: 'once', kubeconfig: server.kubernetes.kubeconfigOf('once') };
    const first = await caller.post('/clusters', body, { 'Idempotency-Key': 'once' });
    const second = await caller.post('/clusters', body, { 'Idempotency-Key': 'once' });
    expect(second.status).toBe(202);
    expect(second.body).toEqual(first.body);
  });
});

describe('the kubeconfig of a cluster', () => {
  it('is handed to operators, written down, and to nobody else', async () => {
    const cluster = await caller.registered('secret');
    const viewer = await server.makeKey('viewer', caller.orgId);
    expect((await caller.get(`/clusters/${cluster.id}/kubeconfig`, viewer.key)).status).toBe(403);
    const reply = await caller.get(`/clusters/${cluster.id}/kubeconfig`);
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
    const cluster = server.simulate('marked', { nodes: makeNodes(), tokens: new Set(['a-very-secret-token']) });
    const kubeconfig = server.kubernetes.kubeconfigOf('marked', 'a-very-secret-token');
    const { body } = await caller.post('/clusters', { kind: 'registered', name: 'marked', kubeconfig });
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
    const cluster = await caller.registered('rotated');
    const simulated = server.kubernetes.clusters.get('rotated') as Loose;
    await caller.registered('elsewhere');
    const other = await caller.post(`/clusters/${cluster.id}/kubeconfig`, {
      kubeconfig: server.kubernetes.kubeconfigOf('elsewhere'),
    });
    expect(other).toMatchObject({ status: 409, body: { code: 'conflict' } });
    const stranger = await caller.post(`/clusters/${cluster.id}/kubeconfig`, {
      kubeconfig: server.kubernetes.kubeconfigOf('rotated', 'no'),
    });
    expect(stranger).toMatchObject({ status: 422, body: { code: 'cluster_refused' } });
    expect(
      JSON.parse((await caller.get(`/clusters/${cluster.id}/kubeconfig`)).body.kubeconfig).users[0].user.token,
    ).toBe('sandbox');
    simulated.tokens = new Set(['fresh']);
    const replaced = await caller.post(`/clusters/${cluster.id}/kubeconfig`, {
      kubeconfig: server.kubernetes.kubeconfigOf('rotated', 'fresh'),
    });
    expect(replaced).toMatchObject({ status: 202, body: { cluster: { status: 'available' } } });
    expect(
      JSON.parse((await caller.get(`/clusters/${cluster.id}/kubeconfig`)).body.kubeconfig).users[0].user.token,
    ).toBe('fresh');
  });

  it('is forgotten with its cluster, at which nothing changes', async () => {
    const cluster = await caller.registered('forgotten');
    const simulated = server.kubernetes.clusters.get('forgotten') as Loose;
    const asked = simulated.asked.length;
    expect(await caller.remove(`/clusters/${cluster.id}`)).toMatchObject({
      status: 200,
      body: { status: 'destroyed', allowedActions: [] },
    });
    expect(simulated.asked).toHaveLength(asked);
    expect((await caller.get(`/clusters/${cluster.id}/kubeconfig`)).status).toBe(409);
    expect((await caller.get('/clusters')).body.items.map((one: Loose) => one.id)).not.toContain(cluster.id);
    expect((await caller.registered('forgotten')).id).not.toBe(cluster.id);
  });
});
