/** What the API tells of a stack's updates, whoever ran them, and who may end one. A person's CLI is played request by request. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseEvents, type StreamEvent } from '../../cli/event-stream.ts';
import { inTransaction } from '../../db/database.ts';
import { acceptOperation } from '../../db/operations.ts';
import { deleteStateStack, findEngineStack } from '../../db/state-stacks.ts';
import { insertStateUpdate, startStateUpdate } from '../../db/state-updates.ts';
import { startApiServer, type ApiServer, type Loose } from '../support/api-server.ts';
import { createStateWire, engineEvents, makeCreate, makeEngineStack, type StateWire } from '../support/state-wire.ts';

let server: ApiServer;
let key: string;
let orgId: string;
let stackId: string;
let name: string;
let path: string;
let wire: StateWire;
let count = 0;
beforeAll(async () => {
  server = await startApiServer();
  ({ key, orgId } = await server.makeKey('operator'));
});
afterAll(() => server.stop());
beforeEach(async () => {
  const config = { region: 'us-east-1', gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 2 }] };
  const wish = { name: `train-${++count}`, kind: 'eks', config, costCentre: 'research' };
  stackId = (await post('/stacks', wish)).body.id;
  const db = server.database.kysely;
  ({ name } = await db.selectFrom('stacks').select('name').where('id', '=', stackId).executeTakeFirstOrThrow());
  await makeEngineStack(server, stackId, name);
  path = `muster/${name}`;
  wire = createStateWire(server.url, key, path);
});

const post = (at: string, body: unknown = {}, as = key) => server.call('POST', `/api/v1${at}`, { key: as, body });
const get = (at: string, as = key) => server.call('GET', `/api/v1${at}`, { key: as });
const history = async (query = '') => (await get(`/stacks/${stackId}/history${query}`)).body;

async function makeOperation(): Promise<string> {
  const { id } = await inTransaction(server.database.kysely, (tx) =>
    acceptOperation(tx, server.queue, {
      orgId,
      kind: 'up_stack',
      targetKind: 'stack',
      targetId: stackId,
      stackId,
      createdBy: 'usr_ada',
    }),
  );
  return id;
}

/** Of a run of our own. */
async function beginOurs(operationId: string): Promise<{ id: string; lease: string }> {
  return inTransaction(server.database.kysely, async (tx) => {
    const stack = await findEngineStack(tx, name);
    const update = await insertStateUpdate(tx, {
      id: randomUUID(),
      stackUuid: stack?.uuid as string,
      kind: 'update',
      isDryRun: false,
      request: {},
      engineVersion: 'v3',
      requestedBy: 'muster',
      runId: `run-${operationId}`,
      operationId,
    });
    const lease = `lease-of-${update.id}`;
    const start = { stackUuid: update.stack_uuid, updateId: update.id, token: lease, journalVersion: 1, tags: null };
    await startStateUpdate(tx, start);
    return { id: update.id, lease };
  });
}

/** Up to `wanted` events, or to the end of the stream. */
async function follow(at: string, { wanted = Infinity, after = '' } = {}): Promise<StreamEvent[]> {
  return readStream(await openStream(at, after), wanted);
}
/** Answered once the stream has begun. */
async function openStream(at: string, after = ''): Promise<Response> {
  const headers = { authorization: `Bearer ${key}`, ...(after === '' ? {} : { 'last-event-id': after }) };
  const response = await fetch(`${server.url}/api/v1${at}`, { headers });
  expect(response.status).toBe(200);
  return response;
}
async function readStream(response: Response, wanted: number): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  for await (const event of parseEvents(response)) {
    events.push(event);
    if (event.event === 'end' || events.length === wanted) break;
  }
  return events;
}
const dataOf = (text = '{}'): Loose => JSON.parse(text).data;
const told = (events: StreamEvent[]) =>
  events.map(({ id, event, data }) => {
    const { resource, status } = dataOf(data) ?? {};
    return [id, event, resource, status].filter((part) => part !== undefined && part !== null).join(' ');
  });

