import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createExpireOrdersCron } from '../../automation/cron/expire-orders.ts';
import { inTransaction } from '../../db/database.ts';
import { fenceNode, raiseDesired } from '../../db/desired.ts';
import { acceptOperation } from '../../db/operations.ts';
import { cancelOrder, createOrder, findOrder, type NewOrder } from '../../db/orders.ts';
import { deleteNode } from '../../db/nodes.ts';
import {
  listOffers,
  NO_PROGRAMS,
  startApiServer,
  type ApiServer,
  type Loose,
  type Reply,
} from '../support/api-server.ts';
import { identityAt } from '../../secrets/sealed-place.ts';
import { makeHeartbeat } from '../support/heartbeat.ts';
import { recordMachine } from '../support/node-token.ts';

let server: ApiServer;
let node: { nodeId: string; orgId: string; key: string; attemptId: string };
const SHA256 = 'a'.repeat(64);
beforeAll(async () => {
  server = await startApiServer({
    agents: {
      bundle: () => Promise.resolve({ text: '//\n', sha256: SHA256, version: '1.2.3' }),
      nodePrograms: NO_PROGRAMS,
      intervalMs: 10_000,
      rotateKeyAfterMs: 86_400_000,
      deadManMs: 60_000,
    },
  });
  await listOffers(
    server,
    Array.from({ length: 100 }, () => ({})),
  );
});
afterAll(() => server?.stop());
beforeEach(async () => {
  const { token, attemptId } = await recordMachine(server);
  const { body } = await post('register', token, { nonce: 'n'.repeat(43), agentVersion: '1', hostname: null });
  const row = await kysely()
    .selectFrom('nodes')
    .select('org_id')
    .where('id', '=', body.nodeId)
    .executeTakeFirstOrThrow();
  node = { nodeId: body.nodeId, key: body.key, attemptId, orgId: row.org_id };
});

const kysely = () => server.database.kysely;
const agent = (credential: string) => ({ key: null, headers: { 'x-agent-api-key': credential } });
const post = (path: string, credential: string, body: unknown): Promise<Reply<Loose>> =>
  server.call('POST', `/api/v1/nodes/${path}`, { ...agent(credential), body });
const desired = (query: string, key = node.key): Promise<Reply<Loose>> =>
  server.call('GET', `/api/v1/nodes/desired?${query}`, agent(key));
const report = (...orders: unknown[]) => post('reports', node.key, { orders });

function order(change: Partial<NewOrder> = {}): Promise<string> {
  return inTransaction(kysely(), async (tx) => {
    const { orgId, nodeId } = node;
    const given = {
      orgId,
      nodeId,
      kind: 'restore_snapshot',
      input: { what: 1 },
      deadlineMs: 60_000,
      createdBy: 'system',
    } as const;
    return (await createOrder(tx, { ...given, ...change })).id;
  });
}

async function waitingOperation() {
  const { id } = await inTransaction(kysely(), (tx) =>
    acceptOperation(tx, server.queue, {
      orgId: node.orgId,
      kind: 'refresh_offers',
      targetKind: 'node',
      targetId: node.nodeId,
      stackId: null,
      createdBy: 'system',
    }),
  );
  await kysely()
    .updateTable('operations')
    .set({ status: 'running', wait_until: new Date(Date.now() + 3_600_000) })
    .where('id', '=', id)
    .execute();
  return {
    id,
    row: () => kysely().selectFrom('operations').selectAll().where('id', '=', id).executeTakeFirstOrThrow(),
  };
}

describe('what a node shall do', () => {
  it('is answered at once where the agent has another revision, and has every open order', async () => {
    const id = await order();
    const { status, body } = await desired('after=-1&waitMs=20000');
    expect(status).toBe(200);
    expect(body).toEqual({
      revision: 1,
      isFenced: false,
      orders: [{ id, kind: 'restore_snapshot', input: { what: 1 }, remainingMs: expect.any(Number) }],
      pods: [],
    });
    expect(body.orders[0].remainingMs).toBeGreaterThan(50_000);
  });

  it('is awaited, and told within a moment of the commit that changed it', async () => {
    const asked = performance.now();
    const waiting = desired('after=0&waitMs=20000');
    await new Promise((resolve) => setTimeout(resolve, 50));
    const id = await order();
    const { body } = await waiting;
    expect(body.orders.map((one: Loose) => one.id)).toEqual([id]);
    expect(performance.now() - asked).toBeLessThan(5_000);
  });

  it('is answered at the end of the wait with the same revision and nothing else', async () => {
    const { body } = await desired('after=0&waitMs=60');
    expect(body).toEqual({ revision: 0, isFenced: false, orders: null, pods: null });
  });

  it('of one node does not wake another', async () => {
    const first = node;
    const waiting = desired('after=0&waitMs=300', first.key);
    const { token } = await recordMachine(server);
    const other = await post('register', token, { nonce: 'm'.repeat(43), agentVersion: '1', hostname: null });
    await inTransaction(kysely(), (tx) => raiseDesired(tx, other.body.nodeId));
    expect((await waiting).body).toMatchObject({ revision: 0, orders: null });
  });

  it('tells that the node is fenced, once', async () => {
    expect(await inTransaction(kysely(), (tx) => fenceNode(tx, node.nodeId))).toBe(true);
    expect(await inTransaction(kysely(), (tx) => fenceNode(tx, node.nodeId))).toBe(false);
    expect((await desired('after=0&waitMs=20000')).body).toMatchObject({ revision: 1, isFenced: true });
    expect((await post('heartbeat', node.key, makeHeartbeat())).body).toMatchObject({
      isFenced: true,
      desiredRevision: 1,
    });
  });

  it('is told to nobody but the node itself', async () => {
    expect((await desired('after=0', 'ma_somebody')).status).toBe(401);
    expect((await server.call('GET', '/api/v1/nodes/desired')).status).toBe(403);
    expect((await desired('after=0&waitMs=25001')).body.errors[0].path).toBe('waitMs');
    expect((await desired('after=x')).body.errors[0].path).toBe('after');
  });
});

