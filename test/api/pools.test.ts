import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, startApiServer, type ApiServer } from '../support/api-server.ts';
import { recordWarm } from '../support/warm-record.ts';

let server: ApiServer;
let key: string;
beforeAll(async () => {
  server = await startApiServer();
  await server.database.kysely
    .updateTable('deployment')
    .set({ max_instances: 200, max_burn_micro_usd_per_hour: 500_000_000n })
    .execute();
  await listOffers(server, [{ priceMicroUsdPerHour: 300_000n }, { priceMicroUsdPerHour: 340_000n }]);
  ({ key } = await server.makeKey('operator'));
});
afterAll(() => server?.stop());

const POOLS = '/api/v1/pools';
const anyName = () => `pool-${Math.random().toString(36).slice(2, 10)}`;
const POOL = { gpu: 'rtx 4090', targetSize: 2, maxPriceUsdPerHour: '0.50', diskGib: 10, image: 'example/image:1' };
const create = (change: Record<string, unknown> = {}, own = key, headers: Record<string, string> = {}) =>
  server.call('POST', POOLS, { key: own, headers, body: { ...POOL, name: anyName(), ...change } });
const read = async (id: string) => (await server.call('GET', `${POOLS}/${id}`, { key })).body;
const warmIn = (id: string) =>
  server.database.kysely.selectFrom('instances').selectAll().where('pool_id', '=', id).orderBy('id').execute();

