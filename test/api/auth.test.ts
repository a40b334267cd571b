import { generateKeyPairSync } from 'node:crypto';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureFirstAdmin } from '../../api/first-admin.ts';
import { makeApiKeySecret } from '../../api/credential.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';

const PASSWORD = 'correct horse battery';
let server: ApiServer;
let owner: { key: string; orgId: string };
beforeAll(async () => {
  server = await startApiServer();
  owner = await server.makeKey('owner');
});
afterAll(() => server?.stop());

let made = 0;
async function makeUser(role = 'viewer'): Promise<string> {
  const email = `user-${++made}@example.com`;
  const reply = await server.call('POST', '/api/v1/users', {
    key: owner.key,
    body: { email, password: PASSWORD, role },
  });
  expect(reply.status).toBe(201);
  return email;
}
const login = (email: string, password = PASSWORD) =>
  server.call('POST', '/api/v1/auth/login', { key: null, body: { email, password } });
const refresh = (refreshToken: string) =>
  server.call('POST', '/api/v1/auth/refresh', { key: null, body: { refreshToken } });
const me = (key: string) => server.call('GET', '/api/v1/users/me', { key });

describe('the first admin', () => {
  it('is made once', async () => {
    expect(await ensureFirstAdmin(server.database.kysely, null)).toBeNull();
    expect((await me(server.adminKey)).body).toMatchObject({ role: 'owner', isAdmin: true, org: { name: 'default' } });
  });

  it('has the configured key, and only the last configured one', async () => {
    const [first, second] = [makeApiKeySecret(), makeApiKeySecret()];
    expect(await ensureFirstAdmin(server.database.kysely, first)).toBeNull();
    expect(await ensureFirstAdmin(server.database.kysely, first)).toBeNull();
    expect((await me(first)).body.isAdmin).toBe(true);
    await ensureFirstAdmin(server.database.kysely, second);
    expect((await me(second)).status).toBe(200);
    expect((await me(first)).status).toBe(401);
    expect((await me(server.adminKey)).status).toBe(200);
  });
});

