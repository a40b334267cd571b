import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sightFinding, type FindingRow, type NewFinding } from '../../db/findings.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
let operator: { key: string; orgId: string };
beforeAll(async () => {
  server = await startApiServer();
  operator = await server.makeKey('operator');
});
afterAll(() => server?.stop());

let number = 0;
async function sight(change: Partial<NewFinding> = {}): Promise<FindingRow> {
  number++;
  const row = await sightFinding(server.database.kysely, {
    orgId: operator.orgId,
    class: 'orphan',
    provider: 'vastai',
    providerInstanceId: `m-${number}`,
    attemptId: null,
    instanceId: null,
    label: `muster-sandbox-label${number}-x`,
    detail: 'no live row',
    priceMicroUsdPerHour: 300_000n,
    machine: {
      status: 'running',
      machineId: 'host-1',
      gpu: 'RTX 4090',
      gpuCount: 2,
      gpuMemoryGib: 24,
      interruptible: false,
      image: 'example/image:1',
      region: 'SE',
      ssh: null,
      startedAt: null,
    },
    ...change,
  });
  return row as FindingRow;
}

const act = (row: FindingRow, action: string, body: unknown = {}, key: string | null = operator.key) =>
  server.call('POST', `/api/v1/findings/${row.id}/${action}`, { key, body });

describe('GET /findings', () => {
  it('filters by class, status and provider, and pages', async () => {
    await sight({ class: 'ghost', provider: 'lambda' });
    await sight({ class: 'stuck', provider: 'lambda' });
    await sight({ class: 'ghost', provider: 'runpod' });
    const list = async (query: string) =>
      (await server.call('GET', `/api/v1/findings?${query}`, { key: operator.key })).body;
    const told = (page: { items: { class: string; provider: string }[] }) =>
      page.items.map((item) => `${item.class} ${item.provider}`).sort();
    expect(told(await list('class=ghost'))).toEqual(['ghost lambda', 'ghost runpod']);
    expect(told(await list('provider=lambda'))).toEqual(['ghost lambda', 'stuck lambda']);
    expect(told(await list('class=ghost,stuck&provider=runpod&status=open'))).toEqual(['ghost runpod']);
    const first = await list('limit=2');
    const second = await list(`limit=2&cursor=${first.nextCursor}`);
    expect(second).toMatchObject({ items: [{ class: 'ghost' }], nextCursor: null });
    expect((await server.call('GET', '/api/v1/findings?class=foreign', { key: operator.key })).status).toBe(422);
  });

  it('tells what the machine has cost since it was first seen', async () => {
    const row = await sight();
    await server.database.kysely
      .updateTable('findings')
      .set({ first_seen_at: new Date(Date.now() - 2 * 3_600_000) })
      .where('id', '=', row.id)
      .execute();
    const { body } = await server.call('GET', '/api/v1/findings?class=orphan', { key: operator.key });
    const shown = body.items.find((item: { id: string }) => item.id === row.id);
    expect(shown.accruedMicroUsd).toBeGreaterThanOrEqual(600_000);
    expect(shown.accruedMicroUsd).toBeLessThan(610_000);
    expect(shown.allowedActions).toEqual(['destroy', 'adopt', 'ignore']);
  });
});

describe('drift of a stack', () => {
  const makeStack = async (): Promise<string> => {
    const body = { name: `drifting-${++number}`, kind: 'eks', config: { region: 'us-east-1' }, costCentre: 'research' };
    return (await server.call('POST', '/api/v1/stacks', { key: operator.key, body })).body.id;
  };
  const drift = (stackId: string, change: Partial<NewFinding> = {}) =>
    sight({
      class: 'drift',
      provider: null,
      providerInstanceId: null,
      label: null,
      stackId,
      detail: 'nat: tags changed',
      priceMicroUsdPerHour: null,
      machine: null,
      ...change,
    });

  it('is listed with its stack, counted once while it lasts, and can be neither destroyed nor adopted', async () => {
    const stackId = await makeStack();
    const row = await drift(stackId);
    expect((await drift(stackId)).id).toBe(row.id);
    const list = await server.call('GET', `/api/v1/findings?stackId=${stackId}`, { key: operator.key });
    expect(list.body.items).toMatchObject([
      { id: row.id, class: 'drift', stackId, provider: null, sightings: 2, allowedActions: ['repair', 'ignore'] },
    ]);
    const detail = expect.stringMatching(/class drift: it allows repair, ignore, not/) as string;
    for (const action of ['destroy', 'adopt'])
      expect(await act(row, action)).toMatchObject({ status: 409, body: { code: 'conflict', detail } });
    const price = await drift(stackId, { class: 'price_drift' });
    expect((await act(price, 'repair')).status).toBe(409);
  });

  it('is repaired by one up after a refresh, not beside another update of the stack', async () => {
    const stackId = await makeStack();
    const row = await drift(stackId);
    const reply = await act(row, 'repair', { reason: 'nobody knows why' });
    expect(reply).toMatchObject({
      status: 202,
      body: { operation: { kind: 'up_stack' }, finding: { status: 'resolving', allowedActions: [] } },
    });
    const { body: operation } = await server.call('GET', `/api/v1/operations/${reply.body.operation.id}`, {
      key: operator.key,
    });
    expect(operation).toMatchObject({ targetId: stackId, kind: 'up_stack' });
    expect((await act(row, 'repair')).status).toBe(409);
    const busy = await makeStack();
    await server.call('POST', `/api/v1/stacks/${busy}/refresh`, { key: operator.key, body: {} });
    const refused = await act(await drift(busy), 'repair');
    expect(refused).toMatchObject({ status: 409, body: { detail: expect.stringMatching(/under way/) as string } });
  });

  it('may be ignored, and stays so while it lasts', async () => {
    const stackId = await makeStack();
    const row = await drift(stackId);
    expect((await act(row, 'ignore', { reason: 'wanted' })).body).toMatchObject({ status: 'ignored' });
    expect(await drift(stackId)).toBeUndefined();
    const stranger = await server.makeKey('operator');
    expect((await act(row, 'repair', {}, stranger.key)).status).toBe(404);
  });
});

