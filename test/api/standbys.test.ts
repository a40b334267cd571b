import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findOperation } from '../../db/operations.ts';
import { newId } from '../../db/new-id.ts';
import { listOffers, ORDER, type Loose } from '../support/api-server.ts';
import { startClusterServer, type ClusterServer } from '../support/cluster-server.ts';
import { until } from '../support/fleet-database.ts';

let server: ClusterServer;
let key: string;
let orgId: string;
let firstId: string;
beforeAll(async () => {
  server = await startClusterServer();
  ({ key, orgId } = await server.makeKey('operator'));
  await listOffers(
    server,
    Array.from({ length: 12 }, () => ({})),
  );
  const first = await post('/instances', ORDER);
  firstId = first.body.instances[0].id;
  await untilEnded(first.body.operation.id);
});
afterAll(() => server.stop());

const post = (path: string, body: unknown = {}, headers: Record<string, string> = {}, as = key) =>
  server.call('POST', `/api/v1${path}`, { key: as, body, headers });
const get = (path: string, as = key) => server.call('GET', `/api/v1${path}`, { key: as });
const remove = (path: string, as = key) => server.call('DELETE', `/api/v1${path}`, { key: as });

async function untilEnded(operationId: string): Promise<void> {
  await until(
    async () => (await findOperation(server.database.kysely, null, operationId))?.finished_at != null,
    `${operationId} has ended`,
  );
}

/** An instance on record, of which no operation knows. */
async function instanceOf(): Promise<string> {
  const db = server.database.kysely;
  const {
    request,
    phase_at: phaseAt,
    ...row
  } = await db.selectFrom('instances').selectAll().where('id', '=', firstId).executeTakeFirstOrThrow();
  const id = newId('instance');
  const columns = { request: JSON.stringify(request), phase_at: JSON.stringify(phaseAt), status: 'booting' as const };
  await db
    .insertInto('instances')
    .values({ ...row, ...columns, id, name: id.slice(4), ordinal: 100 + ++serial })
    .execute();
  return id;
}

let serial = 0;
const bodyOf = (instanceId: string, change: object = {}): Loose => ({
  instanceId,
  name: `stand-${++serial}`,
  rpo: '5 minutes',
  config: { project: 'a-project', zone: 'europe-west4-a', fallbackZone: 'europe-west4-b' },
  ...change,
});

async function made(change: object = {}): Promise<Loose> {
  const accepted = await post('/standby', bodyOf(await instanceOf(), change));
  expect(accepted.status).toBe(202);
  await untilEnded(accepted.body.operation.id);
  return (await get(`/standby/${accepted.body.standby.id}`)).body;
}

describe("changing a standby's stack", () => {
  const declared = async (id: string) =>
    server.database.kysely
      .selectFrom('standbys')
      .select(['config', 'state'])
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
  const patch = (stackId: string, config: object) =>
    server.call('PATCH', `/api/v1/stacks/${stackId}`, { key, body: { config } });

  it('changes what the standby goes back to after a failover, and keeps the zone that it is in', async () => {
    const { id, stackId } = await made();
    const wanted = { project: 'a-project', zone: 'europe-west4-a', fallbackZone: 'europe-west4-b', agent: true };
    expect((await patch(stackId, { ...wanted, state: 'stopped' })).status).toBe(200);
    expect(await declared(id)).toMatchObject({
      state: 'stopped',
      config: { fallbackZone: 'europe-west4-b', maxRunHours: 168 },
    });
    // As a failover left it.
    const { config } = (await get(`/stacks/${stackId}`)).body;
    const moved = JSON.stringify({ ...config, runIn: 'fallback_zone' });
    await server.database.kysely.updateTable('stacks').set({ config: moved }).where('id', '=', stackId).execute();
    const changed = await patch(stackId, { ...wanted, state: 'warm', dataDiskGib: 50 });
    expect(changed).toMatchObject({
      status: 200,
      body: { config: { state: 'warm', dataDiskGib: 50, runIn: 'fallback_zone' } },
    });
    const after = await declared(id);
    expect(after).toMatchObject({ state: 'warm', config: { state: 'warm', dataDiskGib: 50 } });
    expect(after.config).not.toHaveProperty('runIn');
    expect((await get(`/standby/${id}`)).body.state).toBe('warm');
  });

  it('is refused while it takes over, without its agent, and where a failover decides', async () => {
    const { id, stackId } = await made();
    const config = { project: 'a-project', zone: 'europe-west4-a', state: 'stopped', agent: true };
    expect(await patch(stackId, { ...config, agent: false })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'config.agent' }] },
    });
    expect(await patch(stackId, { ...config, runIn: 'fallback_zone', fallbackZone: 'europe-west4-b' })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'config.runIn' }] },
    });
    const { kysely } = server.database;
    await kysely.updateTable('standbys').set({ status: 'serving' }).where('id', '=', id).execute();
    expect(await patch(stackId, config)).toMatchObject({ status: 409, body: { state: 'serving', standbyId: id } });
    const ceiling = { key, body: { ceilingUsdPerHour: '1' } };
    expect((await server.call('PATCH', `/api/v1/stacks/${stackId}`, ceiling)).status).toBe(200);
    await kysely.updateTable('standbys').set({ status: 'stopped' }).where('id', '=', id).execute();
  });
});

