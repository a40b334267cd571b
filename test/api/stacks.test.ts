import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { saveStackPending } from '../../db/stacks.ts';
import { startApiServer, type ApiServer, type Loose } from '../support/api-server.ts';

let server: ApiServer;
let key: string;
beforeAll(async () => {
  server = await startApiServer();
  ({ key } = await server.makeKey('operator'));
});
afterAll(() => server.stop());

let serial = 0;
const makeBody = (change: object = {}): Loose => ({
  name: `train-${++serial}`,
  kind: 'eks',
  config: { region: 'us-east-1', gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 2 }] },
  costCentre: 'research',
  ...change,
});
const post = (path: string, body: unknown = {}, as = key) => server.call('POST', `/api/v1${path}`, { key: as, body });
const get = (path: string, as = key) => server.call('GET', `/api/v1${path}`, { key: as });

describe('recording a stack', () => {
  it('makes nothing, fills in defaults and answers where it is', async () => {
    const body = makeBody({ ceilingUsdPerHour: '12.50' });
    const made = await post('/stacks', body);
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({
      name: body.name,
      status: 'created',
      protect: true,
      onDrift: 'report',
      ceilingMicroUsdPerHour: 12_500_000,
      priceMicroUsdPerHour: null,
      operation: null,
      config: { vpcCidr: '10.60.0.0/16', gpuNodeGroups: [{ minSize: 0, capacityType: 'on_demand' }] },
    });
    expect(made.headers.get('location')).toBe(`/api/v1/stacks/${made.body.id}`);
    expect((await get(`/stacks/${made.body.id}`)).body).toEqual(made.body);
    expect((await get('/stacks?kind=eks')).body.items[0].id).toBe(made.body.id);
    expect((await get('/operations')).body.items).toEqual([]);
  });

  it.each([
    ['an overlap of networks', { region: 'us-east-1', vpcCidr: '172.20.0.0/16' }, 'config.serviceCidr', /overlap/],
    [
      'a GPU that the region lacks',
      { region: 'eu-west-3', gpuNodeGroups: [{ instanceType: 'p5.48xlarge', maxSize: 1 }] },
      'config.gpuNodeGroups.0.instanceType',
      /eu-west-3/,
    ],
    [
      'nodes newer than their cluster',
      {
        region: 'us-east-1',
        kubernetesVersion: '1.33',
        gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 1, kubernetesVersion: '1.34' }],
      },
      'config.gpuNodeGroups.0.kubernetesVersion',
      /1\.34/,
    ],
    [
      'an endpoint that is open to everybody',
      { region: 'us-east-1', publicAccessCidrs: ['0.0.0.0/0'] },
      'config.publicAccessCidrs.0',
      /./,
    ],
    ['a field that there is not', { region: 'us-east-1', nodes: 3 }, 'config', /nodes/],
    ['no region', {}, 'config.region', /./],
  ])('refuses %s at once, naming the field', async (_what, config, path, message) => {
    const reply = await post('/stacks', makeBody({ config }));
    expect(reply.status).toBe(422);
    const found = reply.body.errors.filter((error: Loose) => error.path.startsWith(path));
    expect(found.map((error: Loose) => error.message).join('\n')).toMatch(message);
  });

  it('refuses a name that is taken, with 409, and another org may use it', async () => {
    const body = makeBody();
    expect((await post('/stacks', body)).status).toBe(201);
    const taken = await post('/stacks', body);
    expect(taken).toMatchObject({ status: 409, body: { code: 'conflict', errors: [{ path: 'name' }] } });
    const other = await server.makeKey('operator');
    expect((await post('/stacks', body, other.key)).status).toBe(201);
  });

  it('tells the schema of each kind', async () => {
    const { body } = await get('/stacks/kinds');
    const eks = body.items.find((item: Loose) => item.kind === 'eks');
    expect(eks.config.properties.region).toMatchObject({ type: 'string' });
    expect(body.items.map((item: Loose) => item.kind)).not.toContain('instance');
  });
});