describe('what is secret in an order', () => {
  it('reaches the agent, lies sealed in the database, and is wiped when the order ends', async () => {
    const secrets = { values: { password: 'open sesame' }, envelope: server.deps.envelope };
    const id = await order({ secrets });
    const sealed = (await findOrder(kysely(), id))?.secrets_sealed as string;
    expect(sealed).not.toContain('sesame');
    expect((await desired('after=-1')).body.orders[0].input).toEqual({ what: 1, password: 'open sesame' });
    expect(() =>
      server.deps.envelope.open(sealed, identityAt('node_orders.secrets_sealed', 'ord_aaaaaaaaaaaaaaaa')),
    ).toThrow();
    await report({ orderId: id, status: 'done' });
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'done', secrets_sealed: null });
    const canceled = await order({ secrets });
    await inTransaction(kysely(), (tx) => cancelOrder(tx, canceled, 'not wanted'));
    expect((await findOrder(kysely(), canceled))?.secrets_sealed).toBeNull();
    expect(JSON.stringify(server.log)).not.toContain('sesame');
  });
});

describe('a report of an order', () => {
  it('shows progress, then the end with its result, and wakes the operation that waits', async () => {
    const operation = await waitingOperation();
    const id = await order({ operationId: operation.id });
    const progress = { percent: 40, note: 'half way' };
    expect((await report({ orderId: id, status: 'running', progress })).body.acknowledgedOrders).toEqual([]);
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'running', progress, finished_at: null });
    expect((await operation.row()).woken_at).toBeNull();
    const ended = await report({ orderId: id, status: 'done', result: { bytes: 7 } });
    expect(ended.body.acknowledgedOrders).toEqual([id]);
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'done', result: { bytes: 7 }, error_code: null });
    const woken = await operation.row();
    expect(woken.woken_at).not.toBeNull();
    expect((woken.wait_until as Date).getTime()).toBeLessThan(Date.now() + 60_000);
    expect((await desired('after=-1')).body.orders).toEqual([]);
  });

  it('of a failure keeps the reason; the same again is acknowledged and changes nothing', async () => {
    const id = await order();
    const error = { code: 'agent_restarted', detail: 'it was restarted' };
    await report({ orderId: id, status: 'failed', error });
    const row = await findOrder(kysely(), id);
    expect(row).toMatchObject({ status: 'failed', error_code: 'agent_restarted', error_detail: 'it was restarted' });
    expect((await report({ orderId: id, status: 'done', result: 1 })).body.acknowledgedOrders).toEqual([id]);
    expect(await findOrder(kysely(), id)).toEqual(row);
    await report({ orderId: id, status: 'running', progress: { percent: 1, note: null } });
    expect(await findOrder(kysely(), id)).toEqual(row);
  });

  it('by another node changes nothing, and is acknowledged so that it is not sent for ever', async () => {
    const id = await order();
    const { token } = await recordMachine(server);
    const other = await post('register', token, { nonce: 'o'.repeat(43), agentVersion: '1', hostname: null });
    const forged = await post('reports', other.body.key, { orders: [{ orderId: id, status: 'done' }] });
    expect(forged.body.acknowledgedOrders).toEqual([id]);
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'queued' });
  });

  it('may come with a heartbeat too', async () => {
    const id = await order();
    const reply = await post('heartbeat', node.key, { ...makeHeartbeat(), orders: [{ orderId: id, status: 'done' }] });
    expect(reply.body.acknowledgedOrders).toEqual([id]);
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'done' });
  });

  it('with a result beyond 16 KiB or a code of another form is refused, with its path', async () => {
    const orderId = await order();
    const large = await report({ orderId, status: 'done', result: 'x'.repeat(17_000) });
    expect([large.status, large.body.errors[0].path]).toEqual([422, 'orders.0.result']);
    const wrong = await report({ orderId, status: 'failed', error: { code: 'No!', detail: '' } });
    expect([wrong.status, wrong.body.errors[0].path]).toEqual([422, 'orders.0.error.code']);
  });
});

