import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { claimHost, markHostRemoved, markHostsOfStackRemoved } from '../../db/hosts.ts';
import { replaceNodeToken } from '../../db/nodes.ts';
import { hashAgentToken, makeAgentToken } from '../../secrets/agent-token.ts';
import { startApiServer, type ApiServer, type Loose } from '../support/api-server.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';

let server: ApiServer;
let key: string;
let orgId: string;
beforeAll(async () => {
  server = await startApiServer();
  ({ key, orgId } = await server.makeKey('operator'));
  await server.call('POST', '/api/v1/credentials', {
    key,
    body: { name: 'dc-key', kind: 'ssh_private_key', value: SSH_KEY.private },
  });
});
afterAll(() => server?.stop());

let serial = 10;
const HOST_KEY = `SHA256:${createHash('sha256').update('host').digest('base64').replace('=', '')}`;
const makeBody = (change: object = {}): Loose => ({
  address: `10.0.0.${++serial}`,
  hostKeySha256: HOST_KEY,
  credentialRef: 'dc-key',
  ...change,
});
const post = (path: string, body: unknown = {}, as = key) => server.call('POST', `/api/v1${path}`, { key: as, body });
const get = (path: string, as = key) => server.call('GET', `/api/v1${path}`, { key: as });
const remove = (path: string, as = key) => server.call('DELETE', `/api/v1${path}`, { key: as });

/** As the worker does at the end of the operation. */
async function finish(operationId: string): Promise<void> {
  await server.database.kysely
    .updateTable('operations')
    .set({ status: 'succeeded' })
    .where('id', '=', operationId)
    .execute();
}

function inTx<T>(work: (tx: Loose) => Promise<T>): Promise<T> {
  return server.database.kysely.transaction().execute(work);
}

async function register(nodeId: string, nonce = 'n'.repeat(43)) {
  const token = makeAgentToken();
  await inTx((tx) => replaceNodeToken(tx, { tokenHash: hashAgentToken(token), nodeId, lifetimeMs: 60_000 }));
  return { token, reply: await joinWith(token, nonce) };
}
const joinWith = (token: string, nonce: string) =>
  server.call('POST', '/api/v1/nodes/register', {
    key: null,
    headers: { 'x-agent-api-key': token },
    body: { nonce, agentVersion: '1.2.3', hostname: 'box' },
  });