describe('a pool', () => {
  it('is made with the defaults of instances, tells what it costs at most, and is filled at once', async () => {
    const { status, body } = await create({ name: 'spare' });
    expect(status).toBe(201);
    expect(body).toMatchObject({
      name: 'spare',
      gpu: 'RTX 4090',
      gpuCount: 1,
      targetSize: 2,
      maxSize: 4,
      idleShrinkAfterMs: 600_000,
      idleSize: 1,
      needed: 2,
      demandedAt: null,
      consumer: 'spare',
      maxPriceMicroUsdPerHour: 500_000,
      maxPriceAtTargetMicroUsdPerHour: 1_000_000,
      maxPriceAtTargetMicroUsdPer30Days: 720_000_000,
      trouble: null,
    });
    const bought = await warmIn(body.id);
    expect(bought).toHaveLength(2);
    for (const one of bought) {
      expect(one).toMatchObject({ status: 'requested', strategy: 'coldstart', unbounded: true, consumer: 'spare' });
      expect(one.max_price_micro_usd_per_hour).toBe(500_000n);
    }
    expect((await read(body.id)).counts).toEqual({ ready: 0, filling: 2, claimed: 0, existing: 2 });
    const taken = await create({ name: 'spare' });
    expect([taken.status, taken.body.errors[0].path]).toEqual([409, 'name']);
  });

  it('is made once however often the same Idempotency-Key is sent', async () => {
    const headers = { 'idempotency-key': randomUUID() };
    const name = anyName();
    const [first, second] = [await create({ name }, key, headers), await create({ name }, key, headers)];
    expect(second).toMatchObject({ status: 201, body: { id: first.body.id } });
    expect(await warmIn(first.body.id)).toHaveLength(2);
    expect((await create({ name, targetSize: 3 }, key, headers)).status).toBe(409);
  });

  it('tells what is ready and what that costs', async () => {
    const { body } = await create();
    await recordWarm(server, body.id, [310_000n]);
    expect(await read(body.id)).toMatchObject({
      counts: { ready: 1, filling: 1, existing: 2 },
      burnMicroUsdPerHour: 310_000,
    });
  });

  it('is changed field by field, audited, and filled up at once', async () => {
    const { body: made } = await create();
    const path = `${POOLS}/${made.id}`;
    const change = { targetSize: 3, maxPriceUsdPerHour: '0.25', regions: ['SE'], idleShrinkAfter: '1 hour' };
    const changed = await server.call('PATCH', path, { key, body: change });
    expect(changed).toMatchObject({
      status: 200,
      body: {
        name: made.name,
        targetSize: 3,
        maxSize: 4,
        maxPriceMicroUsdPerHour: 250_000,
        maxPriceAtTargetMicroUsdPerHour: 750_000,
        regions: ['SE'],
        idleShrinkAfterMs: 3_600_000,
        image: 'example/image:1',
      },
    });
    expect(await warmIn(made.id)).toHaveLength(3);
    const { body: audit } = await server.call('GET', `/api/v1/audit?targetId=${made.id}`, { key });
    expect(audit.items.map((item: { action: string }) => item.action)).toEqual(['pool.change', 'pool.create']);
    const tooMany = await server.call('PATCH', path, { key, body: { targetSize: 5 } });
    expect([tooMany.status, tooMany.body.errors[0].path]).toEqual([422, 'maxSize']);
    const { body: other } = await create();
    const taken = await server.call('PATCH', path, { key, body: { name: other.name } });
    expect([taken.status, taken.body.errors[0].path]).toEqual([409, 'name']);
  });

  it('that is deleted destroys what it keeps warm by ordinary operations, and leaves what was claimed', async () => {
    const { body: made } = await create({ targetSize: 3, image: 'example/deleted:1' });
    const [claimed, idle] = await recordWarm(server, made.id, [300_000n, 320_000n]);
    const asked = await server.call('POST', '/api/v1/instances', {
      key,
      body: {
        gpu: 'RTX 4090',
        maxPriceUsdPerHour: '0.60',
        diskGib: 10,
        image: 'example/deleted:1',
        strategy: 'serverless',
      },
    });
    expect(asked.body.instances[0]).toMatchObject({ status: 'booting', phase: 'verifying' });
    expect((await read(made.id)).demandedAt).toBe(asked.body.instances[0].createdAt);
    const headers = { 'idempotency-key': randomUUID() };
    const deleted = await server.call('DELETE', `${POOLS}/${made.id}`, { key, headers });
    expect(deleted.status).toBe(202);
    expect(await server.call('DELETE', `${POOLS}/${made.id}`, { key, headers })).toMatchObject({
      status: 202,
      body: deleted.body,
    });
    const after = new Map((await warmIn(made.id)).map((one) => [one.id, one]));
    expect(after.get(claimed as string)).toMatchObject({ status: 'ready', claimed_by: asked.body.instances[0].id });
    expect(after.get(idle as string)).toMatchObject({ status: 'destroying' });
    expect([...after.values()].filter((one) => one.status === 'requested')).toEqual([]);
    expect(deleted.body.operations.map((one: { kind: string }) => one.kind)).toContain('destroy_instance');
    expect((await server.call('GET', `${POOLS}/${made.id}`, { key })).status).toBe(404);
    expect((await create({ name: made.name, targetSize: 0 })).status).toBe(201);
  });

  it("is its org's own: others see, change and delete none of it", async () => {
    const { body: made } = await create();
    const other = await server.makeKey('owner');
    expect((await server.call('GET', POOLS, { key: other.key })).body.items).toEqual([]);
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      const body = method === 'PATCH' ? { targetSize: 0 } : undefined;
      expect((await server.call(method, `${POOLS}/${made.id}`, { key: other.key, body })).status, method).toBe(404);
    }
    const viewer = await server.makeKey('viewer');
    expect((await create({}, viewer.key)).status).toBe(403);
  });

  it('comes in pages, newest first', async () => {
    const own = await server.makeKey('operator');
    for (const name of ['one', 'two', 'three']) await create({ name, targetSize: 0 }, own.key);
    const seen: string[] = [];
    let cursor = '';
    do {
      const { body } = await server.call('GET', `${POOLS}?limit=2${cursor}`, { key: own.key });
      seen.push(...body.items.map((item: { name: string }) => item.name));
      cursor = body.nextCursor === null ? '' : `&cursor=${body.nextCursor}`;
    } while (cursor !== '');
    expect(seen).toEqual(['three', 'two', 'one']);
  });

  it.each([
    ['name', { name: 'No Spaces' }],
    ['targetSize', { targetSize: 101 }],
    ['targetSize', { targetSize: -1 }],
    ['targetSize', { targetSize: undefined }],
    ['maxSize', { maxSize: 1 }],
    ['maxPriceUsdPerHour', { maxPriceUsdPerHour: 0.5 }],
    ['gpu', { gpu: 'RTX 4091' }],
    ['providers.0', { providers: ['nobody'] }],
    ['regions.0', { regions: ['sweden'] }],
    ['idleSize', { idleSize: -1 }],
    ['idleShrinkAfter', { idleShrinkAfter: '10 seconds' }],
    ['image', { image: 'not an image' }],
    ['strategy', { strategy: 'race' }],
  ])('with a wrong %s is refused by its path', async (path, change) => {
    const { status, body } = await create(change);
    expect([status, body.errors[0].path]).toEqual([422, path]);
  });
});

