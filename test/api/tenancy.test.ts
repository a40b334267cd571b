import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sightFinding } from '../../db/findings.ts';
import { listOffers, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
let mine: { key: string; orgId: string };
let theirs: { key: string; orgId: string };
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{}]);
  mine = await server.makeKey('owner');
  theirs = await server.makeKey('owner');
});
afterAll(() => server?.stop());

describe('an org', () => {
  it("gets 404 for everything of another's, and no row of it in lists", async () => {
    const { body } = await server.call('POST', '/api/v1/instances', { key: mine.key, body: ORDER });
    const [operationId, instanceId] = [body.operation.id as string, body.instances[0].id as string];
    const made = await server.call('POST', '/api/v1/api-keys', { key: mine.key, body: { name: 'k' } });
    const finding = await sightFinding(server.database.kysely, {
      orgId: mine.orgId,
      class: 'orphan',
      provider: 'vastai',
      providerInstanceId: '77',
      attemptId: null,
      instanceId: null,
      label: 'muster-sandbox-x-y',
      detail: 'no live row',
      priceMicroUsdPerHour: 1n,
    });
    const calls: [string, string, unknown?][] = [
      ['GET', `/api/v1/instances/${instanceId}`],
      ['GET', `/api/v1/instances/${instanceId}/ssh`],
      ['GET', `/api/v1/instances/${instanceId}/cost`],
      ['GET', `/api/v1/instances/${instanceId}/events`],
      ['POST', `/api/v1/instances/${instanceId}/extend`, { by: '1 hour' }],
      ['DELETE', `/api/v1/instances/${instanceId}`],
      ['DELETE', `/api/v1/instances/${instanceId}/destroy`],
      ['GET', `/api/v1/operations/${operationId}`],
      ['GET', `/api/v1/operations/${operationId}/events`],
      ['POST', `/api/v1/operations/${operationId}/cancel`],
      ['DELETE', `/api/v1/api-keys/${made.body.id}`],
      ['POST', `/api/v1/api-keys/${made.body.id}/rotate`],
      ['POST', `/api/v1/findings/${finding?.id}/destroy`],
      ['POST', `/api/v1/findings/${finding?.id}/adopt`],
      ['POST', `/api/v1/findings/${finding?.id}/ignore`, { reason: 'not mine' }],
      ['GET', `/api/v1/orgs/${mine.orgId}/members`],
      ['POST', `/api/v1/orgs/${mine.orgId}/members`, { email: 'x@example.com', role: 'owner' }],
    ];
    for (const [method, path, content] of calls) {
      const reply = await server.call(method, path, {
        key: theirs.key,
        ...(content === undefined ? {} : { body: content }),
      });
      expect({ method, path, status: reply.status, code: reply.body.code }).toEqual({
        method,
        path,
        status: 404,
        code: 'not_found',
      });
    }
    for (const path of ['/instances', '/operations', '/findings']) {
      expect((await server.call('GET', `/api/v1${path}`, { key: theirs.key })).body.items).toEqual([]);
      expect((await server.call('GET', `/api/v1${path}`, { key: mine.key })).body.items).toHaveLength(1);
    }
    const [keys, audit] = [
      await server.call('GET', '/api/v1/api-keys', { key: theirs.key }),
      await server.call('GET', '/api/v1/audit', { key: theirs.key }),
    ];
    expect(keys.body.items).toHaveLength(1);
    expect(audit.body.items).toEqual([]);
    expect((await server.call('GET', '/api/v1/fleet', { key: theirs.key })).body.instances.live).toBe(0);
    expect((await server.call('GET', `/api/v1/instances/${instanceId}`, { key: mine.key })).body.status).toBe(
      'requested',
    );
  });

  it('may use a name that lives in another', async () => {
    const body = { ...ORDER, name: 'same' };
    expect((await server.call('POST', '/api/v1/instances', { key: mine.key, body })).status).toBe(202);
    expect((await server.call('POST', '/api/v1/instances', { key: theirs.key, body })).status).toBe(202);
  });
});
