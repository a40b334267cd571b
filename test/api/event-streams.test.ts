import { get, type IncomingMessage } from 'node:http';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appendEvents, finishOperation } from '../../db/operations.ts';
import { listOffers, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

interface Received {
  id: string;
  event: string;
  /** An OperationEvent; empty for `end`. */
  data: { operationId?: string; podId?: string; type?: string; data?: Record<string, unknown> };
}

let server: ApiServer;
const open = new Set<IncomingMessage>();
beforeAll(async () => {
  server = await startApiServer({ heartbeatMs: 50 });
  await listOffers(server, [{}]);
});
afterAll(async () => {
  for (const response of open) response.destroy();
  await server?.stop();
});

interface Stream {
  response: IncomingMessage;
  received: Received[];
  comments: () => number;
  /** Until the predicate holds, at most 10 s. */
  until(isDone: () => boolean): Promise<void>;
  ended: Promise<void>;
}

function listen(path: string, options: { key?: string; lastEventId?: string } = {}): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${options.key ?? server.adminKey}`,
      ...(options.lastEventId === undefined ? {} : { 'last-event-id': options.lastEventId }),
    };
    get(`${server.url}${path}`, { headers }, (response) => {
      open.add(response);
      const received: Received[] = [];
      let text = '';
      let comments = 0;
      let notify = () => {};
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        const blocks = text.split('\n\n');
        text = blocks.pop() ?? '';
        for (const block of blocks) {
          if (block.startsWith(':')) comments += 1;
          else received.push(parseBlock(block));
        }
        notify();
      });
      const ended = new Promise<void>((done) => response.on('close', done));
      const until = (isDone: () => boolean) =>
        new Promise<void>((done, fail) => {
          const timer = setTimeout(
            () => fail(new Error(`waited in vain; received ${JSON.stringify(received)}`)),
            10_000,
          );
          notify = () => {
            if (!isDone()) return;
            clearTimeout(timer);
            done();
          };
          notify();
        });
      resolve({ response, received, comments: () => comments, until, ended });
    }).on('error', reject);
  });
}

function parseBlock(block: string): Received {
  const fields = Object.fromEntries(
    block.split('\n').map((line) => [line.split(': ')[0], line.slice(line.indexOf(': ') + 2)]),
  );
  return { id: fields.id ?? '', event: fields.event ?? '', data: JSON.parse(fields.data ?? '{}') as Received['data'] };
}

async function provision(key = server.adminKey): Promise<{ operationId: string; instanceId: string }> {
  const { body } = await server.call('POST', '/api/v1/instances', { key, body: ORDER });
  return { operationId: body.operation.id, instanceId: body.instances[0].id };
}
const emit = (operationId: string, ...numbers: number[]) =>
  appendEvents(
    server.database.kysely,
    operationId,
    numbers.map((number) => ({ type: 'note', data: { number } })),
  );
const numbersOf = (stream: Stream) =>
  stream.received.filter((event) => event.event === 'note').map((event) => event.data.data?.number as number);
const finish = (operationId: string) =>
  server.database.kysely.transaction().execute((tx) => finishOperation(tx, server.queue, operationId, 'succeeded', {}));

describe('the events of an operation', () => {
  it('come in order with what was before, live, and end with the operation', async () => {
    const { operationId } = await provision();
    await emit(operationId, 1, 2);
    const stream = await listen(`/api/v1/operations/${operationId}/events`);
    expect(stream.response.headers['content-type']).toMatch(/^text\/event-stream/);
    await stream.until(() => numbersOf(stream).length === 2);
    await emit(operationId, 3);
    await stream.until(() => numbersOf(stream).length === 3);
    await finish(operationId);
    await stream.ended;
    expect(numbersOf(stream)).toEqual([1, 2, 3]);
    expect(stream.received.filter((event) => event.event !== 'end').map((event) => event.id)).toEqual([
      '1',
      '2',
      '3',
      '4',
      '5',
    ]);
    expect(stream.received.at(-1)?.event).toBe('end');
    expect(stream.received.at(-2)?.data).toMatchObject({ operationId, type: 'status', data: { status: 'succeeded' } });
  });

  it('resume after Last-Event-ID without loss or repetition', async () => {
    const { operationId } = await provision();
    await emit(operationId, 1, 2, 3);
    const first = await listen(`/api/v1/operations/${operationId}/events`);
    await first.until(() => numbersOf(first).length === 3);
    first.response.destroy();
    await emit(operationId, 4, 5);
    const second = await listen(`/api/v1/operations/${operationId}/events`, { lastEventId: '3' });
    await second.until(() => numbersOf(second).length === 3);
    expect(numbersOf(second)).toEqual([3, 4, 5]);
  });

  it('are all there when many are written while it listens, by many at once', async () => {
    const { operationId } = await provision();
    const stream = await listen(`/api/v1/operations/${operationId}/events`);
    await Promise.all(
      Array.from({ length: 60 }, (_, index) => emit(operationId, index * 10, index * 10 + 1, index * 10 + 2)),
    );
    await stream.until(() => numbersOf(stream).length === 180);
    const ids = stream.received.map((event) => Number(event.id));
    expect(ids).toEqual(Array.from({ length: 181 }, (_, index) => index + 1));
  });

  it('go on after the listening connection was cut', async () => {
    const { operationId } = await provision();
    const stream = await listen(`/api/v1/operations/${operationId}/events`);
    await stream.until(() => stream.received.length === 1);
    const { rows } = await server.database.kysely.transaction().execute(async (tx) => {
      await sql`set local role none`.execute(tx); // the program's own role may not end connections
      return sql`select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'api-test-listen' and datname = current_database()`.execute(tx);
    });
    expect(rows.length).toBeGreaterThan(0);
    await emit(operationId, 1);
    await stream.until(() => numbersOf(stream).length === 1);
  });

  it('say that they live while nothing happens', async () => {
    const { operationId } = await provision();
    const stream = await listen(`/api/v1/operations/${operationId}/events`);
    await stream.until(() => stream.comments() >= 2);
  });

  it('are refused from an id that no event has, and to another org', async () => {
    const { operationId } = await provision();
    expect((await listen(`/api/v1/operations/${operationId}/events`, { lastEventId: 'x' })).response.statusCode).toBe(
      400,
    );
    const { key } = await server.makeKey('owner');
    expect((await listen(`/api/v1/operations/${operationId}/events`, { key })).response.statusCode).toBe(404);
  });
});

describe('the events of everything', () => {
  it('hold what happens in the own org from now on, and nothing of others', async () => {
    const [mine, theirs] = [await server.makeKey('operator'), await server.makeKey('operator')];
    const before = await provision(mine.key);
    const stream = await listen('/api/v1/events', { key: mine.key });
    await stream.until(() => stream.comments() > 0);
    const other = await provision(theirs.key);
    await emit(other.operationId, 99);
    const made = await provision(mine.key);
    await emit(made.operationId, 1);
    await emit(before.operationId, 2);
    await stream.until(() => numbersOf(stream).length === 2);
    expect(numbersOf(stream)).toEqual([1, 2]);
    expect(stream.received.map((event) => event.data.operationId)).not.toContain(other.operationId);
  });

  it('hold nothing that was committed before, also while an older transaction runs', async () => {
    const { key } = await server.makeKey('operator');
    const hold = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const old = server.database.kysely.transaction().execute(async (tx) => {
      await sql`select pg_current_xact_id()`.execute(tx);
      begun.resolve();
      await hold.promise;
    });
    await begun.promise;
    const { operationId } = await provision(key);
    const stream = await listen('/api/v1/events', { key });
    await emit(operationId, 1);
    hold.resolve();
    await old;
    await stream.until(() => numbersOf(stream).length === 1);
    expect(stream.received).toHaveLength(1);
  });

  it('miss nothing of a transaction that was open while later ones were read, also across a break', async () => {
    const { key } = await server.makeKey('operator');
    const [slow, quick] = [await provision(key), await provision(key)];
    const stream = await listen('/api/v1/events', { key });
    await stream.until(() => stream.comments() > 0);
    const written = Promise.withResolvers<void>();
    const commit = Promise.withResolvers<void>();
    const held = server.database.kysely.transaction().execute(async (tx) => {
      await appendEvents(tx, slow.operationId, [{ type: 'note', data: { number: 1 } }]);
      written.resolve();
      await commit.promise;
    });
    await written.promise;
    await emit(quick.operationId, 2);
    commit.resolve();
    await held;
    await stream.until(() => numbersOf(stream).length === 2);
    const firstSeen = stream.received.find((event) => event.event === 'note');
    const again = await listen('/api/v1/events', { key, lastEventId: firstSeen?.id as string });
    await again.until(() => numbersOf(again).length === 1);
    expect(numbersOf(stream).sort((a, b) => a - b)).toEqual([1, 2]);
    expect(new Set([firstSeen?.data.data?.number, ...numbersOf(again)])).toEqual(new Set([1, 2]));
  });
});

describe('the events of an instance', () => {
  it('are those of its operations, from the beginning, without what concerns only a sibling', async () => {
    const { body } = await server.call('POST', '/api/v1/instances', { body: { ...ORDER, count: 2 } });
    const [first, second] = body.instances as { id: string }[];
    await appendEvents(server.database.kysely, body.operation.id, [
      { type: 'note', data: { number: 1 } },
      { type: 'note', data: { number: 2, instanceId: first?.id } },
      { type: 'note', data: { number: 3, instanceId: second?.id } },
    ]);
    const destroyed = await server.call('DELETE', `/api/v1/instances/${first?.id}`);
    const stream = await listen(`/api/v1/instances/${first?.id}/events`);
    await stream.until(() => stream.received.some((event) => event.data.operationId === destroyed.body.operation.id));
    expect(numbersOf(stream)).toEqual([1, 2]);
  });
});

describe('the events of pods', () => {
  const podsOf = ({ received }: Stream) =>
    received.filter(({ event }) => event === 'pod').map(({ data }) => [data.podId, data.data?.['status']]);

  it('are among those of everything, of my org only, and resumed with the others without loss or repetition', async () => {
    const { key } = await server.makeKey('operator');
    const stream = await listen('/api/v1/events', { key });
    const foreign = await listen('/api/v1/events');
    const { body } = await server.call('POST', '/api/v1/pods', { key, body: { image: 'busybox', name: 'one' } });
    const { id } = body;
    await stream.until(() => podsOf(stream).length === 1);
    expect(stream.received.at(-1)).toMatchObject({
      event: 'pod',
      data: { podId: id, seq: 1, type: 'pod', data: { name: 'one', status: 'pending', previousStatus: null } },
    });
    await server.call('POST', `/api/v1/pods/${id}/stop`, { key });
    const { operationId } = await provision(key);
    await server.call('DELETE', `/api/v1/pods/${id}`, { key });
    await stream.until(() => podsOf(stream).length === 3);
    expect(podsOf(stream)).toEqual([
      [id, 'pending'],
      [id, 'stopped'],
      [id, 'removed'],
    ]);
    const ids = stream.received.map((event) => event.id);
    expect(new Set(ids).size).toBe(ids.length);
    const again = await listen('/api/v1/events', { key, lastEventId: ids[0] as string });
    await again.until(() => podsOf(again).length === 2);
    const rest = again.received.map((event) => event.id);
    expect(rest).toEqual(stream.received.slice(1, 1 + rest.length).map((event) => event.id));
    expect(again.received.some(({ data }) => data.operationId === operationId)).toBe(true);
    expect(podsOf(foreign)).toEqual([]);
  });

  it('do not run ahead of an operation whose transaction is older and still open', async () => {
    const { key } = await server.makeKey('operator');
    const { operationId } = await provision(key);
    const stream = await listen('/api/v1/events', { key });
    await server.database.kysely.transaction().execute(async (tx) => {
      await appendEvents(tx, operationId, [{ type: 'note', data: { number: 7 } }]);
      await server.call('POST', '/api/v1/pods', { key, body: { image: 'busybox', name: 'two' } });
      await stream.until(() => stream.comments() > 3);
      expect(podsOf(stream)).toEqual([]);
    });
    await stream.until(() => podsOf(stream).length === 1 && numbersOf(stream).length === 1);
    expect(stream.received.map(({ event }) => event).filter((event) => ['note', 'pod'].includes(event))).toEqual([
      'note',
      'pod',
    ]);
  });

  it('of one that comes and goes are kept to the last hundred', async () => {
    const { key } = await server.makeKey('operator');
    const { body } = await server.call('POST', '/api/v1/pods', { key, body: { image: 'busybox', name: 'three' } });
    const db = server.database.kysely;
    for (let turn = 0; turn < 120; turn++) {
      const status = turn % 2 === 0 ? 'failed' : 'pending';
      await db.updateTable('pods').set({ status }).where('id', '=', body.id).execute();
    }
    const kept = await db.selectFrom('pod_events').select('seq').where('pod_id', '=', body.id).orderBy('seq').execute();
    expect([kept.length, kept[0]?.seq, kept.at(-1)?.seq]).toEqual([100, 22, 121]);
  });
});