describe('the events of an update', () => {
  it("come in the engine's order whatever order its CLI sent them in, resume, and end with the update", async () => {
    const update = await wire.begin();
    const at = `/stacks/${stackId}/updates/${update.id}/events`;
    const { started, done, stdout, summary } = engineEvents;
    const batch = (events: object[]) => wire.write(update, 'POST', 'events/batch', { events });
    await batch([started(0, path, 'a')]);
    await batch([done(3, path, 'a'), started(4, path, 'b', 'same')]);
    const first = follow(at, { wanted: 3 });
    await batch([stdout(1, 'nobody is told'), started(2, path, 'b')]);
    await batch([stdout(1, 'again'), started(2, path, 'again')]);
    expect(told(await first)).toEqual(['0 resource a started', '2 resource b started', '3 resource a done']);
    const rest = follow(at, { after: '2' });
    await batch([summary(5, { create: 2 })]);
    // A batch that never came holds nothing back once the update is over.
    await batch([done(9, path, 'b')]);
    await wire.write(update, 'POST', 'complete', { status: 'succeeded' });
    expect(told(await rest)).toEqual(['3 resource a done', '5 summary', '9 resource b done', 'end']);
  });

  it('go on behind a batch that its CLI has given up', async () => {
    const update = await wire.begin();
    const long = { timestamp: Math.floor(Date.now() / 1000) - 60 };
    const events = [
      { ...engineEvents.started(0, path, 'a'), ...long },
      { ...engineEvents.done(2, path, 'a'), ...long },
    ];
    await wire.write(update, 'POST', 'events/batch', { events });
    const seen = await follow(`/stacks/${stackId}/updates/${update.id}/events`, { wanted: 2 });
    expect(told(seen)).toEqual(['0 resource a started', '2 resource a done']);
  });

  it('hold no values of resources; the CLI gets all of them as it sent them, page by page', async () => {
    const update = await wire.begin('preview', { dryRun: true });
    const events = [engineEvents.started(0, path, 'a'), engineEvents.done(1, path, 'a')];
    await wire.write(update, 'POST', 'events/batch', { events });
    const raw = await wire.send('GET', `/update/${update.id}/events`);
    expect(raw.body.events).toEqual(events);
    const next = await wire.send('GET', `/update/${update.id}/events?continuationToken=${raw.body.continuationToken}`);
    expect(next.body).toEqual({ events: [], continuationToken: '1' });
    await wire.write(update, 'POST', 'complete', { status: 'succeeded' });
    const last = await wire.send('GET', `/update/${update.id}/events?continuationToken=1`);
    expect(last.body).toEqual({ events: [], continuationToken: null });
    const streamed = await follow(`/stacks/${stackId}/updates/${update.id}/events`);
    expect(streamed).toHaveLength(3);
    expect(JSON.stringify(streamed)).not.toContain('swordfish');
  });

  it("are not another org's, nor of an update of another stack", async () => {
    const update = await wire.begin();
    const other = (await server.makeKey('owner')).key;
    expect((await get(`/stacks/${stackId}/updates/${update.id}/events`, other)).status).toBe(404);
    const unknown = '00000000-0000-4000-8000-000000000000';
    expect((await get(`/stacks/${stackId}/updates/${unknown}/events`)).status).toBe(404);
    expect((await get(`/stacks/${stackId}/updates/nothing/events`)).status).toBe(404);
  });
});

