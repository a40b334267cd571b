/** The state service as the engine's CLI speaks to it: who may do what, what is refused, and that nothing that was refused has changed anything. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startApiServer, type ApiServer } from '../support/api-server.ts';

let api: ApiServer;
let key: string;
let orgId: string;
let name: string;
let count = 0;
beforeAll(async () => {
  api = await startApiServer();
  ({ key, orgId } = await api.makeKey('operator'));
});
afterAll(() => api.stop());
beforeEach(async () => {
  name = `s${++count}`;
  expect((await send('POST', 'stacks/organization/proj', { body: { stackName: name } })).status).toBe(200);
});

interface Sent {
  body?: unknown;
  /** @default the operator's */
  token?: string | null;
  lease?: string;
  gzip?: Buffer;
}

async function send(method: string, path: string, { body, token = key, lease, gzip }: Sent = {}) {
  const authorization = lease === undefined ? (token === null ? null : `token ${token}`) : `update-token ${lease}`;
  const reply = await fetch(`${api.url}/api/${path}`, {
    method,
    headers: {
      accept: 'application/vnd.pulumi+9',
      'user-agent': 'pulumi-cli/1 (v3.259.0; linux; cmd=up)',
      'content-type': 'application/json',
      ...(gzip ? { 'content-encoding': 'gzip' } : {}),
      ...(authorization === null ? {} : { authorization }),
    },
    ...(gzip ? { body: new Uint8Array(gzip) } : body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await reply.text();
  return { status: reply.status, body: text === '' ? null : JSON.parse(text) };
}

const at = (part = '') => `stacks/organization/proj/${name}${part}`;

async function begin(kind = 'update') {
  const { body } = await send('POST', at(`/${kind}`), {
    body: { options: {}, config: {}, metadata: { message: 'm' } },
  });
  const id = body['updateID'] as string;
  const started = await send('POST', at(`/update/${id}`), { body: { journalVersion: 1 } });
  return { id, status: started.status, started: started.body, lease: started.body['token'] as string };
}

const resource = (suffix: string) => ({
  urn: `urn:pulumi:${name}::proj::aws:ec2/vpc:Vpc::${suffix}`,
  type: 'aws:ec2/vpc:Vpc',
  custom: true,
  inputs: { cidrBlock: '10.0.0.0/16' },
});
const entry = (sequenceID: number, kind: number, more: object = {}) => ({
  version: 1,
  kind,
  sequenceID,
  operationID: 1,
  removeOld: null,
  removeNew: null,
  ...more,
});
const creating = (sequenceID: number, suffix: string) =>
  entry(sequenceID, 0, { operation: { resource: resource(suffix), type: 'creating' } });
const created = (sequenceID: number, suffix: string) =>
  entry(sequenceID, 1, { state: { ...resource(suffix), id: `id-${suffix}` } });

async function exported() {
  const { body } = await send('GET', at('/export'));
  const { resources = [], pending_operations: pending = [] } = body['deployment'] as {
    resources?: { id?: string }[];
    pending_operations?: unknown[];
  };
  return { ids: resources.map(({ id }) => id), pending: pending.length };
}

describe('an update', () => {
  it('journals, and what it journaled is the state when it ends', async () => {
    const { id, lease, started } = await begin();
    expect(started).toMatchObject({ version: 1, journalVersion: 1 });
    const entries = [creating(1, 'a'), created(2, 'a')];
    expect((await send('PATCH', at(`/update/${id}/journalentries`), { lease, body: { entries } })).status).toBe(200);
    expect((await send('POST', at(`/update/${id}/complete`), { lease, body: { status: 'succeeded' } })).status).toBe(
      200,
    );
    expect(await exported()).toEqual({ ids: ['id-a'], pending: 0 });
    const history = (await send('GET', at('/updates'))).body['updates'] as object[];
    expect(history).toMatchObject([{ kind: 'update', result: 'succeeded', version: 1, message: 'm' }]);
  });

  it('shows what it has journaled so far, whatever became of it: a create that did not end is pending', async () => {
    const { id, lease } = await begin();
    const entries = [creating(1, 'a'), created(2, 'a'), { ...creating(3, 'b'), operationID: 2 }];
    await send('PATCH', at(`/update/${id}/journalentries`), { lease, body: { entries } });
    expect(await exported()).toEqual({ ids: ['id-a'], pending: 1 });
  });

  it('may send an entry again, in any order, without effect', async () => {
    const { id, lease } = await begin();
    for (const entries of [[created(2, 'a')], [creating(1, 'a'), created(2, 'a')], [created(2, 'a')]])
      await send('PATCH', at(`/update/${id}/journalentries`), { lease, body: { entries } });
    await send('POST', at(`/update/${id}/complete`), { lease, body: { status: 'succeeded' } });
    expect(await exported()).toEqual({ ids: ['id-a'], pending: 0 });
  });

  it('may send a batch as a gzip of several members, of which the last alone says its length', async () => {
    const { id, lease } = await begin();
    const text = JSON.stringify({ entries: [creating(1, 'a'), created(2, 'a')] });
    const gzip = Buffer.concat([gzipSync(text.slice(0, -2)), gzipSync(text.slice(-2))]);
    expect((await send('PATCH', at(`/update/${id}/journalentries`), { lease, gzip })).status).toBe(200);
    expect(await exported()).toEqual({ ids: ['id-a'], pending: 0 });
  });

  it('of an old CLI writes whole states', async () => {
    const { body } = await send('POST', at('/update'), { body: {} });
    const id = body['updateID'] as string;
    const started = (await send('POST', at(`/update/${id}`), { body: {} })).body;
    expect(started).toMatchObject({ journalVersion: 0 });
    const lease = started['token'] as string;
    const deployment = { resources: [{ ...resource('a'), id: 'id-a' }] };
    await send('PATCH', at(`/update/${id}/checkpoint`), { lease, body: { isInvalid: false, version: 3, deployment } });
    expect(await exported()).toEqual({ ids: ['id-a'], pending: 0 });
    await send('POST', at(`/update/${id}/complete`), { lease, body: { status: 'succeeded' } });
    expect(await exported()).toEqual({ ids: ['id-a'], pending: 0 });
  });

  it('holds the stack: another is refused with the words that the CLI knows, a preview is not', async () => {
    await begin();
    const second = await begin();
    expect(second).toMatchObject({
      status: 409,
      started: { code: 409, message: 'Conflict: Another update is currently in progress.' },
    });
    expect((await begin('preview')).status).toBe(200);
  });

  it('whose lease ran out gives way, with what it had journaled, and writes no more', async () => {
    const first = await begin();
    await send('PATCH', at(`/update/${first.id}/journalentries`), {
      lease: first.lease,
      body: { entries: [creating(1, 'a'), created(2, 'a')] },
    });
    await api.database.pool.query('update state_updates set lease_expires_at = now() where id = $1', [first.id]);
    const late = { lease: first.lease, body: { entries: [{ ...creating(3, 'b'), operationID: 2 }] } };
    expect((await send('PATCH', at(`/update/${first.id}/journalentries`), late)).status).toBe(403);
    expect(
      (await send('POST', at(`/update/${first.id}/renew_lease`), { lease: first.lease, body: { duration: 300 } }))
        .status,
    ).toBe(403);
    expect(await begin()).toMatchObject({ status: 200, started: { version: 2 } });
    expect(await exported()).toEqual({ ids: ['id-a'], pending: 0 });
  });

  it('that is canceled ends at once; its token is worth nothing, a replayed one neither', async () => {
    const first = await begin();
    const { id, lease } = first;
    expect((await send('GET', at())).body).toMatchObject({ activeUpdate: id, currentOperation: { kind: 'update' } });
    expect((await send('POST', at(`/update/${id}/cancel`))).status).toBe(200);
    for (const [method, part, body] of [
      ['PATCH', 'journalentries', { entries: [creating(1, 'a')] }],
      ['POST', 'renew_lease', { duration: 300 }],
      ['POST', 'complete', { status: 'succeeded' }],
      ['POST', 'events/batch', { events: [] }],
    ] as const)
      expect((await send(method, at(`/update/${id}/${part}`), { lease, body })).status).toBe(403);
    expect((await send('POST', at(`/update/${id}/cancel`))).status).toBe(409);
    const second = await begin();
    expect(
      (await send('PATCH', at(`/update/${second.id}/journalentries`), { lease, body: { entries: [] } })).status,
    ).toBe(403);
  });

  it('whose journal contradicts itself leaves the state as it was, until one is imported', async () => {
    const { id, lease } = await begin();
    const entries = [entry(1, 1, { removeOld: 7 })];
    await send('PATCH', at(`/update/${id}/journalentries`), { lease, body: { entries } });
    const completed = await send('POST', at(`/update/${id}/complete`), { lease, body: { status: 'succeeded' } });
    expect(completed).toMatchObject({
      status: 409,
      body: { message: expect.stringContaining('there is no resource 7') },
    });
    await api.database.pool.query('update state_updates set lease_expires_at = now() where id = $1', [id]);
    expect((await begin()).status).toBe(409);
    const state = { version: 3, deployment: { resources: [{ ...resource('b'), id: 'id-b' }] } };
    expect((await send('POST', at('/import'), { body: state })).status).toBe(200);
    expect(await exported()).toEqual({ ids: ['id-b'], pending: 0 });
    expect((await begin()).status).toBe(200);
  });
});

describe('what is refused', () => {
  let id: string;
  let lease: string;
  beforeEach(async () => {
    ({ id, lease } = await begin());
  });
  const journal = (entries: unknown) => send('PATCH', at(`/update/${id}/journalentries`), { lease, body: { entries } });

  it.each([
    ['an unknown kind', { kind: 10 }, /kinds 0 to 9/],
    ['an unknown version', { version: 2 }, /version 1/],
    ['an unknown member', { compressed: true }, /compressed/],
    ['a sequence of none', { sequenceID: 0 }, /sequenceID/],
    ['a negative index', { removeOld: -1 }, /removeOld/],
  ])('an entry with %s, by name, and the whole batch with it', async (_what, change, message) => {
    const reply = await journal([creating(1, 'a'), { ...creating(2, 'b'), ...change }]);
    expect(reply.status).toBe(400);
    expect(reply.body['message']).toMatch(message);
    expect(await exported()).toEqual({ ids: [], pending: 0 });
  });

  it('what is no JSON, no gzip, or unpacks to too much', async () => {
    const broken = await send('PATCH', at(`/update/${id}/journalentries`), { lease, gzip: Buffer.from('not gzip') });
    expect(broken.status).toBe(400);
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, ' '));
    expect(bomb.length).toBeLessThan(100_000);
    const reply = await send('PATCH', at(`/update/${id}/journalentries`), { lease, gzip: bomb });
    expect(reply.status).toBe(413);
    expect(
      (await send('PATCH', at(`/update/${id}/journalentries`), { lease, gzip: gzipSync('{"entries": 1}') })).status,
    ).toBe(400);
  });

  it('without a token, with an unknown one, and with the lease of nobody', async () => {
    expect((await send('GET', at(), { token: null })).status).toBe(401);
    expect((await send('GET', at(), { token: 'mk_nobody' })).status).toBe(401);
    expect((await send('PATCH', at(`/update/${id}/journalentries`), { lease: 'x', body: {} })).status).toBe(403);
    expect((await send('PATCH', at(`/update/${id}/journalentries`), { body: {} })).status).toBe(403);
  });

  it('deltas of checkpoints and everything else that is not offered', async () => {
    for (const part of ['checkpointdelta', 'checkpointverbatim'])
      expect((await send('PATCH', at(`/update/${id}/${part}`), { lease, body: {} })).status).toBe(404);
    for (const path of ['agents/signup', 'orgs/organization/policypacks', 'user/nothing'])
      expect((await send('POST', path, { body: {} })).status).toBe(404);
    const offered = (await send('GET', 'capabilities')).body['capabilities'] as { capability: string }[];
    expect(offered.map(({ capability }) => capability)).toEqual(['batch-encrypt', 'deployment-schema-version']);
  });
});

describe('who may', () => {
  it('see a stack: only its org, under the name that everybody has for its own', async () => {
    const other = await api.makeKey('owner');
    expect((await send('GET', at(), { token: other.key })).status).toBe(404);
    expect((await send('GET', at().replace('organization', orgId), { token: other.key })).status).toBe(404);
    expect((await send('GET', at().replace('organization', orgId))).status).toBe(200);
    const listed = (await send('GET', 'user/stacks', { token: other.key })).body['stacks'];
    expect(listed).toEqual([]);
  });

  it('preview and export as a viewer, but not update, decrypt, import, cancel or remove', async () => {
    const { key: viewer } = await api.makeKey('viewer', orgId);
    const preview = await send('POST', at('/preview'), { token: viewer, body: { options: { dryRun: true } } });
    expect(preview.status).toBe(200);
    const started = await send('POST', at(`/update/${preview.body['updateID']}`), {
      token: viewer,
      body: { journalVersion: 1 },
    });
    expect(started.status).toBe(200);
    expect((await send('GET', at('/export'), { token: viewer })).status).toBe(200);
    const { body } = await send('POST', at('/encrypt'), { token: viewer, body: { plaintext: 'c2VjcmV0' } });
    const { id } = await begin();
    for (const [method, part, sent] of [
      ['POST', '/update', {}],
      ['POST', '/decrypt', { ciphertext: body['ciphertext'] }],
      ['POST', '/batch-decrypt', { ciphertexts: [body['ciphertext']] }],
      ['POST', '/import', { version: 3, deployment: {} }],
      ['POST', `/update/${id}/cancel`, undefined],
      ['PATCH', '/tags', {}],
      ['POST', '/rename', { newName: 'x' }],
      ['DELETE', '', undefined],
    ] as const)
      expect((await send(method, at(part), { token: viewer, body: sent })).status, `${method} ${part}`).toBe(403);
  });

  it('is written down: updates, decryptions and cancels', async () => {
    const { body } = await send('POST', at('/encrypt'), { body: { plaintext: 'c2VjcmV0' } });
    await send('POST', at('/batch-decrypt'), { body: { ciphertexts: [body['ciphertext']] } });
    const { id } = await begin();
    await send('POST', at(`/update/${id}/cancel`));
    const { rows } = await api.database.pool.query<{ action: string }>(
      `select action from audit_log where target_id = $1 order by seq`,
      [`proj/${name}`],
    );
    expect(rows.map(({ action }) => action)).toEqual(['stack.create', 'stack.decrypt', 'stack.update', 'stack.cancel']);
  });
});

describe('secrets', () => {
  it('come back in their order, survive a rename, and open in no other stack', async () => {
    const plaintexts = ['b25l', 'dHdv', ''];
    const { body } = await send('POST', at('/batch-encrypt'), { body: { plaintexts } });
    const ciphertexts = body['ciphertexts'] as string[];
    expect(new Set(ciphertexts).size).toBe(3);
    const before = name;
    expect((await send('POST', at('/rename'), { body: { newName: `${before}-renamed` } })).status).toBe(200);
    name = `${before}-renamed`;
    const opened = (await send('POST', at('/batch-decrypt'), { body: { ciphertexts } })).body['plaintexts'];
    expect(Object.values(opened ?? {})).toEqual(plaintexts);
    await send('POST', 'stacks/organization/proj', { body: { stackName: `${before}-other` } });
    name = `${before}-other`;
    const foreign = await send('POST', at('/decrypt'), { body: { ciphertext: ciphertexts[0] } });
    expect(foreign).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining('belongs to another stack') },
    });
  });

  it('are said to be ours under the address by which we are asked, also after a rename', async () => {
    const state = { url: 'http://elsewhere:1', owner: 'them', project: 'old', stack: 'old' };
    const deployment = { secrets_providers: { type: 'service', state }, resources: [] };
    await send('POST', at('/import'), { body: { version: 3, deployment } });
    const { deployment: given } = (await send('GET', at('/export'))).body as unknown as {
      deployment: typeof deployment;
    };
    expect(given.secrets_providers.state).toEqual({
      url: api.url,
      owner: 'organization',
      project: 'proj',
      stack: name,
    });
  });
});

