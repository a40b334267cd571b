import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCredential } from '../../db/credentials.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';

let server: ApiServer;
let key: string;
let orgId: string;
beforeAll(async () => {
  server = await startApiServer();
  ({ key, orgId } = await server.makeKey('operator'));
});
afterAll(() => server?.stop());

const post = (body: object, as = key) => server.call('POST', '/api/v1/credentials', { key: as, body });
const make = (name: string) => post({ name, kind: 'ssh_private_key', value: SSH_KEY.private });
const SECRET_LINE = SSH_KEY.private.split('\n')[3] as string;

describe('a credential', () => {
  it('is kept sealed and never shown: not in replies, rows, audit or log', async () => {
    const made = await make('dc-key');
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({
      name: 'dc-key',
      kind: 'ssh_private_key',
      publicPart: expect.stringMatching(/^ssh-ed25519 /),
    });
    const one = await server.call('GET', `/api/v1/credentials/${made.body.id}`, { key });
    const list = await server.call('GET', '/api/v1/credentials', { key });
    expect(list.body.items).toEqual([one.body]);
    const { kysely } = server.database;
    const rows = await kysely.selectFrom('credentials').selectAll().execute();
    const audit = await kysely.selectFrom('audit_log').selectAll().where('target_id', '=', made.body.id).execute();
    expect(audit.map(({ action }) => action)).toEqual(['credential.create']);
    const everything = JSON.stringify([made.body, one.body, rows, audit.map(({ detail }) => detail), server.log]);
    expect(everything).not.toContain(SECRET_LINE);
    for (const ref of ['dc-key', made.body.id])
      expect(await openCredential(kysely, server.deps.envelope, orgId, ref, 'ssh_private_key')).toBe(SSH_KEY.private);
  });

  it("is opened for its own org only, and not from another row's seal", async () => {
    const { id } = (await make('mine')).body;
    const other = await server.makeKey('operator');
    const { kysely } = server.database;
    expect(await openCredential(kysely, server.deps.envelope, other.orgId, id, 'ssh_private_key')).toBeNull();
    expect((await server.call('GET', `/api/v1/credentials/${id}`, { key: other.key })).status).toBe(404);
    expect((await server.call('DELETE', `/api/v1/credentials/${id}`, { key: other.key })).status).toBe(404);
    const second = (await make('second')).body.id;
    const { sealed } = await kysely
      .selectFrom('credentials')
      .select('sealed')
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    await kysely.updateTable('credentials').set({ sealed }).where('id', '=', second).execute();
    await expect(openCredential(kysely, server.deps.envelope, orgId, second, 'ssh_private_key')).rejects.toThrow(
      /belongs elsewhere/,
    );
  });

  it('must be a private key without a passphrase; what is wrong is said without showing it', async () => {
    const locked = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs1', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' },
    }).privateKey;
    for (const [value, message] of [
      ['not-a-key-at-all', /is no SSH private key/],
      [SSH_KEY.public, /is a public key/],
      [locked, /locked by a passphrase/],
    ] as const) {
      const reply = await post({ name: 'bad', kind: 'ssh_private_key', value });
      expect(reply).toMatchObject({
        status: 422,
        body: { errors: [{ path: 'value', message: expect.stringMatching(message) }] },
      });
      expect(JSON.stringify(reply.body)).not.toContain(value.slice(30, 60) || value);
    }
    expect((await post({ name: 'bad', kind: 'password', value: 'x' })).status).toBe(422);
  });

  it('has a name of its own in the org, and is not forgotten while a host is reached by it', async () => {
    const { id } = (await make('used')).body;
    expect(await make('used')).toMatchObject({ status: 409, body: { errors: [{ path: 'name' }] } });
    const body = { address: '10.1.1.1', hostKeySha256: `SHA256:${'A'.repeat(43)}`, credentialRef: 'used' };
    const { node } = (await server.call('POST', '/api/v1/nodes', { key, body })).body;
    expect(node.host.credentialId).toBe(id);
    const refused = await server.call('DELETE', `/api/v1/credentials/${id}`, { key });
    expect(refused).toMatchObject({ status: 409, body: { detail: expect.stringContaining(node.id) } });
    await server.database.kysely
      .updateTable('hosts')
      .set({ removed_at: new Date() })
      .where('node_id', '=', node.id)
      .execute();
    const named = await server.call('DELETE', `/api/v1/credentials/${id}`, { key });
    expect(named.body.detail).toBe(`used is needed by ${node.host.stackId}`);
    await server.database.kysely.updateTable('stacks').set({ removed_at: new Date() }).execute();
    expect((await server.call('DELETE', `/api/v1/credentials/${id}`, { key })).status).toBe(204);
    expect((await server.call('GET', `/api/v1/credentials/${id}`, { key })).status).toBe(404);
  });
});
