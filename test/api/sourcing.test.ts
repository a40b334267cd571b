import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordSearch } from '../../db/sourcing-rules.ts';
import { listOffers, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
let operator: { key: string; orgId: string };
beforeAll(async () => {
  server = await startApiServer({ sourcingMode: 'search' });
  await listOffers(server, [{}]);
  operator = await server.makeKey('operator');
});
afterAll(() => server?.stop());

const RULE = { name: 'spare', gpu: 'rtx 4090', target: 2, maxPriceUsdPerHour: '0.50' };
const RULES = '/api/v1/sourcing/rules';
const create = (change = {}, key = operator.key) =>
  server.call('POST', RULES, {
    key,
    body: { ...RULE, name: `rule-${Math.random().toString(36).slice(2)}`, ...change },
  });

describe('sourcing rules', () => {
  it('are made with the defaults of instances, and tell the mode and what counts toward the target', async () => {
    const { status, body } = await create({ name: 'spare' });
    expect(status).toBe(201);
    expect(body).toMatchObject({
      name: 'spare',
      enabled: true,
      mode: 'search',
      target: 2,
      counts: { requested: 0, creating: 0, booting: 0, ready: 0 },
      maxPriceMicroUsdPerHour: 500_000,
      gpu: 'RTX 4090',
      gpuCount: 1,
      diskGib: 40,
      providers: [],
      outcome: null,
    });
    expect((await create({ name: 'spare' })).status).toBe(409);
  });

  it('are changed field by field, audited, and forget what was last found', async () => {
    const { body: rule } = await create({ minReliability: 0.9 });
    await recordSearch(server.database.kysely, rule.id, {
      outcome: 'capped',
      reason: 'full',
      retryAt: null,
      candidates: [],
      fitting: 4,
      at: new Date(),
    });
    const path = `${RULES}/${rule.id}`;
    const changed = await server.call('PATCH', path, {
      key: operator.key,
      body: { target: 0, maxPriceUsdPerHour: '0.25', minReliability: null, regions: ['SE'], consumer: 'team' },
    });
    expect(changed.body).toMatchObject({
      id: rule.id,
      name: rule.name,
      target: 0,
      maxPriceMicroUsdPerHour: 250_000,
      minReliability: null,
      regions: ['SE'],
      consumer: 'team',
      gpuCount: 1,
      outcome: null,
      fittingOffers: 0,
    });
    const { body: audit } = await server.call('GET', `/api/v1/audit?targetId=${rule.id}`, { key: operator.key });
    expect(audit.items.map((item: { action: string }) => item.action)).toEqual([
      'sourcing_rule.change',
      'sourcing_rule.create',
    ]);
    const taken = await server.call('PATCH', path, { key: operator.key, body: { name: 'spare' } });
    expect([taken.status, taken.body.errors[0].path]).toEqual([409, 'name']);
  });

  it("are the org's own: others see, change and delete none of them", async () => {
    const { body: rule } = await create();
    const other = await server.makeKey('owner');
    expect((await server.call('GET', RULES, { key: other.key })).body.items).toEqual([]);
    expect((await server.call('GET', '/api/v1/sourcing/candidates', { key: other.key })).body.items).toEqual([]);
    for (const method of ['PATCH', 'DELETE']) {
      const body = method === 'PATCH' ? { target: 9 } : undefined;
      const reply = await server.call(method, `${RULES}/${rule.id}`, { key: other.key, body });
      expect(reply.status, method).toBe(404);
    }
    expect((await server.call('DELETE', `${RULES}/${rule.id}`, { key: operator.key })).status).toBe(204);
    expect((await server.call('DELETE', `${RULES}/${rule.id}`, { key: operator.key })).status).toBe(404);
    expect((await create({ name: rule.name })).status).toBe(201);
  });

  it('come in pages, newest first', async () => {
    const own = await server.makeKey('operator');
    for (const name of ['one', 'two', 'three']) await create({ name }, own.key);
    const seen: string[] = [];
    let cursor = '';
    do {
      const { body } = await server.call('GET', `${RULES}?limit=2${cursor}`, { key: own.key });
      seen.push(...body.items.map((item: { name: string }) => item.name));
      cursor = body.nextCursor === null ? '' : `&cursor=${body.nextCursor}`;
    } while (cursor !== '');
    expect(seen).toEqual(['three', 'two', 'one']);
  });

  it.each([
    ['name', { name: 'No Spaces' }],
    ['target', { target: 101 }],
    ['target', { target: -1 }],
    ['maxPriceUsdPerHour', { maxPriceUsdPerHour: 0.5 }],
    ['gpu', { gpu: 'RTX 4091' }],
    ['providers.0', { providers: ['nobody'] }],
    ['strategy', { strategy: 'race' }],
  ])('with a wrong %s are refused by its path', async (path, change) => {
    const { status, body } = await create(change);
    expect([status, body.errors[0].path]).toEqual([422, path]);
  });
});

describe('sourcing candidates', () => {
  it('are what the last look found for each rule', async () => {
    const own = await server.makeKey('operator');
    const { body: rule } = await create({}, own.key);
    const candidates = [
      {
        provider: 'vastai',
        providerOfferId: '1',
        machineId: 'm1',
        gpu: 'RTX 4090',
        gpuCount: 1,
        region: 'SE',
        reliability: 0.99,
        priceMicroUsdPerHour: 400_000,
        chanceOfSuccess: 0.8,
        p50ReadyMs: null,
      },
    ];
    const at = new Date();
    await recordSearch(server.database.kysely, rule.id, {
      outcome: 'search_only',
      reason: 'would buy 2; sourcing only searches',
      retryAt: null,
      candidates,
      fitting: 7,
      at,
    });
    const { body } = await server.call('GET', '/api/v1/sourcing/candidates', { key: own.key });
    expect(body.items).toEqual([
      {
        ruleId: rule.id,
        ruleName: rule.name,
        outcome: 'search_only',
        reason: 'would buy 2; sourcing only searches',
        missing: 2,
        fittingOffers: 7,
        searchedAt: at.toISOString(),
        candidates,
      },
    ]);
  });
});
