import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
let owner: { key: string; orgId: string };
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{}]);
  owner = await server.makeKey('owner');
});
afterAll(() => server?.stop());

const call = (method: string, path: string, body?: unknown, key = owner.key) =>
  server.call(method, `/api/v1${path}`, { key, ...(body === undefined ? {} : { body }) });
const URL = 'https://hooks.example.com/x?token=1';

describe('webhooks', () => {
  it('are made, shown without their secret, changed, rotated and deleted, each written into the audit log', async () => {
    const made = await call('POST', '/webhooks', {
      url: URL,
      events: ['instance.ready', 'finding.*'],
      description: 'ops',
    });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe(`/api/v1/webhooks/${made.body.id}`);
    expect(made.body.secret).toMatch(/^whsec_/);
    const { secret, ...shown } = made.body;
    expect((await call('GET', `/webhooks/${shown.id}`)).body).toEqual(shown);
    expect((await call('GET', '/webhooks')).body.items).toEqual([shown]);
    const changed = await call('PATCH', `/webhooks/${shown.id}`, { enabled: false, events: ['*'] });
    expect(changed.body).toMatchObject({ enabled: false, disabledReason: 'disabled on request', events: ['*'] });
    expect((await call('PATCH', `/webhooks/${shown.id}`, { enabled: true })).body.disabledReason).toBeNull();
    const rotated = await call('POST', `/webhooks/${shown.id}/rotate`, { overlap: '1 hour' });
    expect(rotated.body.secret).not.toBe(secret);
    expect(Date.parse(rotated.body.previousSecretUntil) - Date.now()).toBeGreaterThan(3_500_000);
    expect(
      (await call('POST', `/webhooks/${shown.id}/rotate`, { overlap: '0 seconds' })).body.previousSecretUntil,
    ).toBeNull();
    expect((await call('DELETE', `/webhooks/${shown.id}`)).status).toBe(204);
    expect((await call('GET', `/webhooks/${shown.id}`)).status).toBe(404);
    const audit = (await call('GET', `/audit?targetId=${shown.id}`)).body.items as { action: string; detail: object }[];
    expect(audit.map((entry) => entry.action).reverse()).toEqual([
      'webhook.create',
      'webhook.change',
      'webhook.change',
      'webhook.rotate',
      'webhook.rotate',
      'webhook.delete',
    ]);
    expect(JSON.stringify(audit)).not.toContain('token');
  });

  it.each([
    [{ url: 'nowhere' }, 'url'],
    [{ url: 'ftp://example.com/' }, 'url'],
    [{ url: 'https://me:secret@example.com/' }, 'url'],
    [{ url: URL, events: [] }, 'events'],
    [{ url: URL, events: ['instance.exploded'] }, 'events.0'],
    [{ url: URL, colour: 'red' }, 'colour'],
  ])('are refused as %j, naming the field', async (body, path) => {
    const reply = await call('POST', '/webhooks', body);
    expect(reply.status).toBe(422);
    expect(reply.body.errors[0].path).toBe(path);
  });

  it('lead only to public addresses by https outside the sandbox', async () => {
    const live = await startApiServer({ webhookTargets: 'public' });
    const post = (url: string) => live.call('POST', '/api/v1/webhooks', { body: { url } });
    for (const url of [
      'http://example.com/',
      'https://127.0.0.1/',
      'https://[::1]/',
      'https://169.254.169.254/latest',
      'https://0x7f000001/',
      'https://localhost:5432/',
      'https://metadata.localhost/',
    ]) {
      expect({ url, status: (await post(url)).status }).toEqual({ url, status: 422 });
    }
    expect((await post('https://example.com/')).status).toBe(201);
    await live.stop();
  });

  it('of another org do not exist; what belongs to no org is for the admin only', async () => {
    const { id } = (await call('POST', '/webhooks', { url: URL })).body;
    const other = await server.makeKey('owner');
    for (const [method, path] of [
      ['GET', `/webhooks/${id}`],
      ['PATCH', `/webhooks/${id}`],
      ['DELETE', `/webhooks/${id}`],
      ['POST', `/webhooks/${id}/test`],
      ['POST', `/webhooks/${id}/rotate`],
      ['GET', `/webhooks/${id}/deliveries`],
    ] as const) {
      const body = method === 'PATCH' ? { enabled: false } : undefined;
      expect((await call(method, path, body, other.key)).status, `${method} ${path}`).toBe(404);
    }
    expect((await call('POST', '/webhooks', { url: URL, includesDeployment: true })).status).toBe(403);
    const admin = await server.call('POST', '/api/v1/webhooks', { body: { url: URL, includesDeployment: true } });
    expect(admin.status).toBe(201);
  });

  it('are at most twenty for an org', async () => {
    const { key } = await server.makeKey('operator');
    const statuses = [];
    for (let index = 0; index < 21; index++) statuses.push((await call('POST', '/webhooks', { url: URL }, key)).status);
    expect(statuses).toEqual([...Array.from({ length: 20 }, () => 201), 409]);
  });
});

describe('deliveries', () => {
  it('are the log of a webhook: paged, filtered, and delivered again on request', async () => {
    const { key } = await server.makeKey('operator');
    const { id } = (await call('POST', '/webhooks', { url: URL, events: ['instance.*'] }, key)).body;
    await call('POST', '/instances', { ...ORDER, count: 3 }, key);
    const test = await call('POST', `/webhooks/${id}/test`, undefined, key);
    expect(test.body).toMatchObject({ type: 'webhook.test', status: 'pending', tries: 0 });
    const all = (await call('GET', `/webhooks/${id}/deliveries`, undefined, key)).body.items as {
      id: string;
      type: string;
    }[];
    expect(all.map((one) => one.type)).toEqual([
      'webhook.test',
      ...Array.from({ length: 3 }, () => 'instance.requested'),
    ]);
    const first = (await call('GET', `/webhooks/${id}/deliveries?limit=3`, undefined, key)).body;
    const rest = (await call('GET', `/webhooks/${id}/deliveries?limit=3&cursor=${first.nextCursor}`, undefined, key))
      .body;
    expect([...first.items, ...rest.items]).toEqual(all);
    expect(rest.nextCursor).toBeNull();
    expect((await call('GET', `/webhooks/${id}/deliveries?status=failed`, undefined, key)).body.items).toEqual([]);
    const again = `/webhooks/${id}/deliveries/${all[0]?.id}/redeliver`;
    expect((await call('POST', again, undefined, key)).status).toBe(409);
    await server.database.kysely
      .updateTable('webhook_deliveries')
      .set({ status: 'succeeded', tries: 2 })
      .where('id', '=', all[0]?.id as string)
      .execute();
    expect((await call('POST', again, undefined, key)).body).toMatchObject({
      id: all[0]?.id,
      status: 'pending',
      tries: 0,
    });
    expect((await call('POST', again)).status).toBe(404);
  });
});