describe('an operation on a stack', () => {
  it('is accepted with 202, once per Idempotency-Key, and shown as under way', async () => {
    const { body: stack } = await post('/stacks', makeBody({ protect: false }));
    const headers = { 'Idempotency-Key': 'one' };
    const up = () => server.call('POST', `/api/v1/stacks/${stack.id}/up`, { key, body: {}, headers });
    const [first, second] = [await up(), await up()];
    expect(first.status).toBe(202);
    expect(second.body.operation.id).toBe(first.body.operation.id);
    expect(first.headers.get('location')).toBe(`/api/v1/operations/${first.body.operation.id}`);
    const shown = await get(`/stacks/${stack.id}`);
    expect(shown.body).toMatchObject({ operation: { id: first.body.operation.id }, allowedActions: ['cancel'] });
    const destroy = await post(`/stacks/${stack.id}/destroy`);
    expect(destroy).toMatchObject({ status: 409, body: { code: 'conflict', operationId: first.body.operation.id } });
    expect((await post(`/stacks/${stack.id}/cancel`)).status).toBe(202);
    expect((await get(`/operations/${first.body.operation.id}`)).body.status).toBe('canceled');
    expect((await get(`/operations?targetId=${stack.id}`)).body.items).toHaveLength(1);
    // The engine never heard of it.
    expect((await get(`/stacks/${stack.id}/history`)).body.items).toEqual([]);
    expect((await post(`/stacks/${stack.id}/cancel`)).status).toBe(409);
  });

  it('may not destroy what is protected, until its owner says otherwise', async () => {
    const { body: stack } = await post('/stacks', makeBody());
    const refused = await post(`/stacks/${stack.id}/destroy`);
    expect(refused).toMatchObject({ status: 409, body: { code: 'stack_protected' } });
    await server.call('PATCH', `/api/v1/stacks/${stack.id}`, { key, body: { protect: false } });
    expect((await post(`/stacks/${stack.id}/destroy`)).status).toBe(202);
  });

  it('with a planHash that was never shown is refused before it is queued', async () => {
    const { body: stack } = await post('/stacks', makeBody());
    const reply = await post(`/stacks/${stack.id}/up`, { planHash: 'a'.repeat(64) });
    expect(reply).toMatchObject({ status: 409, body: { code: 'plan_changed' } });
    const malformed = await post(`/stacks/${stack.id}/up`, { planHash: 'yes' });
    expect(malformed).toMatchObject({ status: 422, body: { errors: [{ path: 'planHash' }] } });
  });

  it('that was held back by interrupted creates goes on with what an operator decided of them', async () => {
    const { body: stack } = await post('/stacks', makeBody());
    const path = `/stacks/${stack.id}/pending`;
    expect((await get(path)).body).toEqual({ items: [] });
    const pending = ['db', 'cache'].map((name) => ({
      urn: `u:${name}`,
      name,
      type: 't',
      why: 'nothing is known',
      found: [],
      decision: null,
    }));
    await saveStackPending(server.database.kysely, stack.id, pending);
    expect((await get(`/stacks/${stack.id}`)).body.pendingCount).toBe(2);
    const decide = (urn: string, decision: object, as = key) =>
      post(`${path}/decide`, { decisions: [{ urn, decision }] }, as);
    expect(await decide('u:other', { kind: 'clear' })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'decisions.0.urn' }] },
    });
    expect((await decide('u:db', { kind: 'import' })).body.errors[0].path).toMatch(/decisions\.0\.decision/);
    expect((await decide('u:db', { kind: 'clear' }, (await server.makeKey('viewer')).key)).status).toBe(403);
    await decide('u:db', { kind: 'clear' });
    const decided = await decide('u:db', { kind: 'import', id: 'db-1' });
    expect(decided.body.items).toMatchObject([{ decision: { kind: 'import', id: 'db-1' } }, { decision: null }]);
    expect((await get(`/stacks/${stack.id}`)).body.pendingCount).toBe(1);
    expect((await get('/audit')).body.items[0]).toMatchObject({ action: 'stack.decide_pending', targetId: stack.id });
    await post(`/stacks/${stack.id}/up`);
    expect(await decide('u:cache', { kind: 'clear' })).toMatchObject({ status: 409, body: { code: 'conflict' } });
  });

  it("is not another org's to ask for or to see", async () => {
    const { body: stack } = await post('/stacks', makeBody());
    const other = (await server.makeKey('owner')).key;
    for (const path of ['', '/outputs', '/resources', '/history', '/drift', '/pending'])
      expect((await get(`/stacks/${stack.id}${path}`, other)).status).toBe(404);
    for (const verb of ['preview', 'up', 'refresh', 'destroy', 'cancel'])
      expect((await post(`/stacks/${stack.id}/${verb}`, {}, other)).status).toBe(404);
  });
});
