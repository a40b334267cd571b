import { generateKeyPairSync } from 'node:crypto';
import ssh2 from 'ssh2';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createExpireCron } from '../../automation/cron/expire.ts';
import { insertAttempt, recordCheck, recordObservation, recordPurchase, recordRefusal } from '../../db/attempts.ts';
import { hideOffer, reserveOffer } from '../../db/offers.ts';
import { setInstanceStatus } from '../../db/instances.ts';
import { newId } from '../../db/new-id.ts';
import { listOffers, OFFER, startApiServer, type ApiServer, type Loose } from '../support/api-server.ts';

const HOUR = 3_600_000;
const KEY = `ssh-ed25519 ${Buffer.concat([Buffer.from('0000000b7373682d6564323535313900000020', 'hex'), generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)]).toString('base64')}`;

let server: ApiServer;
let owner: { key: string; orgId: string };
let operator: { key: string; orgId: string };
let viewer: { key: string; orgId: string };
let offerIds: string[];

beforeAll(async () => {
  server = await startApiServer();
  await server.database.kysely.updateTable('deployment').set({ max_instances: 1_000 }).execute();
  owner = await server.makeKey('owner');
  operator = await server.makeKey('operator', owner.orgId);
  viewer = await server.makeKey('viewer', owner.orgId);
});
afterAll(() => server?.stop());
beforeEach(async () => {
  await listOffers(server, [{}, { priceMicroUsdPerHour: 350_000n }, { priceMicroUsdPerHour: 500_000n }]);
  const rows = await server.database.kysely.selectFrom('offers').select(['id', 'provider_offer_id']).execute();
  offerIds = rows.sort((a, b) => Number(a.provider_offer_id) - Number(b.provider_offer_id)).map((row) => row.id);
  await server.database.kysely.updateTable('offers').set({ hidden_at: null }).execute();
});

const call = (method: string, path: string, body?: unknown, key = operator.key, headers: Record<string, string> = {}) =>
  server.call(method, `/api/v1${path}`, { key, headers, ...(body === undefined ? {} : { body }) });

async function open(body: Record<string, unknown> = {}): Promise<Loose> {
  const reply = await call('POST', '/sessions', { offerId: offerIds[0], hours: 2, consumer: 'search', ...body });
  expect(reply.status).toBe(202);
  return reply.body.session;
}

/** As the worker and the watcher would: a machine is bought and found ready. */
async function makeReady(session: Loose): Promise<string> {
  const db = server.database.kysely;
  const id = newId('attempt');
  const { id: instanceId, stackId } = session.instance;
  await db.transaction().execute(async (tx) => {
    await insertAttempt(tx, {
      id,
      orgId: owner.orgId,
      instanceId,
      stackId,
      label: id,
      offer: OFFER,
      priceMicroUsdPerHour: 400_000n,
    });
    await recordPurchase(tx, id, { providerInstanceId: id, machineId: null, priceMicroUsdPerHour: null }, 900_000);
  });
  await recordObservation(db, id, {
    provider: 'vastai',
    providerInstanceId: id,
    label: id,
    status: 'running',
    statusDetail: 'success, running',
    machineId: null,
    gpu: null,
    gpuCount: null,
    gpuMemoryGib: null,
    priceMicroUsdPerHour: null,
    interruptible: null,
    interrupted: false,
    ssh: { host: '203.0.113.7', port: 41_022, user: 'root' },
    image: null,
    region: null,
    startedAt: null,
  });
  for (const status of ['creating', 'booting'] as const) await setInstanceStatus(db, instanceId, status);
  await setInstanceStatus(db, instanceId, 'ready', { winnerAttemptId: id });
  return id;
}

const get = async (session: Loose) => (await call('GET', `/sessions/${session.id}`)).body;

