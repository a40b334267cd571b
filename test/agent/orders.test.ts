import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createOrders, OrderError, type OrderContext, type OrderHandler, type Orders } from '../../agent/orders.ts';
import { orderReport, type Order } from '../../api/contract/orders.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'muster-orders-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const ID = ['ord_aaaaaaaaaaaaaaaa', 'ord_bbbbbbbbbbbbbbbb', 'ord_cccccccccccccccc'] as const;
const make = (id: string, change: Partial<Order> = {}): Order => ({
  id,
  kind: 'restore_snapshot',
  input: { password: 'open sesame' },
  remainingMs: 60_000,
  ...change,
});

/** A handler whose runs the test ends. */
function scripted(isRepeatable = false) {
  const runs: { order: Order; context: OrderContext; end: (result?: unknown) => void; fail: (error: Error) => void }[] =
    [];
  const handler: OrderHandler = Object.assign(
    (order: Order, context: OrderContext) =>
      new Promise((resolve, reject) => {
        runs.push({ order, context, end: resolve, fail: reject });
        context.signal.addEventListener('abort', () => reject(new Error('aborted')));
      }),
    { isRepeatable },
  );
  return { runs, handler };
}

function start(handler: OrderHandler, other?: OrderHandler): { orders: Orders; log: string[] } {
  const log: string[] = [];
  const handlers = { restore_snapshot: handler, ...(other ? { take_snapshot: other } : {}) };
  return { orders: createOrders({ directory, handlers, changed: () => {}, log: (line) => log.push(line) }), log };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const statuses = (orders: Orders) =>
  orders.reports().map(({ orderId, status, error }) => [orderId, status, error?.code]);

describe('orders', () => {
  it('of a kind are done one at a time, in their order; those of other kinds beside them', async () => {
    const first = scripted();
    const second = scripted();
    const { orders } = start(first.handler, second.handler);
    orders.apply([make(ID[0]), make(ID[1]), make(ID[2], { kind: 'take_snapshot' as Order['kind'] })]);
    expect([first.runs.length, second.runs.length]).toEqual([1, 1]);
    first.runs[0]?.end({ bytes: 1 });
    await settled();
    await settled();
    expect(first.runs.map(({ order }) => order.id)).toEqual([ID[0], ID[1]]);
    expect(orders.reports()).toContainEqual({ orderId: ID[0], status: 'done', result: { bytes: 1 } });
    for (const report of orders.reports()) expect(orderReport.safeParse(report).error).toBeUndefined();
  });

  it('that are known are not started again, however often and late they are listed', async () => {
    const { handler, runs } = scripted();
    const { orders } = start(handler);
    const wanted = [make(ID[0])];
    orders.apply(wanted);
    orders.apply(wanted);
    runs[0]?.end();
    await settled();
    orders.apply(wanted);
    orders.acknowledge([ID[0]]);
    orders.apply(wanted); // an answer that was under way when the end was taken down
    expect(runs).toHaveLength(1);
    expect(orders.reports()).toEqual([]);
  });

  it('that ran when the agent was restarted are reported as failed and not done twice', () => {
    const before = scripted();
    start(before.handler).orders.apply([make(ID[0])]);
    const after = scripted();
    const { orders } = start(after.handler);
    expect(statuses(orders)).toEqual([[ID[0], 'failed', 'agent_restarted']]);
    orders.apply([make(ID[0])]);
    expect(after.runs).toEqual([]);
  });

  it('that may be repeated are done again after a restart', () => {
    start(scripted(true).handler).orders.apply([make(ID[0])]);
    const after = scripted(true);
    const { orders } = start(after.handler);
    expect(orders.reports()).toEqual([]);
    orders.apply([make(ID[0])]);
    expect(after.runs).toHaveLength(1);
  });

  it('that ended are told until they are acknowledged, over restarts too', async () => {
    const { handler, runs } = scripted();
    const { orders } = start(handler);
    orders.apply([make(ID[0])]);
    runs[0]?.fail(new OrderError('store_unreachable', 'no route'));
    await settled();
    const again = start(scripted().handler).orders;
    expect(statuses(again)).toEqual([[ID[0], 'failed', 'store_unreachable']]);
    again.acknowledge([ID[0]]);
    expect(readdirSync(join(directory, 'orders'))).toEqual([]);
    expect(start(scripted().handler).orders.reports()).toEqual([]);
  });

  it('leave no secret on the disk, and nothing that others may read', () => {
    const { orders, log } = start(scripted().handler);
    orders.apply([make(ID[0])]);
    const file = join(directory, 'orders', `${ID[0]}.json`);
    expect(readFileSync(file, 'utf8')).not.toContain('sesame');
    expect(log.join()).not.toContain('sesame');
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('that are not wanted any more are stopped', async () => {
    const { handler, runs } = scripted();
    const { orders } = start(handler);
    orders.apply([make(ID[0]), make(ID[1])]);
    orders.apply([make(ID[1])]);
    expect(runs[0]?.context.signal.aborted).toBe(true);
    await settled();
    await settled();
    expect(statuses(orders)).toContainEqual([ID[0], 'failed', 'canceled']);
    expect(runs[1]?.order.id).toBe(ID[1]);
  });

  it('whose deadline passes are stopped', async () => {
    const { handler, runs } = scripted();
    const { orders } = start(handler);
    orders.apply([make(ID[0], { remainingMs: 5 })]);
    await new Promise((resolve) => runs[0]?.context.signal.addEventListener('abort', resolve));
    await settled();
    expect(statuses(orders)).toEqual([[ID[0], 'failed', 'deadline_passed']]);
  });

  it('are all stopped and none is started until work goes on', async () => {
    const { handler, runs } = scripted();
    const { orders } = start(handler);
    orders.apply([make(ID[0])]);
    await orders.stopAll('fenced', 'the node is fenced');
    orders.apply([make(ID[1])]);
    expect(statuses(orders)).toEqual([[ID[0], 'failed', 'fenced']]);
    expect(runs).toHaveLength(1);
    orders.resume();
    orders.apply([make(ID[1])]);
    expect(runs).toHaveLength(2);
  });

  it('of an unknown kind, with a result beyond bounds, or that cannot be remembered fail with the reason', async () => {
    const { handler, runs } = scripted();
    const { orders } = start(handler);
    orders.apply([make(ID[0], { kind: 'dance' as Order['kind'] }), make(ID[1])]);
    runs[0]?.end('x'.repeat(20_000));
    await settled();
    rmSync(join(directory, 'orders'), { recursive: true });
    writeFileSync(join(directory, 'orders'), '');
    orders.apply([make(ID[2])]);
    await settled();
    expect(statuses(orders)).toEqual([
      [ID[0], 'failed', 'unknown_kind'],
      [ID[1], 'failed', 'result_too_large'],
      [ID[2], 'failed', 'not_remembered'],
    ]);
  });

  it('show their progress while they run, within bounds', () => {
    const { handler, runs } = scripted();
    const { orders } = start(handler);
    orders.apply([make(ID[0])]);
    runs[0]?.context.progress({ percent: 120, note: 'n'.repeat(500) });
    const [report] = orders.reports();
    expect(report).toMatchObject({ status: 'running', progress: { percent: 100, note: 'n'.repeat(200) } });
  });
});
