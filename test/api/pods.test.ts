import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPlacePodsCron } from '../../automation/cron/place-pods.ts';
import { inTransaction } from '../../db/database.ts';
import { rescheduleLost } from '../../db/place-pods.ts';
import { listOffers, startApiServer, type ApiServer, type Loose } from '../support/api-server.ts';
import { recordMachine } from '../support/node-token.ts';
import { addPodNode, type NodeMakeUp, type PodNode } from '../support/pod-node.ts';

let server: ApiServer;
const images: string[] = ['*'];
beforeAll(async () => {
  server = await startApiServer({ podImages: images });
  await listOffers(server, [{}]);
});
afterAll(() => server?.stop());

/** An org of its own for each test, with as many nodes as wanted. */
async function org(...makeUps: NodeMakeUp[]) {
  const { key, orgId } = await server.makeKey('operator');
  const nodes: PodNode[] = [];
  for (const makeUp of makeUps) nodes.push(await addPodNode(server, key, makeUp));
  const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    server.call(method, `/api/v1${path}`, { key, headers, ...(body === undefined ? {} : { body }) });
  return {
    key,
    orgId,
    nodes: nodes as [PodNode, PodNode],
    call,
    make: async (change: object = {}): Promise<Loose> => {
      const reply = await call('POST', '/pods', { image: 'busybox', ...change });
      if (reply.status !== 201) throw new Error(JSON.stringify(reply.body));
      return reply.body;
    },
    get: async (id: string): Promise<Loose> => (await call('GET', `/pods/${id}`)).body,
  };
}

const rowOf = (podId: string) =>
  server.database.kysely.selectFrom('pods').select('requirements').where('id', '=', podId).executeTakeFirstOrThrow();

const audited = async (orgId: string) =>
  (
    await server.database.kysely
      .selectFrom('audit_log')
      .select('action')
      .where('org_id', '=', orgId)
      .where('target_kind', '=', 'pod')
      .orderBy('seq')
      .execute()
  ).map((row) => row.action);