describe('a login', () => {
  it('gives a token of 24 hours that acts with the role in the org', async () => {
    const email = await makeUser('operator');
    const reply = await login(email.toUpperCase());
    expect(reply.status).toBe(200);
    const hours = (Date.parse(reply.body.expiresAt) - Date.now()) / 3_600_000;
    expect(hours).toBeGreaterThan(23.9);
    expect(hours).toBeLessThan(24.1);
    expect((await me(reply.body.accessToken)).body).toMatchObject({
      role: 'operator',
      isAdmin: false,
      org: { id: owner.orgId },
      user: { email },
    });
  });

  it('fails alike for a wrong password and an unknown address', async () => {
    const wrong = await login(await makeUser(), 'not the password');
    const unknown = await login('nobody@example.com', 'not the password');
    for (const reply of [wrong, unknown])
      expect({ status: reply.status, code: reply.body.code }).toEqual({ status: 401, code: 'unauthenticated' });
    expect(unknown.body.detail).toBe(wrong.body.detail);
  });

  it('is slowed down after ten guesses in a minute', async () => {
    const email = await makeUser();
    const statuses: number[] = [];
    for (let guess = 0; guess < 12; guess++) statuses.push((await login(email, `guess ${guess}`)).status);
    expect(statuses.filter((status) => status === 401)).toHaveLength(10);
    const refused = await login(email);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  it('ends with logout: both of its tokens', async () => {
    const { body } = await login(await makeUser());
    expect((await server.call('POST', '/api/v1/auth/logout', { key: body.accessToken })).status).toBe(204);
    expect((await me(body.accessToken)).status).toBe(401);
    expect((await refresh(body.refreshToken)).status).toBe(401);
  });

  it('ends when the password is changed', async () => {
    const email = await makeUser();
    const { body } = await login(email);
    const change = (currentPassword: string) =>
      server.call('POST', '/api/v1/users/me/password', {
        key: body.accessToken,
        body: { currentPassword, newPassword: 'another long password' },
      });
    expect((await change('wrong')).body.errors).toEqual([{ path: 'currentPassword', message: 'is wrong' }]);
    expect((await change(PASSWORD)).status).toBe(204);
    expect((await me(body.accessToken)).status).toBe(401);
    expect((await login(email)).status).toBe(401);
    expect((await login(email, 'another long password')).status).toBe(200);
  });

  it('follows a change of role at once', async () => {
    const email = await makeUser('viewer');
    const { body } = await login(email);
    expect((await server.call('GET', '/api/v1/api-keys', { key: body.accessToken })).status).toBe(403);
    await server.call('POST', `/api/v1/orgs/${owner.orgId}/members`, {
      key: owner.key,
      body: { email, role: 'owner' },
    });
    expect((await server.call('GET', '/api/v1/api-keys', { key: body.accessToken })).status).toBe(200);
  });
});

describe('a refresh token', () => {
  it('works once; used again, it ends the whole login', async () => {
    const first = (await login(await makeUser())).body;
    const second = (await refresh(first.refreshToken)).body;
    expect((await me(second.accessToken)).status).toBe(200);
    const reuse = await refresh(first.refreshToken);
    expect(reuse.status).toBe(401);
    expect(reuse.body.detail).toContain('used before');
    expect((await refresh(second.refreshToken)).status).toBe(401);
    expect((await me(second.accessToken)).status).toBe(401);
  });

  it('used by two at once gives one of them tokens', async () => {
    const first = (await login(await makeUser())).body;
    const statuses = (await Promise.all([refresh(first.refreshToken), refresh(first.refreshToken)])).map(
      (reply) => reply.status,
    );
    expect(statuses.sort((a, b) => a - b)).toEqual([200, 401]);
  });

  it('is nothing that one can make up', async () => {
    expect((await refresh('mr_made-up')).status).toBe(401);
  });
});

describe('an access token', () => {
  const claims = async () => {
    const { body } = await login(await makeUser());
    return JSON.parse(
      Buffer.from((body.accessToken as string).split('.')[1] as string, 'base64url').toString(),
    ) as Record<string, unknown>;
  };
  const sign = (payload: Record<string, unknown>, key: Parameters<SignJWT['sign']>[0], alg = 'EdDSA') =>
    new SignJWT(payload).setProtectedHeader({ alg }).sign(key);

  it('is refused when another key signed it, expired, or with no signature', async () => {
    const payload = await claims();
    const { createPrivateKey } = await import('node:crypto');
    const ours = createPrivateKey(server.deps.tokenSigningKey.privatePem);
    expect((await me(await sign(payload, ours))).status).toBe(200);
    expect((await me(await sign(payload, generateKeyPairSync('ed25519').privateKey))).status).toBe(401);
    expect((await me(await sign({ ...payload, exp: Math.floor(Date.now() / 1000) - 60 }, ours))).status).toBe(401);
    expect((await me(await sign({ ...payload, iss: 'muster:other' }, ours))).status).toBe(401);
    expect((await me(await sign({ ...payload, aud: 'other' }, ours))).status).toBe(401);
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.`;
    expect((await me(none)).status).toBe(401);
    const asHmac = await sign(payload, Buffer.from(server.deps.tokenSigningKey.publicPem), 'HS256');
    expect((await me(asHmac)).status).toBe(401);
  });
});

describe('registering', () => {
  const register = (body: Record<string, unknown>) =>
    server.call('POST', '/api/v1/auth/register', { key: null, body: { password: PASSWORD, ...body } });
  const invite = (body: Record<string, unknown>) =>
    server.call('POST', '/api/v1/auth/invites', { key: owner.key, body });

  it('needs an invite, which works once', async () => {
    expect((await register({ email: 'a@example.com' })).body.code).toBe('registration_closed');
    const { token } = (await invite({ role: 'billing' })).body;
    const reply = await register({ email: 'a@example.com', invite: token });
    expect(reply.status).toBe(201);
    expect(reply.body).toMatchObject({ user: { email: 'a@example.com' }, org: { id: owner.orgId, role: 'billing' } });
    expect((await register({ email: 'b@example.com', invite: token })).status).toBe(403);
    expect((await login('a@example.com')).status).toBe(200);
  });

  it('takes an invite for an address only from there', async () => {
    const { token } = (await invite({ email: 'c@example.com' })).body;
    expect((await register({ email: 'd@example.com', invite: token })).status).toBe(403);
    expect((await register({ email: 'C@example.com', invite: token })).status).toBe(201);
  });

  it('leaves nothing behind when the invite is wrong', async () => {
    await register({ email: 'e@example.com', invite: 'mi_wrong' });
    const rows = await server.database.kysely
      .selectFrom('users')
      .select('id')
      .where('email', '=', 'e@example.com')
      .execute();
    expect(rows).toEqual([]);
  });

  it('wants a password of 12 characters', async () => {
    expect((await register({ email: 'f@example.com', password: 'short' })).body.errors[0].path).toBe('password');
  });
});

describe('registration that is open or closed', () => {
  it('open: anybody, as the owner of an org of their own; closed: nobody, not even with an invite', async () => {
    const { registration } = server.deps;
    expect(registration).toBe('invite');
    for (const mode of ['open', 'closed'] as const) {
      const other = await startApiServer({ registration: mode });
      try {
        const reply = await other.call('POST', '/api/v1/auth/register', {
          key: null,
          body: {
            email: 'x@example.com',
            password: PASSWORD,
            orgName: 'X Team',
            ...(mode === 'closed' ? { invite: 'mi_x' } : {}),
          },
        });
        if (mode === 'closed') expect(reply.body.code).toBe('registration_closed');
        else expect(reply.body).toMatchObject({ org: { name: 'X Team', role: 'owner' } });
      } finally {
        await other.stop();
      }
    }
  });
});

describe('an API key', () => {
  it('is shown once, works with its role, and is kept only as a hash', async () => {
    const reply = await server.call('POST', '/api/v1/api-keys', {
      key: owner.key,
      body: { name: 'ci', role: 'viewer' },
    });
    expect(reply.status).toBe(201);
    const { key, id } = reply.body;
    expect(key).toMatch(/^mk_[A-Za-z0-9_-]{43}$/);
    expect((await me(key)).body.role).toBe('viewer');
    const list = await server.call('GET', '/api/v1/api-keys', { key: owner.key });
    expect(list.body.items.map((item: { id: string }) => item.id)).toContain(id);
    expect(JSON.stringify(list.body)).not.toContain(key);
    const rows = await server.database.kysely.selectFrom('api_keys').selectAll().execute();
    expect(JSON.stringify(rows.map((row) => ({ ...row, key_hash: row.key_hash.toString('utf8') })))).not.toContain(key);
  });

  it('stops at once when it is revoked, rotated or over', async () => {
    const make = async (body: Record<string, unknown> = {}) =>
      (await server.call('POST', '/api/v1/api-keys', { key: owner.key, body: { name: 'k', ...body } })).body as {
        key: string;
        id: string;
      };
    const revoked = await make();
    expect((await server.call('DELETE', `/api/v1/api-keys/${revoked.id}`, { key: owner.key })).status).toBe(204);
    expect((await me(revoked.key)).status).toBe(401);
    const rotated = await make();
    const again = await server.call('POST', `/api/v1/api-keys/${rotated.id}/rotate`, { key: owner.key });
    expect((await me(rotated.key)).status).toBe(401);
    expect((await me(again.body.key)).status).toBe(200);
    const short = await make({ validFor: '1 minute' });
    await server.database.kysely
      .updateTable('api_keys')
      .set({ expires_at: new Date(Date.now() - 1000) })
      .where('id', '=', short.id)
      .execute();
    expect((await me(short.key)).status).toBe(401);
  });

  it("with isAdmin is given, revoked and rotated only by the deployment's admin", async () => {
    const body = { name: 'root', isAdmin: true };
    expect((await server.call('POST', '/api/v1/api-keys', { key: owner.key, body })).status).toBe(403);
    const given = await server.call('POST', '/api/v1/api-keys', { body });
    expect((await me(given.body.key)).body.isAdmin).toBe(true);
    const ownerOfDefault = await server.makeKey('owner', (await me(server.adminKey)).body.org.id);
    expect((await server.call('DELETE', `/api/v1/api-keys/${given.body.id}`, { key: ownerOfDefault.key })).status).toBe(
      403,
    );
    expect(
      (await server.call('POST', `/api/v1/api-keys/${given.body.id}/rotate`, { key: ownerOfDefault.key })).status,
    ).toBe(403);
  });
});

describe('an org', () => {
  it('keeps an owner', async () => {
    const other = await startApiServer({ registration: 'open' });
    try {
      const reply = await other.call('POST', '/api/v1/auth/register', {
        key: null,
        body: { email: 'o@example.com', password: PASSWORD },
      });
      const token = (
        await other.call('POST', '/api/v1/auth/login', {
          key: null,
          body: { email: 'o@example.com', password: PASSWORD },
        })
      ).body.accessToken;
      const demote = await other.call('POST', `/api/v1/orgs/${reply.body.org.id}/members`, {
        key: token,
        body: { email: 'o@example.com', role: 'viewer' },
      });
      expect(demote.body.code).toBe('conflict');
    } finally {
      await other.stop();
    }
  });

  it('is made by the admin, renamed by its owner, and its name is taken once', async () => {
    const first = await server.call('POST', '/api/v1/orgs', { body: { name: 'Search' } });
    expect(first.status).toBe(201);
    expect((await server.call('POST', '/api/v1/orgs', { body: { name: 'Search' } })).body.code).toBe('conflict');
    expect((await server.call('PATCH', '/api/v1/orgs', { key: owner.key, body: { name: 'Search' } })).body.code).toBe(
      'conflict',
    );
    expect((await server.call('PATCH', '/api/v1/orgs', { key: owner.key, body: { name: 'Vision' } })).body.name).toBe(
      'Vision',
    );
    const email = await makeUser();
    const added = await server.call('POST', `/api/v1/orgs/${first.body.id}/members`, {
      body: { email, role: 'owner' },
    });
    expect(added.status).toBe(200);
    const chosen = await server.call('POST', '/api/v1/auth/login', {
      key: null,
      body: { email, password: PASSWORD, orgId: first.body.id },
    });
    expect((await me(chosen.body.accessToken)).body).toMatchObject({ role: 'owner', org: { id: first.body.id } });
    const orgs = await server.call('GET', '/api/v1/orgs', { key: chosen.body.accessToken });
    expect(orgs.body.items).toHaveLength(2);
  });
});