describe('an order that nobody will end', () => {
  const tick = () => createExpireOrdersCron(kysely(), server.queue).run(new AbortController().signal);

  it('fails at its deadline, tells the agent, and wakes who waits; a second look finds nothing', async () => {
    const operation = await waitingOperation();
    const id = await order({ operationId: operation.id, deadlineMs: -1 });
    const kept = await order();
    expect(await tick()).toEqual({ failed: 1 });
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'failed', error_code: 'deadline_passed' });
    expect((await operation.row()).woken_at).not.toBeNull();
    expect((await desired('after=2')).body).toMatchObject({ revision: 3, orders: [{ id: kept }] });
    expect(await tick()).toEqual({ failed: 0 });
  });

  it('fails when the machine of its node is gone', async () => {
    const id = await order();
    await kysely().updateTable('attempts').set({ status: 'gone' }).where('id', '=', node.attemptId).execute();
    await tick();
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'failed', error_code: 'node_gone' });
  });

  it('is not there any more when its node is forgotten', async () => {
    const id = await order();
    await inTransaction(kysely(), (tx) => deleteNode(tx, node.nodeId));
    expect(await findOrder(kysely(), id)).toBeUndefined();
  });

  it('is canceled by whoever ordered it, and the agent told', async () => {
    const id = await order();
    expect(await inTransaction(kysely(), (tx) => cancelOrder(tx, id, 'not wanted'))).toBe(true);
    expect(await inTransaction(kysely(), (tx) => cancelOrder(tx, id, 'again'))).toBe(false);
    expect((await desired('after=1')).body).toMatchObject({ revision: 2, orders: [] });
    expect((await report({ orderId: id, status: 'done' })).body.acknowledgedOrders).toEqual([id]);
    expect(await findOrder(kysely(), id)).toMatchObject({ status: 'canceled', error_detail: 'not wanted' });
  });
});

describe('a heartbeat of an agent that knows orders', () => {
  it('tells what the dead man is, which agent is handed out, and which revision holds', async () => {
    await inTransaction(kysely(), (tx) => raiseDesired(tx, node.nodeId));
    const first = await post('heartbeat', node.key, makeHeartbeat());
    expect(first.body).toMatchObject({ desiredRevision: 1, deadManMs: 60_000, isFenced: false });
    expect((await post('heartbeat', node.key, makeHeartbeat({ sequence: 2 }))).body.agentSha256).toBe(SHA256);
  });

  it('keeps activity, and that nothing is known of it where the agent does not tell', async () => {
    const row = () =>
      kysely()
        .selectFrom('nodes')
        .select(['is_activity_known', 'activity_declared_at'])
        .where('id', '=', node.nodeId)
        .executeTakeFirstOrThrow();
    await post('heartbeat', node.key, makeHeartbeat({ activity: { declaredAgoMs: 5_000 } }));
    const known = await row();
    expect(known.is_activity_known).toBe(true);
    expect(Math.abs(Date.now() - 5_000 - (known.activity_declared_at as Date).getTime())).toBeLessThan(3_000);
    await post('heartbeat', node.key, makeHeartbeat({ sequence: 2, activity: { declaredAgoMs: null } }));
    expect(await row()).toEqual({ is_activity_known: true, activity_declared_at: null });
    await post('heartbeat', node.key, makeHeartbeat({ sequence: 3 }));
    expect(await row()).toEqual({ is_activity_known: false, activity_declared_at: null });
  });

  it('brings the minutes that could not be told, as samples and as nothing else', async () => {
    const late = (agoMs: number) => ({
      agoMs,
      verdict: 'healthy',
      gpuPercent: 50,
      gpuPeakPercent: 80,
      gpuMemoryUsedMib: null,
      gpuMemoryTotalMib: null,
      gpuTemperatureC: null,
      gpuPowerW: null,
      load1: 1,
      cpuPercent: 20,
      memoryAvailableMib: null,
      memoryUsedMib: null,
      diskFreeMib: null,
      networkReceivedBytesPerSecond: null,
      networkSentBytesPerSecond: null,
      isActivityDeclared: null,
    });
    const samples = [late(600_000), late(540_000), late(540_000)];
    await post('heartbeat', node.key, { ...makeHeartbeat(), samples });
    await post('heartbeat', node.key, { ...makeHeartbeat({ sequence: 2 }), samples });
    const rows = await kysely()
      .selectFrom('node_samples')
      .select(['at', 'gpu_peak_percent'])
      .where('node_id', '=', node.nodeId)
      .orderBy('at')
      .execute();
    expect(rows.map((row) => row.gpu_peak_percent)).toEqual([80, 80, null]);
  });

  it('that says it powers off is remembered by its first word, and audited', async () => {
    for (const reason of ['no sign of life', 'again']) await post('reports', node.key, { poweringOff: { reason } });
    const { body } = await server.call('GET', `/api/v1/nodes/${node.nodeId}`);
    expect(body).toMatchObject({ poweringOffReason: 'no sign of life', poweringOffAt: expect.any(String) });
  });
});