describe('a pod', () => {
  it('is placed at once, and its agent is told all that it needs', async () => {
    const { nodes, make, get, orgId } = await org({ gpus: 2 });
    const pod = await make({
      name: 'train',
      gpuCount: 1,
      gpuModel: 'RTX 4090',
      args: ['echo', 'hi'],
      env: { A: '1' },
      secretEnv: { TOKEN: 'very-secret' },
      ports: [{ containerPort: 80 }],
      mounts: [{ kind: 'workspace', target: '/workspace' }],
    });
    expect(pod).toMatchObject({
      name: 'train',
      status: 'scheduled',
      nodeId: nodes[0].id,
      gpus: [{ index: 0, uuid: 'GPU-0' }],
      secretEnvNames: ['TOKEN'],
      allowedActions: ['stop', 'restart', 'delete'],
    });
    const { pods } = await nodes[0].desired();
    expect(pods).toEqual([
      expect.objectContaining({
        podId: pod.id,
        run: 1,
        state: 'running',
        gpus: [{ index: 0, uuid: 'GPU-0' }],
        registryLogin: null,
      }),
    ]);
    expect(pods[0]?.spec).toMatchObject({
      image: 'busybox',
      args: ['echo', 'hi'],
      env: { A: '1', TOKEN: 'very-secret' },
    });
    const ports = [{ containerPort: 80, hostPort: 49_153, protocol: 'tcp' as const }];
    await nodes[0].beat([
      { podId: pod.id, status: 'running', startedAt: '2026-11-21T12:00:00.000Z', ports, imageDigest: 'sha256:1' },
    ]);
    expect(await get(pod.id)).toMatchObject({ status: 'running', ports, imageDigest: 'sha256:1', exitCode: null });
    expect(await audited(orgId)).toEqual(['pod.create']);
  });

  it('shows nothing of what is secret, anywhere', async () => {
    const { make, call, key } = await org({});
    const made = await make({ secretEnv: { TOKEN: 'hush-hush-value' } });
    const all = [made, (await call('GET', '/pods')).body, (await call('GET', `/pods/${made.id}`)).body];
    const { rows } = await server.database.pool.query(
      `select pods::text, (select jsonb_agg(a) from audit_log a)::text from pods`,
    );
    expect(JSON.stringify([all, rows, server.log])).not.toContain('hush-hush-value');
    expect(JSON.stringify(server.log)).not.toContain(key);
  });

  it('waits with the reason where nothing fits, and is placed when there is room', async () => {
    const { nodes, make, get, call } = await org({ gpus: 1 });
    const first = await make({ gpuCount: 1 });
    const second = await make({ gpuCount: 1 });
    expect(second).toMatchObject({ status: 'pending', nodeId: null, reason: 'no node fits: 1 with too few free GPUs' });
    await call('DELETE', `/pods/${first.id}`);
    expect(await get(second.id)).toMatchObject({ status: 'pending' });
    await nodes[0].obey();
    expect(await get(first.id)).toMatchObject({ status: 'removed', allowedActions: [] });
    await createPlacePodsCron({ db: server.database.kysely, intervalMs: 10_000 }).run(new AbortController().signal);
    expect(await get(second.id)).toMatchObject({ status: 'scheduled', nodeId: nodes[0].id });
  });

  it('of many at once never gets a GPU that another has', async () => {
    const { make, call } = await org({ gpus: 2 }, { gpus: 1 });
    const pods = await Promise.all(Array.from({ length: 8 }, () => make({ gpuCount: 1 })));
    const placed = pods.filter((pod) => pod.nodeId !== null).map((pod) => `${pod.nodeId}/${pod.gpus[0].index}`);
    expect(placed).toHaveLength(3);
    expect(new Set(placed).size).toBe(3);
    expect((await call('GET', '/pods?status=pending')).body.items).toHaveLength(5);
  });

  it('is made once for one idempotency key', async () => {
    const { call } = await org({});
    const body = { image: 'busybox' };
    const [one, two] = [
      await call('POST', '/pods', body, { 'idempotency-key': 'k' }),
      await call('POST', '/pods', body, { 'idempotency-key': 'k' }),
    ];
    expect(two.body.id).toBe(one.body.id);
  });

  it('of another org is not found, nor its node', async () => {
    const mine = await org({});
    const theirs = await org();
    const pod = await mine.make();
    for (const [method, path] of [
      ['GET', ''],
      ['DELETE', ''],
      ['POST', '/stop'],
      ['GET', '/logs'],
    ] as const)
      expect((await theirs.call(method, `/pods/${pod.id}${path}`)).status).toBe(404);
    const reply = await theirs.call('POST', '/pods', { image: 'busybox', nodeId: mine.nodes[0].id });
    expect(reply.body.errors).toEqual([{ path: 'nodeId', message: `there is no node ${mine.nodes[0].id}` }]);
  });

  it.each<[object, string]>([
    [{ image: 'Not An Image' }, 'image'],
    [{ mounts: [{ kind: 'workspace', path: '../etc', target: '/x' }] }, 'mounts.0.path'],
    [{ mounts: [{ kind: 'workspace', path: '/etc', target: '/x' }] }, 'mounts.0.path'],
    [{ mounts: [{ kind: 'bind', path: '/etc', target: '/x' }] }, 'mounts.0.kind'],
    [{ mounts: [{ kind: 'workspace', target: '/' }] }, 'mounts.0.target'],
    [
      {
        mounts: [
          { kind: 'volume', name: 'a', target: '/x' },
          { kind: 'volume', name: 'b', target: '/x' },
        ],
      },
      'mounts.1.target',
    ],
    [{ env: { 'A=B': '1' } }, 'env.A=B'],
    [{ env: { A: '1' }, secretEnv: { A: '2' } }, 'secretEnv.A'],
    [{ gpuModel: 'RTX 4090' }, 'gpuCount'],
    [{ healthCheck: { probe: { kind: 'tcp', port: 80 } } }, 'healthCheck.probe.port'],
    [{ privileged: true }, 'privileged'],
    [{ registryCredentialRef: 'nobody' }, 'registryCredentialRef'],
  ])('%j is refused at %s', async (change, path) => {
    const { call } = await org();
    const reply = await call('POST', '/pods', { image: 'busybox', ...change });
    expect(reply.status).toBe(422);
    expect(reply.body.errors.map((error: Loose) => error.path)).toContain(path);
  });

  it('has an image that the deployment allows, and a name of its own', async () => {
    const { call, make } = await org({});
    images.splice(0, 1, 'docker.io/library/*');
    try {
      expect((await call('POST', '/pods', { image: 'ghcr.io/acme/x' })).body).toMatchObject({
        status: 422,
        code: 'policy_violated',
        errors: [{ path: 'image' }],
      });
      await make({ name: 'web' });
      expect((await call('POST', '/pods', { image: 'busybox', name: 'web' })).status).toBe(409);
    } finally {
      images.splice(0, 1, '*');
    }
  });
});