describe("the events of an operation's updates", () => {
  it("are its progress, in one order with the operation's own, and stay when the stack is gone", async () => {
    const operationId = await makeOperation();
    const update = await beginOurs(operationId);
    const { started, done, failed, error } = engineEvents;
    const batch = (events: object[]) => wire.write(update, 'POST', 'events/batch', { events });
    await batch([failed(3, path, 'b'), error(4, '<{%reset%}>creating b: no room')]);
    await batch([started(0, path, 'a'), started(1, path, 'b'), done(2, path, 'a')]);
    await batch([started(6, path, 'c')]);
    const at = `/operations/${operationId}/events`;
    const seen = await follow(at, { wanted: 6 });
    expect(told(seen)).toEqual([
      '1 status queued',
      '2 resource a started',
      '3 resource b started',
      '4 resource a done',
      '5 resource b failed',
      '6 diagnostic',
    ]);
    expect(dataOf(seen[5]?.data)).toMatchObject({ message: 'creating b: no room' });
    expect(dataOf(seen[3]?.data)).toMatchObject({ id: 'id-a', op: 'create' });
    await wire.write(update, 'POST', 'complete', { status: 'failed' });
    await inTransaction(server.database.kysely, async (tx) => {
      const stack = await findEngineStack(tx, name);
      await deleteStateStack(tx, stack?.uuid as string);
    });
    expect(told(await follow(at, { wanted: 1, after: '6' }))).toEqual(['7 resource c started']);
    expect((await history()).items).toMatchObject([{ id: update.id, operationId, who: 'usr_ada', result: 'failed' }]);
  });

  it('are in the feed of the org, each once, also across a break', async () => {
    const feed = await openStream('/events');
    const operationId = await makeOperation();
    const update = await beginOurs(operationId);
    const events = [engineEvents.started(0, path, 'a'), engineEvents.done(1, path, 'a')];
    await wire.write(update, 'POST', 'events/batch', { events });
    const seen = await readStream(feed, 3);
    const types = seen.map(({ event }) => event);
    expect(types).toEqual(['status', 'resource', 'resource']);
    const again = await follow('/events', { wanted: 1, after: seen[1]?.id ?? '' });
    expect(again).toEqual([seen[2]]);
  });
});

describe('the history of a stack', () => {
  it('says who did what to which version, newest first and page by page, without previews', async () => {
    const first = await wire.begin();
    const { summary } = engineEvents;
    await wire.write(first, 'PATCH', 'journalentries', { entries: makeCreate(path, 'a', 1, 'vpc-a') });
    await wire.write(first, 'POST', 'events/batch', { events: [summary(0, { create: 1 })] });
    await wire.write(first, 'POST', 'complete', { status: 'succeeded' });
    const preview = await wire.begin('preview', { dryRun: true });
    await wire.write(preview, 'POST', 'complete', { status: 'succeeded' });
    const operationId = await makeOperation();
    const second = await beginOurs(operationId);
    const { items } = await history();
    expect(items.map(({ id }: Loose) => id)).toEqual([second.id, first.id]);
    expect(items[0]).toMatchObject({ operationId, who: 'usr_ada', result: 'running', version: 2, endedAt: null });
    expect(items[1]).toMatchObject({
      kind: 'update',
      operationId: null,
      who: expect.stringMatching(/^key_/),
      result: 'succeeded',
      version: 1,
      message: 'by hand',
      engineVersion: 'v3.259.0',
      changes: { create: 1 },
      reason: null,
    });
    const page = await history('?limit=1');
    expect(page.items).toHaveLength(1);
    expect((await history(`?limit=1&cursor=${page.nextCursor}`)).items).toMatchObject([{ id: first.id }]);
  });
});

describe('what a stack holds', () => {
  it('is asked of its state, also of what an update has written so far', async () => {
    const resources = async () => (await get(`/stacks/${stackId}/resources`)).body.items;
    expect(await resources()).toEqual([]);
    const update = await wire.begin();
    await wire.write(update, 'PATCH', 'journalentries', {
      entries: [...makeCreate(path, 'a', 1, 'vpc-a'), ...makeCreate(path, 'b', 2, null)],
    });
    expect(await resources()).toMatchObject([{ name: 'a', id: 'vpc-a', isProtected: false }]);
  });

  it('is on its row with its price as soon as a state is written, whoever wrote it and however that ended', async () => {
    const NAT = 'aws:ec2/natGateway:NatGateway';
    const row = async () => (await get('/stacks')).body.items.find(({ id }: Loose) => id === stackId);
    expect(await row()).toMatchObject({ resourceCount: 0, priceMicroUsdPerHour: null, updatedAt: null });
    const update = await wire.begin();
    const entries = [...makeCreate(path, 'a', 1, 'vpc-a'), ...makeCreate(path, 'nat', 2, 'nat-1', NAT)];
    await wire.write(update, 'PATCH', 'journalentries', { entries });
    expect(await row()).toMatchObject({ resourceCount: 0, priceMicroUsdPerHour: null });
    await wire.write(update, 'POST', 'complete', { status: 'succeeded' });
    const whole = await row();
    expect(whole).toMatchObject({ resourceCount: 2, priceMicroUsdPerHour: 45_000, unpricedCount: 0 });
    expect(whole.updatedAt).not.toBeNull();
    const second = await wire.begin();
    await wire.write(second, 'PATCH', 'journalentries', { entries: makeCreate(path, 'more', 1, 'nat-2', NAT) });
    await post(`/stacks/${stackId}/cancel`);
    expect(await row()).toMatchObject({ resourceCount: 3, priceMicroUsdPerHour: 90_000 });
    await wire.send('POST', '/import', { version: 3, deployment: {} });
    expect(await row()).toMatchObject({ resourceCount: 0, priceMicroUsdPerHour: 0 });
  });
});

