/** Agents of a cluster's nodes: an API, a worker's cron, and a simulated cluster that vouches for its Pods. */
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClusterTokens } from '../../automation/clusters/cloud-token.ts';
import { createCheckClustersCron } from '../../automation/cron/check-clusters.ts';
import { createReviewJoinsCron } from '../../automation/cron/review-joins.ts';
import type { LookServices } from '../../automation/clusters/look-at-cluster.ts';
import { makeEksGpuNode } from '../../sandbox/kubernetes-api/nodes.ts';
import type { PodIdentity } from '../../sandbox/kubernetes-api/token-review.ts';
import type { Loose } from '../support/api-server.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';

let server: ClusterServer;
let key: string;
let looking: LookServices;
beforeAll(async () => {
  server = await startClusterServer();
  ({ key } = await server.makeKey('operator'));
  const { db, envelope, kubernetes } = server.services;
  const now = () => new Date();
  looking = {
    db,
    envelope,
    kubernetes,
    clusterTokens: createClusterTokens({ aws: null, azure: null, sandboxToken: null }, now),
    now,
  };
});
afterAll(() => server?.stop());

const log = pino({ level: 'silent' });
const call = (method: string, path: string, body?: unknown, as = key) =>
  server.call(method, `/api/v1${path}`, { key: as, ...(body === undefined ? {} : { body }) });
const review = () => createReviewJoinsCron({ ...looking, log }).run(new AbortController().signal);
/** A look a minute after everybody has joined. */
const look = () =>
  createCheckClustersCron({
    ...looking,
    now: () => new Date(Date.now() + 60_000),
    log,
    dueAfterMs: -3_600_000,
  }).run(new AbortController().signal);

let serial = 0;
async function makeCluster(): Promise<Loose> {
  const name = `lab-${++serial}`;
  const simulated = server.simulate(name, { nodes: [makeEksGpuNode(`${name}-a`), makeEksGpuNode(`${name}-b`)] });
  const made = await call('POST', '/clusters', {
    kind: 'registered',
    name,
    kubeconfig: server.kubernetes.kubeconfigOf(name),
  });
  expect(made.status, JSON.stringify(made.body)).toBe(202);
  const { id } = made.body.cluster;
  const enrolled = await call('POST', `/clusters/${id}/enrolment`);
  expect(enrolled.status, JSON.stringify(enrolled.body)).toBe(201);
  return { id, name, simulated, token: enrolled.body.token };
}

function podToken(cluster: Loose, node: string, change: Partial<PodIdentity> = {}): string {
  return server.kubernetes.issueToken(cluster.name, {
    namespace: 'muster',
    serviceAccount: 'muster-agent',
    podName: `agent-${node}`,
    node: { name: node, uid: `uid-of-${node}` },
    audience: 'muster',
    ...change,
  });
}

const nonceOf = (text: string) => text.padEnd(43, '0');
const join = (token: string, kubernetesToken: string | undefined, nonce = 'n') =>
  server.call('POST', '/api/v1/nodes/register', {
    key: null,
    headers: { 'x-agent-api-key': token },
    body: { nonce: nonceOf(nonce), agentVersion: '1.2.3', hostname: 'pod', kubernetesToken },
  });
const beat = (agentKey: string, sequence = 1) =>
  server.call('POST', '/api/v1/nodes/heartbeat', {
    key: null,
    headers: { 'x-agent-api-key': agentKey },
    body: {
      bootId: 'boot-0001',
      sequence,
      agentVersion: '1.2.3',
      system: SYSTEM,
      gpu: {
        verdict: 'healthy',
        reason: null,
        readAt: null,
        driverVersion: '570.1',
        hardwareType: 'cuda',
        gpus: [GPU],
      },
    },
  });
const SYSTEM = Object.fromEntries(
  'hostname os kernel architecture cpuModel cpuCount load1 memoryTotalMib memoryAvailableMib diskTotalMib diskFreeMib uptimeSeconds agentRssMib'
    .split(' ')
    .map((name) => [name, null]),
);
const GPU = {
  ...Object.fromEntries(
    'uuid busId memoryUsedMib memoryFreeMib utilizationPercent memoryUtilizationPercent temperatureC memoryTemperatureC powerW powerLimitW pstate eccUncorrected migMode problem'
      .split(' ')
      .map((name) => [name, null]),
  ),
  index: 0,
  name: 'NVIDIA A10G',
  memoryTotalMib: 23_028,
  migDevices: [{ index: 0, uuid: null, profile: '1g.5gb', memoryTotalMib: null, memoryUsedMib: null }],
};