describe('a dry run of a pool', () => {
  it('tells the price at its target for an hour and 30 days, now and at most, and keeps nothing', async () => {
    const name = anyName();
    const { status, body } = await create({ name, dryRun: true });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      targetSize: 2,
      fittingOffers: 2,
      priceMicroUsdPerHour: 640_000,
      priceMicroUsdPer30Days: 460_800_000,
      maxPriceAtTargetMicroUsdPerHour: 1_000_000,
      maxPriceAtTargetMicroUsdPer30Days: 720_000_000,
      fillNow: 2,
      shortage: null,
      trouble: null,
    });
    const { body: page } = await server.call('GET', `${POOLS}?limit=500`, { key });
    expect(page.items.map((item: { name: string }) => item.name)).not.toContain(name);
  });

  it('says where too little is offered, and where the caps leave no room', async () => {
    const { body: short } = await create({ targetSize: 5, dryRun: true });
    expect(short).toMatchObject({ priceMicroUsdPerHour: 640_000, fillNow: 5, trouble: null });
    expect(short.shortage).toContain('5 are asked for');
    const { body: capped } = await create({ targetSize: 100, maxPriceUsdPerHour: '90', dryRun: true });
    expect(capped.fillNow).toBeLessThan(6);
    expect(capped.trouble).toContain('MUSTER_MAX_BURN_USD_PER_HOUR');
  });
});

describe('a dry run of a serverless request', () => {
  const ORDER = {
    gpu: 'RTX 4090',
    maxPriceUsdPerHour: '0.60',
    diskGib: 10,
    image: 'example/dry:1',
    strategy: 'serverless',
  };
  const order = (change: Record<string, unknown> = {}) =>
    server.call('POST', '/api/v1/instances', { key, body: { ...ORDER, ...change } });

  it('tells which warm instances it would claim and their price, holds none, and plans the rest cold', async () => {
    const { body: made } = await create({ image: 'example/dry:1' });
    const [dear, cheap] = await recordWarm(server, made.id, [450_000n, 320_000n]);
    const claim = (instanceId: string | undefined, priceMicroUsdPerHour: number) => ({
      instanceId,
      poolId: made.id,
      provider: 'vastai',
      region: 'SE',
      priceMicroUsdPerHour,
    });
    const { body: one } = await order({ dryRun: true });
    expect(one.warm).toEqual([claim(cheap, 320_000)]);
    expect(one).toMatchObject({ priceMicroUsdPerHour: 320_000, priceMicroUsdPer30Days: 230_400_000, shortage: null });
    const { body: three } = await order({ count: 3, dryRun: true });
    expect(three.warm).toEqual([claim(cheap, 320_000), claim(dear, 450_000)]);
    expect(three.priceMicroUsdPerHour).toBe(320_000 + 450_000 + 300_000);
    expect(three.candidates.filter((candidate: { isFirstChoice: boolean }) => candidate.isFirstChoice)).toHaveLength(1);
    const { body: raced } = await order({ strategy: 'race', dryRun: true });
    expect(raced.warm).toEqual([]);
    expect((await warmIn(made.id)).map((row) => row.claimed_by)).toEqual([null, null]);
  });

  it('is carried out as it was shown, though what is warm be dearer than what is offered', async () => {
    const { body: made } = await create({ image: 'example/held:1', targetSize: 1 });
    const [warm] = await recordWarm(server, made.id, [450_000n]);
    const { body: plan } = await order({ image: 'example/held:1', dryRun: true });
    expect(plan.priceMicroUsdPerHour).toBe(450_000);
    const { status, body } = await order({ image: 'example/held:1', planHash: plan.planHash });
    expect(status).toBe(202);
    expect(body.instances[0].note).toContain(warm);
  });
});