describe('opening a session', () => {
  it('by an offer orders this offer and nothing else, at its listed price, in one transaction with its instance', async () => {
    const reply = await call('POST', '/sessions', {
      offerId: offerIds[0],
      hours: 2,
      consumer: 'search',
      purpose: 'nightly evaluation',
      diskGib: 10,
    });
    expect(reply.status).toBe(202);
    const { session, operation } = reply.body;
    expect(reply.headers.get('location')).toBe(`/api/v1/operations/${operation.id}`);
    expect(operation).toMatchObject({ kind: 'provision_instance', status: 'queued' });
    expect(session).toMatchObject({
      status: 'opening',
      consumer: 'search',
      purpose: 'nightly evaluation',
      offerId: offerIds[0],
      ssh: null,
      hasSshKey: true,
      allowedActions: ['done', 'extend'],
    });
    expect(session.instance).toMatchObject({ gpu: 'RTX 4090', maxPriceMicroUsdPerHour: 400_000, consumer: 'search' });
    expect(Date.parse(session.expiresAt) - Date.parse(session.createdAt)).toBeCloseTo(2 * HOUR, -3);
    expect(session.instance.expiresAt).toBe(session.expiresAt);
    expect(Date.parse(session.latestExpiresAt) - Date.parse(session.createdAt)).toBe(12 * HOUR);
    const { request } = await server.database.kysely
      .selectFrom('instances')
      .select('request')
      .where('id', '=', session.instance.id)
      .executeTakeFirstOrThrow();
    expect(request).toMatchObject({ onlyOffer: { provider: 'vastai', providerOfferId: '1' }, strategy: 'coldstart' });
    expect((request as { sshPublicKeys: string[] }).sshPublicKeys).toHaveLength(1);
    expect(JSON.stringify(reply.body)).not.toContain('PRIVATE KEY');
  });

  it('by requirements, as POST /instances', async () => {
    const session = await open({
      offerId: undefined,
      requirements: { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60', strategy: 'coldstart' },
      sshPublicKeys: [KEY],
    });
    expect(session).toMatchObject({ offerId: null, hasSshKey: false });
    expect(session.instance.maxPriceMicroUsdPerHour).toBe(600_000);
  });

  it('shows the plan first, and is held to it', async () => {
    const body = { offerId: offerIds[0], hours: 1 };
    const plan = await call('POST', '/sessions', { ...body, dryRun: true });
    expect(plan.status).toBe(200);
    expect(plan.body.candidates.map((one: Loose) => one.offerId)).toEqual([offerIds[0]]);
    const other = await call('POST', '/sessions', { offerId: offerIds[1], hours: 1, planHash: plan.body.planHash });
    expect(other.status).toBe(409);
    expect((await call('POST', '/sessions', { ...body, planHash: plan.body.planHash })).status).toBe(202);
  });

  it('is refused with 409 when the offer is gone, hidden, switched off or somebody else is buying it', async () => {
    const post = () => call('POST', '/sessions', { offerId: offerIds[0], hours: 1 });
    const db = server.database.kysely;
    const unknown = await call('POST', '/sessions', { offerId: 'off_aaaaaaaaaaaaaaaa', hours: 1 });
    expect(unknown).toMatchObject({ status: 409, body: { code: 'conflict', errors: [{ path: 'offerId' }] } });
    await db.transaction().execute((tx) => hideOffer(tx, 'vastai', '1'));
    expect((await post()).body.detail).toContain('is gone');
    await db.updateTable('offers').set({ hidden_at: null }).execute();
    await db.updateTable('providers').set({ enabled: false }).execute();
    expect((await post()).body.detail).toContain('switched off');
    await db.updateTable('providers').set({ enabled: true }).execute();
    const holder = await open({ offerId: offerIds[1] });
    const attempt = newId('attempt');
    await db.transaction().execute(async (tx) => {
      const { id: instanceId, stackId } = holder.instance;
      const made = { id: attempt, orgId: owner.orgId, instanceId, stackId, label: attempt };
      await insertAttempt(tx, { ...made, offer: OFFER, priceMicroUsdPerHour: 400_000n });
      await reserveOffer(tx, OFFER, attempt);
    });
    expect((await post()).body.detail).toContain('somebody else');
    await db.deleteFrom('offer_reservations').execute();
  });

  it.each([
    [{ offerId: undefined }, 'offerId'],
    [{ requirements: { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60' } }, 'offerId'],
    [{ offerId: undefined, requirements: { gpu: 'RTX 4090' } }, 'requirements.maxPriceUsdPerHour'],
    [{ offerId: undefined, requirements: { gpu: 'RTX 4090', maxPriceUsdPerHour: '1' }, diskGib: 10 }, 'diskGib'],
    [{ hours: 0 }, 'hours'],
    [{ hours: 5, maxLifetime: '4 hours' }, 'hours'],
    [{ hours: 13 }, 'overrideReason'],
    [{ colour: 'red' }, 'colour'],
    [{ sshPublicKeys: ['nonsense'] }, 'sshPublicKeys.0'],
  ])('is refused with %j, naming the field', async (change, path) => {
    const reply = await call('POST', '/sessions', { offerId: offerIds[0], hours: 1, ...change });
    expect(reply.status).toBe(422);
    expect(reply.body.errors.map((error: Loose) => error.path)).toContain(path);
  });

  it('beyond twelve hours needs an operator with a reason, which is audited; null bounds its extension by nothing', async () => {
    const session = await open({ hours: 24, overrideReason: 'a training run over night' });
    expect(session.overrideReason).toBe('a training run over night');
    expect(Date.parse(session.expiresAt) - Date.parse(session.createdAt)).toBeCloseTo(24 * HOUR, -3);
    const unbounded = await open({ maxLifetime: null, hours: 2, overrideReason: 'a training run' });
    expect(unbounded.latestExpiresAt).toBeNull();
    const audit = await call('GET', `/audit?targetId=${session.id}`);
    expect(audit.body.items[0]).toMatchObject({
      action: 'session.open',
      detail: { overrideReason: 'a training run over night' },
    });
  });

  it('counts against the caps in the same transaction: beyond one nothing of it is kept', async () => {
    const caps = server.database.kysely.updateTable('deployment');
    const count = () =>
      server.database.kysely
        .selectFrom(['sessions'])
        .select((eb) => eb.fn.countAll<bigint>().as('count'))
        .executeTakeFirstOrThrow();
    const before = await count();
    await caps.set({ max_instances: 0 }).execute();
    try {
      const reply = await call('POST', '/sessions', { offerId: offerIds[0], hours: 2 });
      expect(reply).toMatchObject({ status: 507, body: { code: 'cap_exceeded', cap: 'instances', maxInstances: 0 } });
    } finally {
      await caps.set({ max_instances: 1_000 }).execute();
    }
    expect(await count()).toEqual(before);
  });

  it('is done once for an Idempotency-Key', async () => {
    const headers = { 'idempotency-key': 'open-once' };
    const body = { offerId: offerIds[0], hours: 1 };
    const first = await call('POST', '/sessions', body, operator.key, headers);
    await server.database.kysely.deleteFrom('offers').execute();
    const again = await call('POST', '/sessions', body, operator.key, headers);
    expect(again.body).toEqual(first.body);
  });
});

describe('a session', () => {
  it('follows its instance from opening to done, and hands over direct access while it is open', async () => {
    const opened = await open();
    await makeReady(opened);
    const ready = await get(opened);
    expect(ready).toMatchObject({
      status: 'open',
      allowedActions: ['done', 'extend', 'ssh'],
      priceMicroUsdPerHour: 400_000,
      ssh: { host: '203.0.113.7', port: 41_022, user: 'root', command: 'ssh -p 41022 root@203.0.113.7' },
    });
    expect(ready.openedAt).not.toBeNull();
    const done = await call('POST', `/sessions/${opened.id}/done`);
    expect(done.status).toBe(202);
    expect(done.body).toMatchObject({
      operation: { kind: 'destroy_instance' },
      session: { status: 'ending', ssh: null, instance: { status: 'destroying' } },
    });
    const again = await call('POST', `/sessions/${opened.id}/done`);
    expect(again.body.operation.id).toBe(done.body.operation.id);
    expect((await call('DELETE', `/sessions/${opened.id}`)).body.operation.id).toBe(done.body.operation.id);
    await setInstanceStatus(server.database.kysely, opened.instance.id, 'destroyed');
    expect(await get(opened)).toMatchObject({ status: 'done', failureCode: null, allowedActions: [] });
    const over = await call('POST', `/sessions/${opened.id}/done`);
    expect(over).toMatchObject({ status: 200, body: { operation: null, session: { status: 'done' } } });
    const audit = await call('GET', `/audit?targetId=${opened.id}`);
    expect(audit.body.items.map((entry: Loose) => entry.action)).toEqual(['session.done', 'session.open']);
  });

  it('whose machine cannot be had is failed, with the reason, once nothing is left of it', async () => {
    const session = await open();
    const failure = { code: 'no_capacity', detail: 'nothing fits' };
    await setInstanceStatus(server.database.kysely, session.instance.id, 'destroying', { failure });
    expect((await get(session)).status).toBe('ending');
    await setInstanceStatus(server.database.kysely, session.instance.id, 'destroyed');
    expect(await get(session)).toMatchObject({ status: 'failed', failureCode: 'no_capacity' });
  });

  it('is extended up to its bound, further only by an operator with a reason; its instance goes along', async () => {
    const session = await open({ hours: 2, maxLifetime: '6 hours' });
    const extend = (body: unknown, key?: string) => call('POST', `/sessions/${session.id}/extend`, body, key);
    const extended = await extend({ hours: 4 });
    expect(Date.parse(extended.body.expiresAt) - Date.parse(session.expiresAt)).toBe(4 * HOUR);
    expect(extended.body.instance.expiresAt).toBe(extended.body.expiresAt);
    expect((await extend({ hours: 1 })).body.errors[0].path).toBe('overrideReason');
    const further = await extend({ hours: 1, overrideReason: 'one more run' });
    expect(further.body).toMatchObject({ overrideReason: 'one more run' });
    expect(further.body.latestExpiresAt).toBe(further.body.expiresAt);
    expect((await extend({ hours: 1 }, viewer.key)).status).toBe(403);
    const instead = await call('POST', `/instances/${session.instance.id}/extend`, { by: '1 hour' });
    expect(instead).toMatchObject({ status: 409, body: { sessionId: session.id } });
    await call('POST', `/sessions/${session.id}/done`);
    expect(await extend({ hours: 1 })).toMatchObject({ status: 409, body: { state: 'ending' } });
  });

  it('is warned fifteen and five minutes before its end, once each, and then expires', async () => {
    const hook = await call('POST', '/webhooks', { url: 'https://example.com/', events: ['session.*'] });
    const session = await open({ hours: 1 });
    const end = Date.parse(session.expiresAt);
    const cron = (minutesBefore: number) =>
      createExpireCron(server.database.kysely, server.queue, () => new Date(end - minutesBefore * 60_000)).run(
        new AbortController().signal,
      );
    const told = async () =>
      (await call('GET', `/webhooks/${hook.body.id}/deliveries`)).body.items
        .filter((one: Loose) => one.object.id === session.id)
        .map((one: Loose) => [one.type, one.data.minutesLeft]);
    expect(await cron(20)).toMatchObject({ warned: 0 });
    for (const minutes of [14, 13, 5, 4]) await cron(minutes);
    await call('POST', `/sessions/${session.id}/extend`, { hours: 0.5 });
    await cron(14 - 30);
    expect(await told()).toEqual([
      ['session.expiring', 14],
      ['session.expiring', 5],
      ['session.expiring', 14],
      ['session.opening', undefined],
    ]);
    await cron(-31);
    expect((await get(session)).status).toBe('ending');
    await setInstanceStatus(server.database.kysely, session.instance.id, 'destroyed');
    expect((await get(session)).status).toBe('expired');
    const diagnostics = await call('GET', `/sessions/${session.id}/diagnostics`);
    expect(diagnostics.body.timeline.filter((event: Loose) => event.type === 'session_expiring')).toHaveLength(3);
  });

  it('that is shorter than a warning is not warned of it', async () => {
    const session = await open({ hours: 0.1 });
    const end = Date.parse(session.expiresAt);
    const cron = createExpireCron(server.database.kysely, server.queue, () => new Date(end - 5.9 * 60_000));
    expect(await cron.run(new AbortController().signal)).toMatchObject({ warned: 0 });
  });

  it('is listed newest first, by status and consumer, to its own org only', async () => {
    const session = await open({ consumer: 'listed' });
    const items = (await call('GET', '/sessions?consumer=listed&status=opening')).body.items;
    expect(items.map((item: Loose) => item.id)).toEqual([session.id]);
    expect((await call('GET', '/sessions?consumer=listed&status=open')).body.items).toEqual([]);
    const page = (await call('GET', '/sessions?limit=2')).body;
    expect(page.items[0].id).toBe(session.id);
    const next = (await call('GET', `/sessions?limit=2&cursor=${page.nextCursor}`)).body;
    expect(next.items.map((item: Loose) => item.id)).not.toContain(page.items[1].id);
    const stranger = await server.makeKey('owner');
    for (const [method, path] of [
      ['GET', ''],
      ['DELETE', ''],
      ['POST', '/done'],
      ['GET', '/ssh-key'],
      ['GET', '/diagnostics'],
    ] as const) {
      expect((await call(method, `/sessions/${session.id}${path}`, undefined, stranger.key)).status).toBe(404);
    }
  });

  it('costs what its machines cost, and is a group of costs', async () => {
    const session = await open({ consumer: 'billed' });
    await makeReady(session);
    const from = new Date(Date.now() - HOUR);
    await server.database.kysely
      .updateTable('usage_records')
      .set({ started_at: from, proven_until: from })
      .where('instance_id', '=', session.instance.id)
      .execute();
    const lines = (await call('GET', `/costs?groupBy=session&consumer=billed`)).body;
    expect(lines.items).toHaveLength(1);
    expect(lines.items[0].key).toBe(session.id);
    expect(lines.items[0].costMicroUsd).toBeGreaterThanOrEqual(400_000);
    const own = (await call('GET', `/costs?sessionId=${session.id}`)).body;
    expect(own.items.map((line: Loose) => line.key)).toEqual([session.instance.id]);
  });
});

describe('the key of a session', () => {
  it('is given again to who opened it and to an owner, opens what it should, and is audited and sealed', async () => {
    const session = await open();
    const path = `/sessions/${session.id}/ssh-key`;
    const mine = await call('GET', path);
    expect(mine.status).toBe(200);
    expect(mine.headers.get('cache-control')).toBe('no-store');
    const parsed = ssh2.utils.parseKey(mine.body.privateKey);
    if (parsed instanceof Error) throw parsed;
    expect(mine.body.publicKey).toContain(parsed.getPublicSSH().toString('base64'));
    expect((await call('GET', path)).body).toEqual(mine.body);
    expect((await call('GET', path, undefined, owner.key)).body).toEqual(mine.body);
    const colleague = await server.makeKey('operator', owner.orgId);
    expect((await call('GET', path, undefined, colleague.key)).status).toBe(403);
    expect((await call('GET', path, undefined, viewer.key)).status).toBe(403);
    const audit = await call('GET', `/audit?targetId=${session.id}&action=session.ssh_key`);
    expect(audit.body.items).toHaveLength(3);
    const row = await server.database.kysely
      .selectFrom('sessions')
      .selectAll()
      .where('id', '=', session.id)
      .executeTakeFirstOrThrow();
    expect(JSON.stringify(row, (_, value) => (typeof value === 'bigint' ? String(value) : value))).not.toContain(
      'PRIVATE KEY',
    );
    expect(server.log.join('\n')).not.toContain('PRIVATE KEY');
  });

  it('does not exist where keys were brought, and is deleted when the session is over', async () => {
    const brought = await open({ sshPublicKeys: [KEY] });
    expect((await call('GET', `/sessions/${brought.id}/ssh-key`)).status).toBe(409);
    const session = await open();
    await call('DELETE', `/sessions/${session.id}`);
    await setInstanceStatus(server.database.kysely, session.instance.id, 'destroyed');
    expect((await call('GET', `/sessions/${session.id}/ssh-key`)).body.detail).toContain('is deleted');
  });
});

describe('diagnostics', () => {
  it('say what was tried, refused, seen and checked', async () => {
    const session = await open();
    const attemptId = await makeReady(session);
    const db = server.database.kysely;
    const gpus = [{ name: 'NVIDIA GeForce RTX 4090', memoryMib: 24_564 }];
    await recordCheck(db, attemptId, {
      at: new Date().toISOString(),
      verdict: 'ready',
      reason: null,
      ssh: { reached: true, authenticated: true, gpus, detail: null },
    });
    await db.transaction().execute(async (tx) => {
      const attempt = await tx.selectFrom('attempts').selectAll().where('id', '=', attemptId).executeTakeFirstOrThrow();
      await recordRefusal(tx, attempt, 'no longer available', null);
    });
    const { status, body } = await call('GET', `/sessions/${session.id}/diagnostics`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ sessionId: session.id, status: 'open', findings: [] });
    expect(body.summary).toContain('1 machine was tried, 1 offer was refused');
    expect(body.attempts[0]).toMatchObject({
      id: attemptId,
      vendorStatus: 'success, running',
      refusals: [{ reason: 'no longer available' }],
      check: { verdict: 'ready', ssh: { reached: true, authenticated: true }, gpus },
    });
    expect(body.timeline[0]).toMatchObject({ type: 'status', data: { status: 'queued' } });
  });
});
