import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { acceptProvision } from '../../db/accept-provision.ts';
import { inTransaction } from '../../db/database.ts';
import { newId } from '../../db/new-id.ts';
import { insertRepositoryToken, revokeRepositoryTokens, type NewRepositoryToken } from '../../db/repository-tokens.ts';
import { ensureWorkspace, recordRepository, setWriter } from '../../db/workspaces.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { ACTOR, REQUEST, until } from '../support/fleet-database.ts';

let server: ApiServer;
let store: string;
beforeAll(async () => {
  server = await startApiServer();
  store = mkdtempSync(join(tmpdir(), 'muster-gateway-'));
});
afterAll(async () => {
  await server?.stop();
  rmSync(store, { recursive: true, force: true });
});

const sha256 = (content: Buffer | string) => createHash('sha256').update(content).digest('hex');

async function makeWorkspace(): Promise<{ instanceId: string; attemptId: string; folder: string }> {
  const db = server.database.kysely;
  const { id: orgId } = await db.selectFrom('orgs').select('id').executeTakeFirstOrThrow();
  return inTransaction(db, async (tx) => {
    const stackId = newId('stack');
    const { instances } = await acceptProvision(tx, server.queue, {
      orgId,
      actor: ACTOR,
      names: [`box-${randomBytes(4).toString('hex')}`],
      request: REQUEST,
      consumer: null,
      overrideReason: null,
      stackId,
    });
    const instanceId = instances[0]?.id as string;
    await tx.updateTable('instances').set({ status: 'destroyed' }).where('id', '=', instanceId).execute();
    const attemptId = newId('attempt');
    const attempt = { id: attemptId, org_id: orgId, instance_id: instanceId, stack_id: stackId };
    await tx
      .insertInto('attempts')
      .values({ ...attempt, provider: 'vastai', label: attemptId })
      .execute();
    await ensureWorkspace(tx, { instanceId, orgId });
    await recordRepository(tx, instanceId, { passwordSealed: 'sealed', storeUrl: `file://${store}` });
    await setWriter(tx, instanceId, { attemptId });
    return { instanceId, attemptId, folder: join(store, instanceId) };
  });
}

function makeToken(change: Partial<NewRepositoryToken> & { instanceId: string }): Promise<string> {
  return inTransaction(server.database.kysely, (tx) =>
    insertRepositoryToken(tx, {
      nodeId: newId('node'),
      epoch: 1,
      generation: 1,
      access: 'write',
      operationId: newId('operation'),
      lifetimeMs: 60_000,
      ...change,
    }),
  );
}

function call(
  method: string,
  instanceId: string,
  path: string,
  token: string,
  options: { body?: Buffer | string; headers?: Record<string, string> } = {},
): Promise<Response> {
  return fetch(`${server.url}/api/v1/workspaces/${instanceId}/repository/${path}`, {
    method,
    headers: { authorization: `Basic ${Buffer.from(`node:${token}`).toString('base64')}`, ...options.headers },
    ...(options.body === undefined
      ? {}
      : { body: typeof options.body === 'string' ? options.body : new Uint8Array(options.body) }),
  });
}

let place: Awaited<ReturnType<typeof makeWorkspace>>;
let token: string;
beforeEach(async () => {
  place = await makeWorkspace();
  token = await makeToken({ instanceId: place.instanceId });
});