describe('adding a host', () => {
  it('records a node that waits for its agent, a stack of its own, and the up that installs it', async () => {
    const reply = await post('/nodes', makeBody({ port: 2222, user: 'ops', labels: { rack: 'b4' } }));
    expect(reply.status).toBe(202);
    const { node, operation } = reply.body;
    expect(operation).toMatchObject({ kind: 'up_stack', status: 'queued' });
    expect(reply.headers.get('location')).toBe(`/api/v1/operations/${operation.id}`);
    expect(node).toMatchObject({
      status: 'installing',
      statusReason: 'its agent has not registered yet',
      registeredAt: null,
      agentVersion: null,
      instanceId: null,
      isCordoned: false,
      host: { port: 2222, user: 'ops', labels: { rack: 'b4' }, hostKeySha256: HOST_KEY, isAddedAlone: true },
    });
    expect((await get(`/nodes/${node.id}`)).body).toEqual(node);
    const stack = (await get(`/stacks/${node.host.stackId}`)).body;
    expect(stack).toMatchObject({ kind: 'onprem-node', protect: false, operation: { id: operation.id } });
    expect(stack.config).toMatchObject({ port: 2222, agentDir: '/var/lib/muster-agent', agent: true });
    expect(JSON.stringify([stack, node])).not.toContain('PRIVATE KEY');
    expect((await get('/nodes?status=installing')).body.items.map(({ id }: Loose) => id)).toContain(node.id);
    expect((await get('/nodes?status=online')).body.items).toEqual([]);
  });

  it('is done once per Idempotency-Key', async () => {
    const body = makeBody();
    const send = () => server.call('POST', '/api/v1/nodes', { key, body, headers: { 'Idempotency-Key': 'one' } });
    const [first, second] = [await send(), await send()];
    expect(second.body).toEqual(first.body);
  });

  it.each([
    [{ hostKeySha256: 'ab:cd:ef' }, 'hostKeySha256', /fingerprint of the host's key/],
    [{ hostKeySha256: undefined }, 'hostKeySha256', /./],
    [{ address: '-oProxyCommand=x' }, 'address', /host name or an address/],
    [{ user: 'root; reboot' }, 'user', /user name/],
    [{ port: 70_000 }, 'port', /./],
    [{ credentialRef: 'nobody' }, 'credentialRef', /names no credential of this org/],
    [{ agentDir: '/var/../etc' }, 'agentDir', /absolute path/],
    [{ privateKey: 'x' }, 'privateKey', /not a known field/],
  ])('refuses %j, naming the field', async (change, path, message) => {
    const reply = await post('/nodes', makeBody(change));
    expect(reply.status).toBe(422);
    expect(reply.body.errors).toEqual([expect.objectContaining({ path, message: expect.stringMatching(message) })]);
  });

  it('refuses a place that is a node already, and a name that is taken; nothing is recorded', async () => {
    const body = makeBody({ name: 'gpu-box' });
    const first = await post('/nodes', body);
    expect(first.status).toBe(202);
    const again = await post('/nodes', { ...body, name: 'other' });
    expect(again).toMatchObject({ status: 409, body: { code: 'conflict', nodeId: first.body.node.id } });
    const named = await post('/nodes', makeBody({ name: 'gpu-box' }));
    expect(named).toMatchObject({ status: 409, body: { errors: [{ path: 'name' }] } });
    const other = await server.makeKey('operator');
    expect((await post('/nodes', body, other.key)).body.errors[0].path).toBe('credentialRef');
    expect((await get('/stacks?limit=100')).body.items.map(({ name }: Loose) => name)).not.toContain('other');
  });

  it('at the same moment makes one', async () => {
    const body = makeBody();
    const replies = await Promise.all(Array.from({ length: 5 }, () => post('/nodes', body)));
    expect(replies.map(({ status }) => status).sort((a, b) => a - b)).toEqual([202, 409, 409, 409, 409]);
  });
});

describe("a host's agent", () => {
  it('registers by a token of its node; a later installation gets another key, and the first is worth nothing', async () => {
    const { node } = (await post('/nodes', makeBody())).body;
    const first = await register(node.id);
    expect(first.reply).toMatchObject({ status: 201, body: { nodeId: node.id } });
    expect((await get(`/nodes/${node.id}`)).body).toMatchObject({ status: 'online', agentVersion: '1.2.3' });
    expect((await joinWith(first.token, 'x'.repeat(43))).body.detail).toBe('the token was used already');
    expect((await joinWith(first.token, 'n'.repeat(43))).status).toBe(201);
    const second = await register(node.id, 'm'.repeat(43));
    expect(second.reply.body.nodeId).toBe(node.id);
    expect((await joinWith(first.token, 'n'.repeat(43))).status).toBe(401);
    const rows = await server.database.kysely.selectFrom('nodes').select('id').where('id', '=', node.id).execute();
    expect(rows).toHaveLength(1);
  });

  it('is refused once its host was removed', async () => {
    const { node } = (await post('/nodes', makeBody())).body;
    const { token } = await register(node.id);
    await inTx((tx) => markHostRemoved(tx, node.host.stackId, node.host.name));
    expect((await joinWith(token, 'n'.repeat(43))).status).toBe(401);
    expect((await get(`/nodes/${node.id}`)).body).toMatchObject({ status: 'gone', statusReason: 'it was removed' });
  });
});

describe('removing a host', () => {
  it('cordons it, destroys its stack, and is forgotten by a second call when nothing is left', async () => {
    const { node, operation } = (await post('/nodes', makeBody())).body;
    await finish(operation.id);
    const removal = await remove(`/nodes/${node.id}?forget=true`);
    expect(removal).toMatchObject({
      status: 202,
      body: { operation: { kind: 'destroy_stack' }, node: { isCordoned: true } },
    });
    const host = await server.database.kysely
      .selectFrom('hosts')
      .selectAll()
      .where('node_id', '=', node.id)
      .executeTakeFirst();
    expect(host?.forget_requested_at).not.toBeNull();
    await finish(removal.body.operation.id);
    await inTx((tx) => markHostsOfStackRemoved(tx, node.host.stackId));
    expect((await get('/nodes?status=gone')).body.items.map(({ id }: Loose) => id)).toContain(node.id);
    expect((await remove(`/nodes/${node.id}`)).status).toBe(204);
    expect((await get(`/nodes/${node.id}`)).status).toBe(404);
    // The place is free again.
    const { address } = node.host;
    expect((await post('/nodes', makeBody({ address }))).status).toBe(202);
  });

  it('supersedes the up that installs it: canceled at once when nobody works on it, asked to end when somebody does', async () => {
    const queued = (await post('/nodes', makeBody())).body;
    const first = await remove(`/nodes/${queued.node.id}`);
    expect(first).toMatchObject({ status: 202, body: { operation: { kind: 'destroy_stack', status: 'queued' } } });
    const up = (await get(`/operations/${queued.operation.id}`)).body;
    expect(up).toMatchObject({ status: 'canceled', error: { detail: `superseded by ${first.body.operation.id}` } });
    // Asked for once more, it is the same removal.
    expect((await remove(`/nodes/${queued.node.id}`)).body.operation.id).toBe(first.body.operation.id);

    const running = (await post('/nodes', makeBody())).body;
    const operations = server.database.kysely;
    await operations
      .updateTable('operations')
      .set({ status: 'running' })
      .where('id', '=', running.operation.id)
      .execute();
    const second = await remove(`/nodes/${running.node.id}`);
    expect(second.status).toBe(202);
    const row = await operations
      .selectFrom('operations')
      .select(['status', 'cancel_requested_at', 'cancel_reason'])
      .where('id', '=', running.operation.id)
      .executeTakeFirstOrThrow();
    expect(row).toMatchObject({ status: 'running', cancel_reason: `superseded by ${second.body.operation.id}` });
    expect(row.cancel_requested_at).not.toBeNull();
  });

  it('is refused for one that its stack has among others', async () => {
    const config = {
      hosts: [{ address: '10.9.9.9', hostKeySha256: HOST_KEY }],
      credentialRef: 'dc-key',
      k3s: { artefactUrl: 'https://a.example/k3s', artefactSha256: 'a'.repeat(64) },
    };
    const stack = (await post('/stacks', { name: 'lab', kind: 'onprem', config, costCentre: 'x' })).body;
    const place = {
      address: '10.9.9.9',
      port: 22,
      user: 'root',
      hostKeySha256: HOST_KEY,
      credentialId: null,
      labels: {},
    };
    const claim = () =>
      inTx((tx) => claimHost(tx, { ...place, orgId, stackId: stack.id, name: 'lab-a', addedBy: null }, true));
    const { node_id: nodeId } = await claim();
    expect((await claim()).node_id).toBe(nodeId);
    expect(await remove(`/nodes/${nodeId}`)).toMatchObject({ status: 409, body: { stackId: stack.id } });
  });

  it("is not another org's to ask for", async () => {
    const { node } = (await post('/nodes', makeBody())).body;
    const other = (await server.makeKey('owner')).key;
    expect((await remove(`/nodes/${node.id}`, other)).status).toBe(404);
    for (const verb of ['cordon', 'uncordon', 'drain'])
      expect((await post(`/nodes/${node.id}/${verb}`, {}, other)).status).toBe(404);
  });
});

describe('a node', () => {
  it('is cordoned, drained and let loose again', async () => {
    const { node } = (await post('/nodes', makeBody())).body;
    for (const [verb, isCordoned] of [
      ['cordon', true],
      ['cordon', true],
      ['uncordon', false],
      ['drain', true],
    ] as const)
      expect((await post(`/nodes/${node.id}/${verb}`)).body).toMatchObject({ id: node.id, isCordoned });
  });
});

describe('a stack of hosts', () => {
  it('takes no kubeconfig: it would lie in its row', async () => {
    const reply = await post('/stacks', {
      name: 'ext',
      kind: 'onprem',
      config: { kubeconfig: 'secret' },
      costCentre: 'x',
    });
    expect(reply).toMatchObject({ status: 422, body: { errors: [{ path: 'config.kubeconfig' }] } });
    expect(JSON.stringify(reply.body)).not.toContain('"secret"');
  });
});
