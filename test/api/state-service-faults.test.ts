/** The state service when something goes wrong: answers that are lost, a database that is away, a second replica, and what no CLI would send. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createRunTokens } from '../../api/state-service/state-principal.ts';
import { createStateService } from '../../api/state-service/state-service.ts';
import { openDatabase } from '../../db/database.ts';
import { startApiReplica, type ApiReplica } from '../support/api-replica.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { openCutLine, type CutLine } from '../support/cut-line.ts';
import {
  createEntries,
  createStateCaller,
  exchange,
  type StateCaller,
  type StateReply,
} from '../support/state-caller.ts';

let api: ApiServer;
let key: string;
let cli: StateCaller;
let stack: string;
let count = 0;
beforeAll(async () => {
  api = await startApiServer();
  ({ key } = await api.makeKey('operator'));
  cli = createStateCaller(api.url, key);
});
afterAll(() => api.stop());
beforeEach(async () => {
  const stackName = `f${++count}`;
  stack = `stacks/organization/proj/${stackName}`;
  expect((await cli.send('POST', 'stacks/organization/proj', { body: { stackName } })).status).toBe(200);
});

const journalOf = (...numbers: number[]) => ({ entries: numbers.flatMap(createEntries) });

async function exportedIds(): Promise<string[]> {
  const { body } = await cli.send('GET', `${stack}/export`);
  return (body['deployment']['resources'] ?? []).map(({ id }: { id: string }) => id);
}

/** Everything that the state service keeps, as one digest. */
async function digest(): Promise<string> {
  const tables = ['state_stacks', 'state_updates', 'state_versions', 'state_journal', 'state_events'];
  const { rows } = await api.database.pool.query<{ digest: string }>(
    `select concat(${tables.map((table) => `(select md5(string_agg(t::text, '' order by t::text)) from ${table} t)`).join(', ')}) as digest`,
  );
  return rows[0]?.digest ?? '';
}

/** As the CLI prints it: `error: [code] message`. */
function expectRefusal(reply: StateReply, status: number, message: RegExp): void {
  expect(reply).toMatchObject({ status, body: { code: status, message: expect.stringMatching(message) } });
  expect(Object.keys(reply.body as object).sort()).toEqual(['code', 'message']);
}

describe('an answer that is lost', () => {
  it('of an end is given again for the same end, and for no other', async () => {
    const { path, lease } = await cli.begin(stack);
    await cli.send('PATCH', `${path}/journalentries`, { lease, body: journalOf(1) });
    const complete = (status: string) => cli.send('POST', `${path}/complete`, { lease, body: { status } });
    expect((await complete('succeeded')).status).toBe(200);
    const before = await digest();
    expect((await complete('succeeded')).status).toBe(200);
    expectRefusal(await complete('failed'), 403, /update token/);
    expectRefusal(
      await cli.send('POST', `${path}/complete`, { lease: 'another', body: { status: 'succeeded' } }),
      403,
      /update token/,
    );
    expect(await digest()).toBe(before);
    expect((await cli.send('GET', stack)).body).toMatchObject({ version: 1, activeUpdate: '' });
  });

  it('of an end that somebody else put to the update is no end of its own', async () => {
    const { id, path, lease } = await cli.begin(stack);
    await api.database.pool.query('update state_updates set lease_expires_at = now() where id = $1', [id]);
    await cli.begin(stack);
    expectRefusal(await cli.send('POST', `${path}/complete`, { lease, body: { status: 'failed' } }), 403, /expired/);
  });

  it('of a batch: it comes again, whole or in part, by this replica and another at once', async () => {
    const replica = await startApiReplica(api);
    const other = createStateCaller(replica.url, key);
    const { id, path, lease } = await cli.begin(stack);
    const batches = [journalOf(1, 2, 3), journalOf(2, 3, 4), journalOf(1, 2, 3, 4, 5), journalOf(4)];
    const replies = await Promise.all(
      batches.flatMap((body) => [cli, other].map((to) => to.send('PATCH', `${path}/journalentries`, { lease, body }))),
    );
    expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200));
    const { rows } = await api.database.pool.query('select sequence_id from state_journal where update_id = $1', [id]);
    expect(rows).toHaveLength(10);
    expect((await other.send('POST', `${path}/complete`, { lease, body: { status: 'succeeded' } })).status).toBe(200);
    expect(await exportedIds()).toEqual(['id-1', 'id-2', 'id-3', 'id-4', 'id-5']);
    await replica.stop();
  });
});

