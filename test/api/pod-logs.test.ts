import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MAX_WAITING_BATCHES } from '../../db/pod-logs.ts';
import { startApiServer, type ApiServer, type Loose } from '../support/api-server.ts';
import { addPodNode, type PodNode } from '../support/pod-node.ts';

let server: ApiServer;
let key: string;
let node: PodNode;
let podId: string;
beforeAll(async () => {
  server = await startApiServer();
  ({ key } = await server.makeKey('operator'));
  node = await addPodNode(server, key);
});
afterAll(() => server?.stop());
beforeEach(async () => {
  const made = await server.call('POST', '/api/v1/pods', { key, body: { image: 'busybox', nodeId: node.id } });
  podId = made.body.id;
});

const line = (n: number, text = `line ${n}`) => ({
  at: `2026-11-21T12:00:00.${String(n).padStart(9, '0')}Z`,
  stream: 'stdout' as const,
  text,
});

/** The next order for logs, as the agent sees it. */
async function nextOrder(): Promise<Loose> {
  for (let tries = 0; tries < 200; tries++) {
    const { orders } = await node.desired();
    const found = orders?.find((order) => order.kind === 'stream_pod_logs' && order.input['podId'] === podId);
    if (found) {
      await node.say('reports', { orders: [{ orderId: found.id, status: 'done' }] });
      return found;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('no order came');
}

const write = (orderId: string, seq: number, lines: object[], end: { isEnd?: boolean; error?: string } = {}) =>
  node.say('pod-logs', { orderId, seq, lines, isEnd: end.isEnd ?? false, error: end.error ?? null });

describe('logs', () => {
  it('are asked of the agent and given as they come', async () => {
    const asked = server.call('GET', `/api/v1/pods/${podId}/logs?tail=5&since=2026-11-21T11:00:00Z`, { key });
    const order = await nextOrder();
    expect(order.input).toEqual({ podId, follow: false, tail: 5, since: '2026-11-21T11:00:00Z' });
    await write(order.id, 0, [line(1)]);
    await write(order.id, 0, [line(1)]); // its answer was lost
    await write(order.id, 1, [line(2)], { isEnd: true });
    const reply = await asked;
    expect(reply.body).toEqual({ podId, nodeId: node.id, lines: [line(1), line(2)], isTruncated: false });
    expect((await write(order.id, 2, [line(3)])).body).toEqual({ isWanted: false, isTaken: false });
  });

  it('that the agent has none of are a conflict with its reason', async () => {
    const asked = server.call('GET', `/api/v1/pods/${podId}/logs`, { key });
    const order = await nextOrder();
    await write(order.id, 0, [], { isEnd: true, error: 'it has no container yet' });
    expect((await asked).body).toMatchObject({ status: 409, detail: `${podId} has no log: it has no container yet` });
  });

  it('of a pod that no node has are a conflict', async () => {
    const made = await server.call('POST', '/api/v1/pods', { key, body: { image: 'busybox', gpuCount: 8 } });
    const reply = await server.call('GET', `/api/v1/pods/${made.body.id}/logs`, { key });
    expect(reply.body).toMatchObject({ status: 409, state: 'pending' });
  });

  it('may be written only by the node that was asked', async () => {
    const asked = server.call('GET', `/api/v1/pods/${podId}/logs`, { key });
    const order = await nextOrder();
    const stranger = await addPodNode(server, key);
    const forged = { orderId: order.id, seq: 0, lines: [line(1, 'forged')], isEnd: true, error: null };
    expect((await stranger.say('pod-logs', forged)).body).toEqual({ isWanted: false, isTaken: false });
    await write(order.id, 0, [], { isEnd: true });
    expect((await asked).body.lines).toEqual([]);
  });

  it('that nobody reads fill a bounded place, and hold their writer up', async () => {
    const order = { id: 'ord_aaaaaaaaaaaaaaaa' };
    await server.database.kysely
      .insertInto('pod_log_streams')
      .values({ order_id: order.id, pod_id: podId, node_id: node.id, wanted_until: new Date(Date.now() + 60_000) })
      .execute();
    for (let seq = 0; seq < MAX_WAITING_BATCHES; seq++)
      expect((await write(order.id, seq, [line(seq)])).body.isTaken).toBe(true);
    const held = write(order.id, 99, [line(99)]);
    const winner = await Promise.race([
      held.then(() => 'written'),
      new Promise((resolve) => setTimeout(resolve, 300, 'held')),
    ]);
    expect(winner).toBe('held');
    await server.database.kysely.deleteFrom('pod_log_chunks').execute();
    expect((await held).body).toEqual({ isWanted: true, isTaken: true });
  });

  it('are followed until the container ends, and go on where they broke off', async () => {
    const follow = (headers: Record<string, string> = {}) =>
      fetch(`${server.url}/api/v1/pods/${podId}/logs?follow=true`, {
        headers: { authorization: `Bearer ${key}`, ...headers },
      });
    const asked = follow();
    const order = await nextOrder();
    expect(order.input.follow).toBe(true);
    await write(order.id, 0, [line(1)]);
    const response = await asked;
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    await write(order.id, 1, [line(2)]);
    await write(order.id, 2, [], { isEnd: true });
    const text = await response.text();
    expect(text.match(/^event: log$/gm)).toHaveLength(2);
    expect(text).toContain(`id: ${line(2).at}\n`);
    expect(text).toMatch(/event: end/);
    const again = follow({ 'last-event-id': line(2).at });
    const resumed = await nextOrder();
    expect(resumed.input.since).toBe(line(2).at);
    await write(resumed.id, 0, [], { isEnd: true });
    expect(await (await again).text()).not.toContain('event: log');
  });
});