describe("a registry's login", () => {
  it('goes to the agent for images of that registry, and for no other', async () => {
    const { call, make, nodes } = await org({});
    const body = { name: 'ghcr', kind: 'registry', registry: 'ghcr.io', value: 'robot:pass:word' };
    const made = await call('POST', '/credentials', body);
    expect(made.body).toMatchObject({ kind: 'registry', publicPart: 'ghcr.io' });
    const pod = await make({ image: 'ghcr.io/acme/x', registryCredentialRef: 'ghcr' });
    const { pods } = await nodes[0].desired();
    expect(pods[0]?.registryLogin).toEqual({ registry: 'ghcr.io', username: 'robot', password: 'pass:word' });
    const other = await call('POST', '/pods', { image: 'evil.example/acme/x', registryCredentialRef: 'ghcr' });
    expect(other.body.errors).toEqual([
      { path: 'registryCredentialRef', message: 'is for ghcr.io, and the image is of evil.example' },
    ]);
    expect((await call('DELETE', `/credentials/${made.body.id}`)).status).toBe(409);
    await call('DELETE', `/pods/${pod.id}`);
    await nodes[0].obey();
    expect((await call('DELETE', `/credentials/${made.body.id}`)).status).toBe(204);
  });

  it.each([
    [{ value: 'no-colon', registry: 'ghcr.io' }, 'value'],
    [{ value: 'a:b' }, 'registry'],
    [{ value: 'a:b', registry: 'https://ghcr.io' }, 'registry'],
  ])('%j is refused at %s', async (change, path) => {
    const { call } = await org();
    const reply = await call('POST', '/credentials', { name: 'x', kind: 'registry', ...change });
    expect(reply.body.errors.map((error: Loose) => error.path)).toEqual([path]);
    expect(JSON.stringify(reply.body)).not.toContain('no-colon');
  });
});

describe('stop, start, restart and delete', () => {
  it('are carried out by the agent, run by run', async () => {
    const { call, make, get, nodes, orgId } = await org({});
    const { id } = await make();
    await nodes[0].obey();
    expect((await call('POST', `/pods/${id}/stop`)).body).toMatchObject({ status: 'stopping' });
    expect((await call('POST', `/pods/${id}/start`)).status).toBe(409);
    await nodes[0].obey();
    expect(await get(id)).toMatchObject({ status: 'stopped', allowedActions: ['start', 'delete'] });
    expect((await call('POST', `/pods/${id}/start`)).body).toMatchObject({
      status: 'scheduled',
      run: 2,
      nodeId: nodes[0].id,
    });
    await nodes[0].beat([{ podId: id, run: 1, status: 'exited', exitCode: 0 }]);
    expect(await get(id)).toMatchObject({ status: 'scheduled', exitCode: null });
    await nodes[0].obey();
    expect((await call('POST', `/pods/${id}/restart`)).body).toMatchObject({ status: 'scheduled', run: 3 });
    await nodes[0].beat([{ podId: id, run: 3, status: 'failed', exitCode: 7, reason: 'ended with 7' }]);
    expect(await get(id)).toMatchObject({
      status: 'failed',
      exitCode: 7,
      reason: 'ended with 7',
      allowedActions: ['start', 'restart', 'delete'],
    });
    expect((await nodes[0].desired()).pods[0]).toMatchObject({ state: 'stopped' });
    await call('DELETE', `/pods/${id}`);
    expect(await get(id)).toMatchObject({ status: 'removing' });
    await nodes[0].obey();
    expect(await get(id)).toMatchObject({ status: 'removed', nodeId: null });
    expect((await nodes[0].desired()).pods).toEqual([]);
    expect(await audited(orgId)).toEqual(['pod.create', 'pod.stop', 'pod.start', 'pod.restart', 'pod.delete']);
  });

  it('of a pod that no node has are done at once', async () => {
    const { call, make } = await org();
    const { id } = await make();
    expect((await call('POST', `/pods/${id}/stop`)).body).toMatchObject({ status: 'stopped' });
    expect((await call('DELETE', `/pods/${id}`)).body).toMatchObject({ status: 'removed' });
    expect((await call('GET', '/pods')).body.items).toEqual([]);
    expect((await call('GET', '/pods?includeRemoved=true')).body.items).toHaveLength(1);
  });

  it('wake the agent that waits for a word', async () => {
    const { nodes, make } = await org({});
    const { revision } = await nodes[0].desired();
    const waiting = server.call('GET', `/api/v1/nodes/desired?after=${revision}&waitMs=20000`, {
      key: null,
      headers: { 'x-agent-api-key': nodes[0].agentKey },
    });
    const pod = await make();
    expect((await waiting).body.pods.map((one: Loose) => one.podId)).toEqual([pod.id]);
  });
});