describe('a database that is away', () => {
  let line: CutLine;
  let replica: ApiReplica;
  let through: StateCaller;
  beforeAll(async () => {
    const url = new URL(api.databaseUrl);
    line = await openCutLine(Number(url.port));
    url.port = String(line.port);
    replica = await startApiReplica(api, url.href);
    through = createStateCaller(replica.url, key);
  });
  afterAll(async () => {
    await replica.stop();
    await line.close();
  });

  /** The request is there before the database is back. */
  async function whileAway<T>(work: () => Promise<T>): Promise<T> {
    await line.cut();
    const result = work();
    await new Promise((resolve) => setTimeout(resolve, 250));
    await line.mend();
    return result;
  }

  it('is waited for: an update is made, started, journaled, renewed, exported and ended over it', async () => {
    const { path, lease, started } = await whileAway(() => through.begin(stack));
    expect(started.status).toBe(200);
    const ask = (method: string, part: string, body?: unknown) =>
      whileAway(() => through.send(method, `${path}/${part}`, { lease, body }));
    expect((await ask('PATCH', 'journalentries', journalOf(1))).status).toBe(200);
    expect((await ask('POST', 'renew_lease', { duration: 300 })).status).toBe(200);
    const exported = await whileAway(() => through.send('GET', `${stack}/export`));
    expect(exported.body).toMatchObject({ deployment: { resources: [{ id: 'id-1' }] } });
    expect((await ask('POST', 'complete', { status: 'succeeded' })).status).toBe(200);
    expect(await exportedIds()).toEqual(['id-1']);
    const { rows } = await api.database.pool.query(
      `select from audit_log where action = 'stack.update' and target_id = $1`,
      [stack.split('/').slice(2).join('/')],
    );
    expect(rows).toHaveLength(1);
  });

  it('is waited for in a stack that is imported, which makes one version', async () => {
    const state = { version: 3, deployment: { resources: [] } };
    expect((await whileAway(() => through.send('POST', `${stack}/import`, { body: state }))).status).toBe(200);
    expect((await cli.send('GET', stack)).body).toMatchObject({ version: 1 });
  });

  it('with its word for a commit is asked again, and finds what the same request had done', async () => {
    const make = (stackName: string) => {
      line.loseCommit();
      return through.send('POST', 'stacks/organization/proj', { body: { stackName, tags: { by: 'ada' } } });
    };
    expect(await make('once')).toMatchObject({ status: 200, body: { messages: [] } });
    expectRefusal(await cli.send('POST', 'stacks/organization/proj', { body: { stackName: 'once' } }), 409, /exists/);
    expect((await cli.send('GET', 'stacks/organization/proj/once')).body).toMatchObject({
      version: 0,
      tags: { by: 'ada' },
    });
    const { path } = await cli.begin(stack);
    line.loseCommit();
    expect((await through.send('POST', `${path}/cancel`)).status).toBe(200);
    expectRefusal(await through.send('POST', `${path}/cancel`), 409, /not running/);
    const { rows } = await api.database.pool.query(
      `select action, count(*)::int from audit_log where target_id in ('proj/once', $1) and action in ('stack.create', 'stack.cancel') group by 1`,
      [stack.split('/').slice(2).join('/')],
    );
    expect(rows).toEqual(
      expect.arrayContaining([
        { action: 'stack.create', count: 2 },
        { action: 'stack.cancel', count: 1 },
      ]),
    );
  });

  it('for too long is a 503, which the CLI asks again', async () => {
    const url = new URL(api.databaseUrl);
    url.port = String(line.port);
    const database = openDatabase({ url: url.href, applicationName: 'impatient' });
    const runTokens = createRunTokens();
    const service = createStateService(
      {
        database,
        envelope: api.deps.envelope,
        authenticator: null,
        runTokens,
        log: pino({ level: 'silent' }),
      },
      { awayPatienceMs: 150 },
    );
    const server: Server = createServer((request, response) => void service(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const impatient = createStateCaller(
      `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      runTokens.issue({ runId: 'r', stackName: 's' }),
    );
    await line.cut();
    const reply = await impatient.send('PATCH', `${stack}/update/x/journalentries`, { lease: 'x', body: journalOf(1) });
    expectRefusal(reply, 503, /database does not answer/);
    await line.mend();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await database.close();
  });
});

describe('what is refused changes nothing', () => {
  const VERSION = { version: 1, kind: 1, sequenceID: 3, operationID: 2, removeOld: null, removeNew: null };
  const deep = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
  const CASES: [what: string, status: number, message: RegExp, sent: { raw: string | Buffer; encoding?: string }][] = [
    ['no JSON', 400, /not JSON/, { raw: '{"entries": [' }],
    ['no list', 400, /entries/, { raw: '{"entries": {"a": 1}}' }],
    ['a kind of tomorrow', 400, /kinds 0 to 9/, { raw: JSON.stringify({ entries: [{ ...VERSION, kind: 10 }] }) }],
    ['a version of tomorrow', 400, /version 1/, { raw: JSON.stringify({ entries: [{ ...VERSION, version: 2 }] }) }],
    ['a member of tomorrow', 400, /retain/, { raw: JSON.stringify({ entries: [{ ...VERSION, retain: 1 }] }) }],
    ['no number', 400, /sequenceID/, { raw: JSON.stringify({ entries: [{ ...VERSION, sequenceID: '3' }] }) }],
    [
      'a number beyond all',
      400,
      /sequenceID/,
      { raw: JSON.stringify({ entries: [{ ...VERSION, sequenceID: 1e300 }] }) },
    ],
    [
      'a state without a name',
      400,
      /urn/,
      { raw: JSON.stringify({ entries: [{ ...VERSION, state: { type: 't' } }] }) },
    ],
    ['too many entries', 400, /entries/, { raw: JSON.stringify({ entries: Array(10_001).fill(VERSION) }) }],
    ['too deep a nest', 400, /500 deep/, { raw: `{"entries": [{"extension": ${deep(5_000)}}]}` }],
    ['no gzip', 400, /not gzip/, { raw: '{}', encoding: 'gzip' }],
    ['half a gzip', 400, /not gzip/, { raw: gzipSync(JSON.stringify(journalOf(1))).subarray(0, 60), encoding: 'gzip' }],
    ['an unknown packing', 415, /br/, { raw: '{}', encoding: 'br' }],
    [
      'a gzip that says another length than it has',
      400,
      /not gzip/,
      { raw: withLength(gzipSync(JSON.stringify(journalOf(1))), 3), encoding: 'gzip' },
    ],
    ['a bomb', 413, /at most \d+ bytes/, { raw: gzipSync(Buffer.alloc(40 * 1024 * 1024, ' ')), encoding: 'gzip' }],
  ];
  it('of a journal: each alone', async () => {
    const { path, lease } = await cli.begin(stack);
    await cli.send('PATCH', `${path}/journalentries`, { lease, body: journalOf(1) });
    const before = await digest();
    for (const [what, status, message, sent] of CASES) {
      const reply = await cli.send('PATCH', `${path}/journalentries`, { lease, ...sent });
      expect(reply.status, what).toBe(status);
      expectRefusal(reply, status, message);
    }
    expect(await digest()).toBe(before);
    expect((await cli.send('PATCH', `${path}/journalentries`, { lease, body: journalOf(2) })).status).toBe(200);
  });

  it('of what is larger than anything, as an answer and not a cut connection', async () => {
    const { path, lease } = await cli.begin(stack);
    const before = await digest();
    const size = 80 * 1024 * 1024;
    const head = `PATCH /api/${path}/journalentries HTTP/1.1\r\nhost: x\r\nauthorization: update-token ${lease}\r\ncontent-length: ${size}\r\n\r\n`;
    const answer = await exchange(api.url, head, Array<Buffer>(80).fill(Buffer.alloc(1024 * 1024, ' ')));
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toContain('"message":"Payload Too Large');
    expect(await digest()).toBe(before);
  });

  it('of a token that is over, of another update, or of nobody', async () => {
    const ended = await cli.begin(stack);
    await cli.send('POST', `${ended.path}/complete`, { lease: ended.lease, body: { status: 'succeeded' } });
    const stale = await cli.begin(stack);
    await api.database.pool.query('update state_updates set lease_expires_at = now() where id = $1', [stale.id]);
    const running = await cli.begin(stack);
    const before = await digest();
    for (const [path, lease] of [
      [ended.path, ended.lease],
      [stale.path, stale.lease],
      [running.path, ended.lease],
      [running.path, stale.lease],
      [running.path, 'nobody'],
      [running.path, ''],
    ] as const)
      for (const [method, part, body] of [
        ['PATCH', 'journalentries', journalOf(1)],
        ['PATCH', 'checkpoint', { version: 3, deployment: { resources: [] } }],
        ['POST', 'renew_lease', { duration: 300 }],
        ['POST', 'events/batch', { events: [{ sequence: 1, timestamp: 1 }] }],
        ['POST', 'complete', { status: 'failed' }],
      ] as const)
        expectRefusal(await cli.send(method, `${path}/${part}`, { lease, body }), 403, /invalid or has expired/);
    expect(await digest()).toBe(before);
  });

  it("of another org's stack, which does not exist, also by the id of its update", async () => {
    const theirs = await cli.begin(stack);
    const stranger = createStateCaller(api.url, (await api.makeKey('owner')).key);
    await stranger.send('POST', 'stacks/organization/proj', { body: { stackName: 'own' } });
    const before = await digest();
    for (const [method, path, body] of [
      ['GET', stack],
      ['DELETE', `${stack}?force=true`],
      ['GET', `${stack}/export`],
      ['GET', `${stack}/updates`],
      ['POST', `${stack}/import`, { version: 3, deployment: {} }],
      ['POST', `${stack}/encrypt`, { plaintext: 'YQ==' }],
      ['POST', `${stack}/decrypt`, { ciphertext: 'YQ==' }],
      ['POST', `${stack}/batch-decrypt`, { ciphertexts: ['YQ=='] }],
      ['POST', `${stack}/update`, {}],
      ['POST', `${stack}/rename`, { newName: 'mine' }],
      ['PATCH', `${stack}/tags`, {}],
      ['POST', theirs.path, { journalVersion: 1 }],
      ['GET', theirs.path],
      ['GET', `${theirs.path}/events`],
      ['POST', `${theirs.path}/cancel`],
      ['POST', `stacks/organization/proj/own/update/${theirs.id}/cancel`],
      ['GET', `stacks/organization/proj/own/update/${theirs.id}`],
    ] as const) {
      const reply = await stranger.send(method, path, body === undefined ? {} : { body });
      expect([404, 409], `${method} ${path}: ${reply.status}`).toContain(reply.status);
      expect(reply.body).toEqual({ code: reply.status, message: expect.stringMatching(/^(Not Found|Conflict): /) });
    }
    expect(await digest()).toBe(before);
  });

  it('of names that no database holds, and of paths that are none', async () => {
    const before = await digest();
    expectRefusal(await cli.send('GET', 'stacks/organization/proj/a%00b'), 400, /^Bad Request: /);
    expectRefusal(await cli.send('PATCH', `${stack}/tags`, { body: { 'a\u0000b': 'x' } }), 400, /^Bad Request: /);
    expectRefusal(await cli.send('GET', 'stacks/organization/proj/%ff'), 404, /^Not Found: /);
    expect(await digest()).toBe(before);
  });
});

/** The last four bytes of a gzip say how long it is unpacked. */
function withLength(gzip: Buffer, length: number): Buffer {
  const changed = Buffer.from(gzip);
  changed.writeUInt32LE(length, changed.length - 4);
  return changed;
}