describe('making a standby', () => {
  it('is a stack with an agent and a guard against forgetting, and follows it', async () => {
    server.runner.outcomes.up = { outputs: { publicAddress: '', privateAddress: '10.62.0.2' } };
    const instanceId = await instanceOf();
    const accepted = await post('/standby', bodyOf(instanceId));
    expect(accepted).toMatchObject({
      status: 202,
      body: { operation: { kind: 'up_stack' }, standby: { status: 'creating', instanceId, rpoMs: 300_000 } },
    });
    const { id, stackId, nodeId } = accepted.body.standby;
    await untilEnded(accepted.body.operation.id);
    expect((await get(`/stacks/${stackId}`)).body).toMatchObject({
      kind: 'standby',
      protect: false,
      config: { state: 'stopped', agent: true, maxRunHours: 168, zone: 'europe-west4-a' },
    });
    expect((await get(`/standby/${id}`)).body).toMatchObject({
      status: 'stopped',
      address: '10.62.0.2',
      agent: { registeredAt: null },
      lag: { isBehind: false, recoveryPointAt: null },
      allowedActions: ['failover', 'drill', 'destroy'],
    });
    expect((await get(`/nodes/${nodeId}`)).body).toMatchObject({
      standbyId: id,
      status: 'installing',
      instanceId: null,
    });
    const { request } = server.runner.ran.at(-1)!;
    expect(request.program?.args).toHaveProperty('controlPlaneUrl', null);
  });

  it('may be planned first, and is made as it was shown', async () => {
    const body = bodyOf(await instanceOf(), { state: 'warm' });
    const plan = await post('/standby', { ...body, dryRun: true });
    expect(plan).toMatchObject({ status: 200, body: { update: 'up', planHash: expect.any(String) } });
    expect((await get('/standby')).body.items.map((one: Loose) => one.name)).not.toContain(body.name);
    const other = await post('/standby', { ...body, state: 'stopped', planHash: plan.body.planHash });
    expect(other).toMatchObject({ status: 409, body: { code: 'plan_changed' } });
    const accepted = await post('/standby', { ...body, planHash: plan.body.planHash });
    expect(accepted.status).toBe(202);
    await untilEnded(accepted.body.operation.id);
    expect((await get(`/standby/${accepted.body.standby.id}`)).body.status).toBe('warm');
  });

  it('happens once per Idempotency-Key, and once per instance', async () => {
    const body = bodyOf(await instanceOf());
    const first = await post('/standby', body, { 'Idempotency-Key': 'once' });
    expect((await post('/standby', body, { 'Idempotency-Key': 'once' })).body).toEqual(first.body);
    const second = await post('/standby', { ...body, name: 'another' });
    expect(second).toMatchObject({ status: 409, body: { code: 'conflict', standbyId: first.body.standby.id } });
  });

  it.each([
    ['an unknown instance', { instanceId: 'ins_aaaaaaaaaaaaaaaa' }, 'instanceId'],
    [
      'a GPU machine',
      { config: { project: 'a-project', zone: 'europe-west4-a', machineType: 'a2-highgpu-1g' } },
      'config.machineType',
    ],
    ['a zone that is none', { config: { project: 'a-project', zone: 'mars' } }, 'config.zone'],
    [
      'a field of the request in the configuration',
      { config: { project: 'a-project', zone: 'europe-west4-a', state: 'warm' } },
      'config.state',
    ],
    ['an RPO that nobody can keep', { rpo: '1 second' }, 'rpo'],
    [
      'a drill on a real workload without consent',
      { drills: { every: '30 days', mode: 'consented' } },
      'drills.consent',
    ],
    ['an unknown field', { extra: 1 }, 'extra'],
  ])('refuses %s, naming the field', async (_name, change, path) => {
    const reply = await post('/standby', bodyOf(await instanceOf(), change));
    expect(reply.status).toBe(422);
    expect(reply.body.errors.map((one: Loose) => one.path)).toContain(path);
  });

  it('has failed where its stack could not be made, with the reason', async () => {
    server.runner.outcomes.up = {
      isOk: false,
      error: { kind: 'resource_failed', detail: 'ZONE_RESOURCE_POOL_EXHAUSTED' },
    } as Loose;
    const failed = await made();
    delete server.runner.outcomes.up;
    expect(failed).toMatchObject({ status: 'failed', failure: { detail: expect.stringContaining('EXHAUSTED') } });
    const again = await post(`/stacks/${failed.stackId}/up`);
    await untilEnded(again.body.operation.id);
    expect((await get(`/standby/${failed.id}`)).body).toMatchObject({ status: 'stopped', failure: null });
  });
});

describe('a standby', () => {
  it("is nobody else's", async () => {
    const { id } = await made();
    const other = await server.makeKey('operator');
    expect((await get(`/standby/${id}`, other.key)).status).toBe(404);
    expect((await remove(`/standby/${id}`, other.key)).status).toBe(404);
    expect((await get('/standby', other.key)).body.items).toEqual([]);
    const viewer = await server.makeKey('viewer', orgId);
    expect((await remove(`/standby/${id}`, viewer.key)).status).toBe(403);
  });

  it('is destroyed with its stack, and its node is worth nothing then', async () => {
    const { id, nodeId } = await made();
    const accepted = await remove(`/standby/${id}`);
    expect(accepted).toMatchObject({ status: 202, body: { operation: { kind: 'destroy_stack' } } });
    await untilEnded(accepted.body.operation.id);
    expect((await get(`/standby/${id}`)).body).toMatchObject({ status: 'destroyed', allowedActions: [] });
    expect((await get(`/nodes/${nodeId}`)).body).toMatchObject({ status: 'gone' });
    expect((await remove(`/standby/${id}`)).status).toBe(409);
  });

  it('that is protected or serves stays', async () => {
    const kept = await made({ protect: true });
    expect(await remove(`/standby/${kept.id}`)).toMatchObject({ status: 409, body: { code: 'stack_protected' } });
    const serving = await made();
    const db = server.database.kysely;
    await db.updateTable('standbys').set({ status: 'serving' }).where('id', '=', serving.id).execute();
    expect(await remove(`/standby/${serving.id}`)).toMatchObject({ status: 409, body: { state: 'serving' } });
  });
});