describe('adopting', () => {
  it('makes a live instance of the org with the machine, and ends the finding', async () => {
    const row = await sight();
    const reply = await act(row, 'adopt', {
      name: 'kept',
      consumer: 'research',
      maxLifetime: '2 hours',
      reason: 'has data',
    });
    expect(reply.status).toBe(202);
    expect(reply.body).toMatchObject({
      operation: { kind: 'adopt_machine' },
      finding: { status: 'resolved', resolution: 'adopted', reason: 'has data', allowedActions: [] },
      instance: {
        name: 'kept',
        status: 'booting',
        consumer: 'research',
        providerInstanceId: row.provider_instance_id,
        gpu: 'RTX 4090',
        gpuCount: 2,
        priceMicroUsdPerHour: 300_000,
      },
    });
    const again = await act(row, 'adopt');
    expect(again.status).toBe(409);
    const audit = await server.call('GET', '/api/v1/audit', { key: operator.key });
    expect(audit.body.items[0]).toMatchObject({ action: 'finding.adopt', targetId: row.id });
  });

  it('counts against the caps in the same transaction: beyond one nothing of it is kept', async () => {
    const row = await sight({ priceMicroUsdPerHour: 900_000_000_000n });
    const reply = await act(row, 'adopt', { name: 'dear' });
    expect(reply).toMatchObject({ status: 507, body: { code: 'cap_exceeded', cap: 'burn' } });
    const { body } = await server.call('GET', '/api/v1/findings?status=open', { key: operator.key });
    expect(body.items.map((item: { id: string }) => item.id)).toContain(row.id);
    expect((await server.call('GET', '/api/v1/instances?name=dear', { key: operator.key })).body.items).toEqual([]);
  });

  it('is refused for a duplicate, for what has no price, and for a name that is taken', async () => {
    expect((await act(await sight({ class: 'duplicate' }), 'adopt')).status).toBe(409);
    expect((await act(await sight({ priceMicroUsdPerHour: null }), 'adopt')).status).toBe(409);
    const taken = await act(await sight(), 'adopt', { name: 'kept' });
    expect(taken).toMatchObject({ status: 409, body: { errors: [{ path: 'name' }] } });
  });

  it('obeys the maximum lifetime', async () => {
    const reply = await act(await sight(), 'adopt', { maxLifetime: '13 hours' });
    expect(reply).toMatchObject({ status: 422, body: { errors: [{ path: 'overrideReason' }] } });
  });

  it('of an orphan of no org is the admin’s, who may give it to any org', async () => {
    const row = await sight({ orgId: null });
    expect((await act(row, 'adopt')).status).toBe(404);
    expect((await act(await sight(), 'adopt', { orgId: 'org_aaaaaaaaaaaaaaaa' })).status).toBe(403);
    const wrong = await act(row, 'adopt', { orgId: 'org_aaaaaaaaaaaaaaaa' }, server.adminKey);
    expect(wrong).toMatchObject({ status: 422, body: { errors: [{ path: 'orgId' }] } });
    const given = await act(row, 'adopt', { orgId: operator.orgId, name: 'given' }, server.adminKey);
    expect(given.status).toBe(202);
    expect((await server.call('GET', '/api/v1/instances?name=given', { key: operator.key })).body.items).toHaveLength(
      1,
    );
  });
});

describe('ignoring', () => {
  it('needs a reason and may end at a time; what is ignored can still be destroyed', async () => {
    const row = await sight();
    expect((await act(row, 'ignore')).status).toBe(422);
    expect((await act(row, 'ignore', { reason: 'later', until: '2020-01-01T00:00:00Z' })).status).toBe(422);
    const until = new Date(Date.now() + 3_600_000).toISOString();
    expect((await act(row, 'ignore', { reason: 'looking at it', until })).body).toMatchObject({
      status: 'ignored',
      ignoredUntil: until,
      reason: 'looking at it',
      allowedActions: ['destroy', 'adopt'],
    });
    expect((await act(row, 'destroy', { reason: 'enough' })).body).toMatchObject({
      operation: { kind: 'destroy_machine' },
      finding: { status: 'resolving', ignoredUntil: null },
    });
  });

  it('is not for a viewer', async () => {
    const viewer = await server.makeKey('viewer', operator.orgId);
    expect((await act(await sight(), 'ignore', { reason: 'no right' }, viewer.key)).status).toBe(403);
  });
});