describe('draining a node', () => {
  it('moves its pods: each is started elsewhere only when it has ended', async () => {
    const { call, make, get, nodes } = await org({ gpus: 1 }, { gpus: 1 });
    const { id, nodeId } = await make({ gpuCount: 1 });
    const [from, to] = nodeId === nodes[0].id ? nodes : [nodes[1], nodes[0]];
    const stays = await make({ nodeId: from.id });
    await from.obey();
    expect((await call('POST', `/nodes/${from.id}/drain`)).body).toMatchObject({ isCordoned: true });
    expect(await get(id)).toMatchObject({ status: 'running', isLeaving: true, nodeId: from.id });
    expect((await to.desired()).pods).toEqual([]);
    expect(await get(stays.id)).toMatchObject({ status: 'stopping' });
    await from.obey();
    expect(await get(id)).toMatchObject({ status: 'scheduled', isLeaving: false, nodeId: to.id, run: 2, moves: 1 });
    expect(await get(stays.id)).toMatchObject({ status: 'stopped', reason: `its node ${from.id} was drained` });
    expect((await call('POST', '/pods', { image: 'busybox', nodeId: from.id })).body.reason).toMatch(/1 cordoned/);
  });
});

describe('a node that is lost', () => {
  it('gives up its pods by their policies, once', async () => {
    const { make, get, nodes, orgId, call } = await org({}, {});
    await call('POST', `/nodes/${nodes[1].id}/cordon`);
    const moved = await make({ name: 'moved' });
    const stays = await make({ name: 'stays', onNodeLost: 'stop' });
    const deleted = await make({ name: 'deleted' });
    await nodes[0].obey();
    await call('DELETE', `/pods/${deleted.id}`);
    await call('POST', `/nodes/${nodes[1].id}/uncordon`);
    const lose = () =>
      inTransaction(server.database.kysely, (tx) => rescheduleLost(tx, nodes[0].id, 'no sign of life'));
    await call('POST', `/nodes/${nodes[0].id}/cordon`);
    expect(await lose()).toEqual({ rescheduled: 1, lost: 1 });
    expect(await lose()).toEqual({ rescheduled: 0, lost: 0 });
    await createPlacePodsCron({ db: server.database.kysely, intervalMs: 10_000 }).run(new AbortController().signal);
    expect(await get(moved.id)).toMatchObject({ status: 'scheduled', nodeId: nodes[1].id, run: 2, moves: 1 });
    expect(await get(stays.id)).toMatchObject({
      status: 'lost',
      nodeId: null,
      reason: `its node ${nodes[0].id} was lost: no sign of life`,
    });
    expect(await get(deleted.id)).toMatchObject({ status: 'removed' });
    // Should it come back, it is told to remove what it has, and what it says counts for nothing.
    expect((await nodes[0].desired()).pods).toEqual([]);
    await nodes[0].beat([{ podId: moved.id, run: 1, status: 'running' }]);
    expect(await get(moved.id)).toMatchObject({ status: 'scheduled', nodeId: nodes[1].id });
    expect((await audited(orgId)).slice(-2).sort()).toEqual(['pod.lose', 'pod.reschedule']);
  });

  it('or was the machine of an instance that is destroyed: what waits for it is lost, and can be started elsewhere', async () => {
    const { call, make, get, orgId, nodes } = await org({});
    const db = server.database.kysely;
    const { instanceId } = await recordMachine(server);
    await db
      .updateTable('instances')
      .set({ org_id: orgId, status: 'hibernated' })
      .where('id', '=', instanceId)
      .execute();
    const bound = await make({ name: 'bound', instanceId, secretEnv: { TOKEN: 'x' } });
    const pinned = await make({ name: 'pinned' });
    await nodes[0].obey();
    await db.updateTable('pods').set({ status: 'pending', node_id: null }).where('id', '=', pinned.id).execute();
    const requirements = JSON.stringify({ ...(await rowOf(pinned.id)).requirements, nodeId: nodes[0].id });
    await db.updateTable('pods').set({ requirements }).where('id', '=', pinned.id).execute();
    const cron = createPlacePodsCron({ db, intervalMs: 10_000 });
    const { signal } = new AbortController();
    await cron.run(signal);
    expect(await get(bound.id)).toMatchObject({ status: 'pending' });
    await db.updateTable('instances').set({ status: 'destroying' }).where('id', '=', instanceId).execute();
    expect(await cron.run(signal)).toMatchObject({ lost: 1 });
    const lost = { status: 'lost', nodeId: null, reason: `its instance ${instanceId} is destroyed` };
    expect(await get(bound.id)).toMatchObject({
      ...lost,
      finishedAt: expect.any(String),
      allowedActions: expect.arrayContaining(['start', 'delete']),
    });
    expect(await audited(orgId)).toContain('pod.lose');
    // Bound as it is, it comes to the same end.
    await call('POST', `/pods/${bound.id}/start`);
    await cron.run(signal);
    expect(await get(bound.id)).toMatchObject(lost);
    // A node that is gone for good is no better.
    await db.updateTable('pods').set({ status: 'pending', node_id: null }).where('id', '=', pinned.id).execute();
    await db.updateTable('hosts').set({ removed_at: new Date() }).where('node_id', '=', nodes[0].id).execute();
    await cron.run(signal);
    expect(await get(pinned.id)).toMatchObject({ status: 'lost', reason: `its node ${nodes[0].id} is gone` });
  });

  it('by the word of whoever looks after nodes gets none before its heartbeats are overdue', async () => {
    const { nodes, make } = await org({});
    const watch = {
      node_id: nodes[0].id,
      verdict: 'suspect' as const,
      since: new Date(),
      is_silent: true,
      heard_at: new Date(),
    };
    await server.database.kysely.insertInto('node_watches').values(watch).execute();
    expect(await make()).toMatchObject({ status: 'pending', reason: 'no node fits: 1 not heard of' });
  });

  it('because its host was removed is found by the cron', async () => {
    const { make, get, nodes } = await org({}, {});
    const pod = await make();
    await server.database.kysely
      .updateTable('hosts')
      .set({ removed_at: new Date() })
      .where('node_id', '=', pod.nodeId)
      .execute();
    const cron = createPlacePodsCron({ db: server.database.kysely, intervalMs: 10_000 });
    expect(await cron.hasWork?.()).toBe(true);
    await cron.run(new AbortController().signal);
    expect((await get(pod.id)).nodeId).toBe(nodes.find(({ id }) => id !== pod.nodeId)?.id);
    expect(await cron.run(new AbortController().signal)).toMatchObject({ rescheduled: 0, placed: 0 });
  });
});