/** Asks, lets the cluster be asked, asks again. */
async function joined(cluster: Loose, node: string, nonce = 'n'): Promise<{ nodeId: string; key: string }> {
  const proof = podToken(cluster, node);
  const first = await join(cluster.token, proof, nonce);
  expect(first, JSON.stringify(first.body)).toMatchObject({ status: 503, body: { code: 'unavailable' } });
  expect(first.headers.get('retry-after')).not.toBeNull();
  await review();
  const second = await join(cluster.token, proof, nonce);
  expect(second.status, JSON.stringify(second.body)).toBe(201);
  return second.body;
}

describe("an agent of a cluster's node", () => {
  it('joins as the node that its cluster names, whatever it says itself, and is shown beside what Kubernetes tells', async () => {
    const cluster = await makeCluster();
    const [a, b] = [await joined(cluster, `${cluster.name}-a`, 'a'), await joined(cluster, `${cluster.name}-b`, 'b')];
    expect(a.nodeId).not.toBe(b.nodeId);
    expect((await beat(a.key)).status).toBe(200);
    expect((await call('GET', `/nodes/${a.nodeId}`)).body).toMatchObject({
      status: 'online',
      instanceId: null,
      host: null,
      cluster: { id: cluster.id, name: cluster.name, nodeName: `${cluster.name}-a` },
      gpu: { hardwareType: 'cuda' },
    });
    const listed = (await call('GET', `/nodes?clusterId=${cluster.id}`)).body.items;
    expect(listed.map(({ id }: Loose) => id).sort()).toEqual([a.nodeId, b.nodeId].sort());
    const { items } = (await call('GET', `/clusters/${cluster.id}/nodes`)).body;
    expect(items[0]).toMatchObject({
      name: `${cluster.name}-a`,
      driverVersion: '570.133.20',
      agent: {
        nodeId: a.nodeId,
        status: 'online',
        health: 'healthy',
        hardwareType: 'cuda',
        driverVersion: '570.1',
        gpuModels: ['NVIDIA A10G'],
        gpuCount: 1,
        gpuMemoryMib: 23_028,
        migDevices: 1,
      },
    });
    expect(items[1].agent).toMatchObject({ nodeId: b.nodeId, gpuCount: null, health: 'unknown' });
    expect((await call('DELETE', `/nodes/${a.nodeId}`)).body).toMatchObject({ code: 'conflict', state: 'in_cluster' });
    // What it proved itself by is kept nowhere.
    const rows = await server.database.kysely.selectFrom('cluster_joins').selectAll().execute();
    expect(rows.filter((row) => row.cluster_id === cluster.id)).toEqual([]);
  });

  it('that lost its key gets another for the same node, and the one before is worth nothing', async () => {
    const cluster = await makeCluster();
    const first = await joined(cluster, `${cluster.name}-a`, 'first');
    const second = await joined(cluster, `${cluster.name}-a`, 'second');
    expect(second.nodeId).toBe(first.nodeId);
    expect((await beat(first.key)).status).toBe(401);
    expect((await beat(second.key)).status).toBe(200);
  });

  it('may ask again where the answer was lost', async () => {
    const cluster = await makeCluster();
    const node = `${cluster.name}-a`;
    const first = await joined(cluster, node);
    const second = await joined(cluster, node);
    expect(second.nodeId).toBe(first.nodeId);
    expect((await beat(second.key)).status).toBe(200);
  });

  it.each<[string, Partial<PodIdentity>, RegExp]>([
    [
      'of another service account',
      { serviceAccount: 'default' },
      /not one of system:serviceaccount:muster:muster-agent/,
    ],
    ['of another namespace', { namespace: 'tenant' }, /not one of/],
    ['for another audience', { audience: 'vault' }, /does not know its service account token/],
    ['that is bound to no Pod', { node: null }, /on which node its Pod runs/],
  ])('is refused with a service account token %s', async (_name, change, why) => {
    const cluster = await makeCluster();
    const proof = podToken(cluster, `${cluster.name}-a`, change);
    expect((await join(cluster.token, proof)).status).toBe(503);
    await review();
    const refused = await join(cluster.token, proof);
    expect(refused).toMatchObject({ status: 401, body: { detail: expect.stringMatching(why) } });
    // With a good one it is asked anew.
    expect((await join(cluster.token, podToken(cluster, `${cluster.name}-a`))).status).toBe(503);
    await review();
    expect((await join(cluster.token, podToken(cluster, `${cluster.name}-a`))).status).toBe(201);
  });

  it('is refused with a token of a Pod that is no more, of another cluster, or without any', async () => {
    const [cluster, other] = [await makeCluster(), await makeCluster()];
    const node = `${cluster.name}-a`;
    const ended = podToken(cluster, node);
    server.kubernetes.endPod(cluster.name, `agent-${node}`);
    const foreign = podToken(other, node);
    await join(cluster.token, ended, 'e');
    await join(cluster.token, foreign, 'f');
    await review();
    expect((await join(cluster.token, ended, 'e')).status).toBe(401);
    expect((await join(cluster.token, foreign, 'f')).status).toBe(401);
    expect((await join(cluster.token, undefined)).body.detail).toMatch(/service account token is needed/);
    expect((await join(cluster.token, 'no-token-at-all')).status).toBe(422);
    expect((await join(`mn_${'x'.repeat(43)}`, podToken(cluster, node))).status).toBe(401);
  });

  it('waits, and is told why, while its cluster cannot be asked', async () => {
    const cluster = await makeCluster();
    const proof = podToken(cluster, `${cluster.name}-a`);
    await join(cluster.token, proof);
    cluster.simulated.denied.add('create tokenreviews');
    await review();
    expect(await join(cluster.token, proof)).toMatchObject({
      status: 503,
      body: { detail: expect.stringMatching(/system:auth-delegator/) },
    });
    cluster.simulated.denied.clear();
    cluster.simulated.fault = { kind: 'down' };
    await review();
    expect((await join(cluster.token, proof)).body.detail).toMatch(/does not answer/);
    cluster.simulated.fault = null;
    await review();
    expect((await join(cluster.token, proof)).status).toBe(201);
  });

  it('is gone when its node leaves the cluster, and not while the cluster does not answer; the same name later is another node', async () => {
    const cluster = await makeCluster();
    const node = `${cluster.name}-a`;
    const first = await joined(cluster, node);
    expect((await beat(first.key)).status).toBe(200);
    const { nodes } = cluster.simulated;
    cluster.simulated.fault = { kind: 'down' };
    await look();
    expect((await beat(first.key, 2)).status).toBe(200);
    cluster.simulated.fault = null;
    cluster.simulated.nodes = nodes.filter(({ metadata }: Loose) => metadata.name !== node);
    await look();
    expect((await beat(first.key, 3)).status).toBe(401);
    expect((await call('GET', `/nodes/${first.nodeId}`)).body).toMatchObject({
      status: 'gone',
      statusReason: 'its cluster has it no longer',
    });
    expect((await call('GET', `/nodes?status=gone&clusterId=${cluster.id}`)).body.items).toHaveLength(1);
    const again = podToken(cluster, node, { node: { name: node, uid: 'uid-of-its-successor' } });
    await join(cluster.token, again, 'x');
    await review();
    expect((await join(cluster.token, again, 'x')).body.nodeId).not.toBe(first.nodeId);
    expect((await call('DELETE', `/nodes/${first.nodeId}`)).status).toBe(204);
  });
});