describe('the gateway to a repository', () => {
  it('takes a file whose name is its content, and gives it back whole and in parts', async () => {
    const content = randomBytes(300_000);
    const name = sha256(content);
    expect((await call('HEAD', place.instanceId, `data/${name}`, token)).status).toBe(404);
    expect((await call('POST', place.instanceId, `data/${name}`, token, { body: content })).status).toBe(200);
    expect(readFileSync(join(place.folder, 'data', name.slice(0, 2), name)).equals(content)).toBe(true);
    const head = await call('HEAD', place.instanceId, `data/${name}`, token);
    expect([head.status, head.headers.get('content-length')]).toEqual([200, '300000']);
    const whole = await call('GET', place.instanceId, `data/${name}`, token);
    expect(Buffer.from(await whole.arrayBuffer()).equals(content)).toBe(true);
    const part = await call('GET', place.instanceId, `data/${name}`, token, { headers: { range: 'bytes=100-199' } });
    expect([part.status, part.headers.get('content-range')]).toEqual([206, 'bytes 100-199/300000']);
    expect(Buffer.from(await part.arrayBuffer()).equals(content.subarray(100, 200))).toBe(true);
    const list = await call('GET', place.instanceId, 'data/', token, {
      headers: { accept: 'application/vnd.x.restic.rest.v2' },
    });
    expect(await list.json()).toEqual([{ name, size: 300_000 }]);
    expect(await (await call('GET', place.instanceId, 'data/', token)).json()).toEqual([name]);
    expect(await (await call('GET', place.instanceId, 'index/', token)).json()).toEqual([]);
  });

  it('keeps nothing of content that is not what its name says', async () => {
    const name = sha256('something else');
    const reply = await call('POST', place.instanceId, `data/${name}`, token, { body: 'a flipped byte' });
    expect([reply.status, ((await reply.json()) as { code: string }).code]).toEqual([400, 'malformed_request']);
    expect((await call('HEAD', place.instanceId, `data/${name}`, token)).status).toBe(404);
    expect(readdirSync(join(store, '.incoming'))).toEqual([]);
  });

  it('keeps nothing of an upload that is cut', async () => {
    const content = randomBytes(200_000);
    const name = sha256(content);
    const upload = httpRequest(`${server.url}/api/v1/workspaces/${place.instanceId}/repository/data/${name}`, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`node:${token}`).toString('base64')}`,
        'content-length': content.length,
      },
    });
    upload.on('error', () => {});
    upload.write(content.subarray(0, 100_000));
    await until(
      () => existsSync(join(store, '.incoming')) && readdirSync(join(store, '.incoming')).length > 0,
      'it begins',
    );
    upload.destroy();
    await until(() => readdirSync(join(store, '.incoming')).length === 0, 'what came is removed');
    expect((await call('HEAD', place.instanceId, `data/${name}`, token)).status).toBe(404);
  });

  it('refuses what is too large before it has come', async () => {
    const name = sha256('');
    const upload = httpRequest(`${server.url}/api/v1/workspaces/${place.instanceId}/repository/data/${name}`, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`node:${token}`).toString('base64')}`,
        'content-length': 300 * 1024 * 1024,
      },
    });
    upload.on('error', () => {});
    const status = new Promise((resolve) => void upload.on('response', (reply) => resolve(reply.statusCode)));
    upload.flushHeaders();
    expect(await status).toBe(413);
    upload.destroy();
  });

  it('lets nobody change or remove what was added, but locks', async () => {
    const lock = 'a lock';
    await call('POST', place.instanceId, `locks/${sha256(lock)}`, token, { body: lock });
    expect((await call('DELETE', place.instanceId, `locks/${sha256(lock)}`, token)).status).toBe(200);
    expect(readdirSync(join(place.folder, 'locks'))).toEqual([]);
    const data = 'data';
    await call('POST', place.instanceId, `data/${sha256(data)}`, token, { body: data });
    for (const type of ['data', 'index', 'snapshots', 'keys']) {
      expect((await call('DELETE', place.instanceId, `${type}/${sha256(data)}`, token)).status).toBe(403);
    }
    expect((await call('POST', place.instanceId, `keys/${sha256(data)}`, token, { body: data })).status).toBe(403);
    expect((await call('POST', place.instanceId, 'config', token, { body: data })).status).toBe(405);
    // The same again is no change: its answer may have been lost.
    expect((await call('POST', place.instanceId, `data/${sha256(data)}`, token, { body: data })).status).toBe(200);
  });

  it('heals a file that was broken at the store when it comes again', async () => {
    const data = 'data';
    const path = join(place.folder, 'data', sha256(data).slice(0, 2), sha256(data));
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, 'dat');
    await call('POST', place.instanceId, `data/${sha256(data)}`, token, { body: data });
    expect(readFileSync(path, 'utf8')).toBe(data);
  });

  it('lets a reader read, and nothing else', async () => {
    const reader = await makeToken({ instanceId: place.instanceId, access: 'read' });
    const name = sha256('x');
    expect((await call('GET', place.instanceId, 'snapshots/', reader)).status).toBe(200);
    expect((await call('POST', place.instanceId, `locks/${name}`, reader, { body: 'x' })).status).toBe(403);
    expect((await call('DELETE', place.instanceId, `locks/${name}`, reader)).status).toBe(403);
  });

  it('refuses another workspace, an expired token, a revoked one, and what is none', async () => {
    const other = await makeWorkspace();
    expect((await call('GET', other.instanceId, 'data/', token)).status).toBe(403);
    const expired = await makeToken({ instanceId: place.instanceId, lifetimeMs: -1 });
    expect((await call('GET', place.instanceId, 'data/', expired)).status).toBe(401);
    const operationId = newId('operation');
    const revoked = await makeToken({ instanceId: place.instanceId, operationId });
    await revokeRepositoryTokens(server.database.kysely, operationId);
    expect((await call('GET', place.instanceId, 'data/', revoked)).status).toBe(401);
    for (const wrong of ['', 'mw_', `mw_${'x'.repeat(43)}`, server.adminKey]) {
      expect((await call('GET', place.instanceId, 'data/', wrong)).status).toBe(401);
    }
    expect((await call('GET', place.instanceId, 'data/..%2f..%2fetc%2fpasswd', token)).status).toBe(404);
    expect((await call('GET', place.instanceId, 'secrets/', token)).status).toBe(404);
  });

  it('ends the write access of an older epoch, in the middle of an upload too', async () => {
    const content = randomBytes(50_000);
    const name = sha256(content);
    const upload = httpRequest(`${server.url}/api/v1/workspaces/${place.instanceId}/repository/snapshots/${name}`, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`node:${token}`).toString('base64')}`,
        'content-length': content.length,
      },
    });
    const status = new Promise((resolve) => void upload.on('response', (reply) => resolve(reply.statusCode)));
    upload.write(content.subarray(0, 40_000));
    await until(
      () => existsSync(join(store, '.incoming')) && readdirSync(join(store, '.incoming')).length > 0,
      'it begins',
    );
    await inTransaction(server.database.kysely, (tx) => setWriter(tx, place.instanceId, null));
    upload.end(content.subarray(40_000));
    expect(await status).toBe(403);
    expect(existsSync(join(place.folder, 'snapshots', name))).toBe(false);
    const later = await call('POST', place.instanceId, `data/${sha256('x')}`, token, { body: 'x' });
    expect(((await later.json()) as { detail: string }).detail).toMatch(/^fenced/);
    // Nor does the same machine come back by being named again: its token stays worth nothing.
    await inTransaction(server.database.kysely, (tx) =>
      setWriter(tx, place.instanceId, { attemptId: place.attemptId }),
    );
    expect((await call('GET', place.instanceId, 'data/', token)).status).toBe(403);
  });
});