it('webhooks are told of each status', async () => {
  const { call, make, nodes } = await org({});
  const webhook = await call('POST', '/webhooks', { url: 'https://example.com/hook', events: ['pod.*'] });
  expect(webhook.status).toBe(201);
  const { id } = await make();
  await nodes[0].obey();
  const told = await server.database.kysely
    .selectFrom('webhook_deliveries')
    .select('type')
    .where('object_id', '=', id)
    .orderBy('seq')
    .execute();
  expect(told.map((row) => row.type)).toEqual(['pod.pending', 'pod.scheduled', 'pod.running']);
});

describe('heartbeats', () => {
  it('that say nothing new write nothing of pods', async () => {
    const { make, nodes } = await org({});
    const { id } = await make();
    await nodes[0].obey();
    const read = () =>
      server.database.pool
        .query(`select xmin, status from pods where id = $1`, [id])
        .then(({ rows }) => rows[0] as unknown);
    const before = await read();
    await nodes[0].beat([{ podId: id, run: 1, status: 'running', startedAt: '2026-11-21T12:00:00.000Z' }]);
    expect(await read()).toEqual(before);
  });

  it('tell of the engine, without which a node takes no pods', async () => {
    const { make, call, nodes } = await org({
      engine: { name: 'docker', version: null, problem: 'it does not answer' },
    });
    expect((await call('GET', `/nodes/${nodes[0].id}`)).body.engine).toMatchObject({ problem: 'it does not answer' });
    expect(await make()).toMatchObject({ status: 'pending', reason: 'no node fits: 1 without a container engine' });
  });
});