describe("a cluster's token", () => {
  it('is replaced with a time of overlap, and revoked at once', async () => {
    const cluster = await makeCluster();
    const proof = (nonce: string) => podToken(cluster, `${cluster.name}-a`, { podName: nonce });
    const second = (await call('POST', `/clusters/${cluster.id}/enrolment`, {})).body;
    expect(second).toMatchObject({ audience: 'muster', serviceAccount: 'muster-agent', namespace: 'muster' });
    expect(second.previousUntil).not.toBeNull();
    expect((await join(cluster.token, proof('a'), 'a')).status).toBe(503);
    expect((await join(second.token, proof('b'), 'b')).status).toBe(503);
    const third = (await call('POST', `/clusters/${cluster.id}/enrolment`)).body;
    expect((await join(cluster.token, proof('c'), 'c')).status).toBe(401);
    expect((await join(second.token, proof('d'), 'd')).status).toBe(503);
    expect((await call('DELETE', `/clusters/${cluster.id}/enrolment`)).status).toBe(204);
    expect((await join(third.token, proof('e'), 'e')).status).toBe(401);
    expect(server.log.join('\n')).not.toContain(third.token);
  });

  it('goes with its cluster, and its nodes are gone then', async () => {
    const cluster = await makeCluster();
    const { nodeId, key: agentKey } = await joined(cluster, `${cluster.name}-a`);
    expect((await call('DELETE', `/clusters/${cluster.id}`)).status).toBe(200);
    expect((await beat(agentKey)).status).toBe(401);
    expect((await call('GET', `/nodes/${nodeId}`)).body.status).toBe('gone');
    expect((await join(cluster.token, podToken(cluster, 'x'))).status).toBe(401);
    expect((await call('POST', `/clusters/${cluster.id}/enrolment`)).status).toBe(409);
  });

  it("is not another org's to ask for, nor a viewer's", async () => {
    const cluster = await makeCluster();
    const [other, viewer] = [await server.makeKey('owner'), await server.makeKey('viewer')];
    for (const method of ['POST', 'DELETE'])
      expect((await call(method, `/clusters/${cluster.id}/enrolment`, undefined, other.key)).status).toBe(404);
    expect((await call('POST', `/clusters/${cluster.id}/enrolment`, undefined, viewer.key)).status).toBe(403);
  });
});