describe('a cancel', () => {
  it("ends a person's update at once, keeps what it wrote, wakes what waits for it, and is written down", async () => {
    const update = await wire.begin();
    await wire.write(update, 'PATCH', 'journalentries', { entries: makeCreate(path, 'a', 1, 'vpc-a') });
    const operationId = await makeOperation();
    const waits = `update operations set status = 'running', wait_until = now() + interval '1 hour' where id = $1`;
    await server.database.pool.query(waits, [operationId]);
    const viewer = (await server.makeKey('viewer', orgId)).key;
    expect((await post(`/stacks/${stackId}/cancel`, {}, viewer)).status).toBe(403);
    const canceled = await post(`/stacks/${stackId}/cancel`);
    expect(canceled).toMatchObject({
      status: 200,
      body: { operation: null, update: { id: update.id, kind: 'update' } },
    });
    expect(canceled.body.update.who).toMatch(/^key_/);
    for (const [method, part, body] of [
      ['PATCH', 'journalentries', { entries: makeCreate(path, 'b', 2, 'vpc-b') }],
      ['POST', 'renew_lease', { duration: 300 }],
      ['POST', 'events/batch', { events: [] }],
      ['POST', 'complete', { status: 'succeeded' }],
    ] as const)
      expect(await wire.write(update, method, part, body)).toBe(403);
    expect((await get(`/stacks/${stackId}/resources`)).body.items).toMatchObject([{ id: 'vpc-a' }]);
    expect((await history()).items).toMatchObject([
      { result: 'canceled', reason: expect.stringMatching(/^canceled by key_/) },
    ]);
    expect((await get('/audit')).body.items[0]).toMatchObject({ action: 'stack.cancel', targetId: stackId });
    const { rows } = await server.database.pool.query<{ due: boolean }>(
      'select wait_until <= now() as due from operations where id = $1',
      [operationId],
    );
    expect(rows).toEqual([{ due: true }]);
    // Now it is our operation that holds it.
    const next = await post(`/stacks/${stackId}/cancel`);
    expect(next).toMatchObject({ status: 202, body: { operation: { id: operationId }, update: null } });
  });

  it('of what nobody holds is a conflict, of another org or an unknown stack nothing', async () => {
    expect(await post(`/stacks/${stackId}/cancel`)).toMatchObject({ status: 409, body: { code: 'conflict' } });
    const update = await wire.begin();
    const other = (await server.makeKey('owner')).key;
    expect((await post(`/stacks/${stackId}/cancel`, {}, other)).status).toBe(404);
    expect(await wire.write(update, 'POST', 'complete', { status: 'succeeded' })).toBe(200);
  });

  it('of what cannot be replayed is a conflict that says so, and changes nothing', async () => {
    const update = await wire.begin();
    const entries = [{ ...makeCreate(path, 'a', 1, 'vpc-a')[1], removeOld: 7 }];
    await wire.write(update, 'PATCH', 'journalentries', { entries });
    const refused = await post(`/stacks/${stackId}/cancel`);
    expect(refused).toMatchObject({ status: 409, body: { detail: expect.stringContaining('cannot be replayed') } });
    expect((await history()).items).toMatchObject([{ result: 'running' }]);
  });
});