describe('a stack', () => {
  it('is made once, has every version, and is removed only when it is empty or by force', async () => {
    const again = await send('POST', 'stacks/organization/proj', { body: { stackName: name } });
    expect(again).toMatchObject({ status: 409, body: { message: expect.stringContaining('already exists') } });
    const { id, lease } = await begin();
    await send('PATCH', at(`/update/${id}/journalentries`), { lease, body: { entries: [created(1, 'a')] } });
    await send('POST', at(`/update/${id}/complete`), { lease, body: { status: 'failed' } });
    await send('POST', at('/import'), { body: { version: 3, deployment: { resources: [] } } });
    expect((await send('GET', at('/export/1'))).body).toMatchObject({ deployment: { resources: [{ id: 'id-a' }] } });
    expect((await send('GET', at('/export/9'))).status).toBe(404);
    await send('POST', at('/import'), {
      body: { version: 3, deployment: { resources: [{ ...resource('a'), id: 'x' }] } },
    });
    expect(await send('DELETE', at())).toMatchObject({
      status: 400,
      body: { message: 'Bad Request: Stack still contains resources.' },
    });
    expect((await send('DELETE', at('?force=true'))).status).toBe(200);
    expect((await send('GET', at())).status).toBe(404);
  });

  it('refuses a state that it does not know, by the version', async () => {
    const reply = await send('POST', at('/import'), { body: { version: 2, deployment: {} } });
    expect(reply).toMatchObject({ status: 400, body: { message: expect.stringContaining('version: must be 3 or 4') } });
  });
});
