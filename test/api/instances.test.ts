import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertAttempt, recordPurchase } from '../../db/attempts.ts';
import { setInstanceStatus } from '../../db/instances.ts';
import { sightFinding } from '../../db/findings.ts';
import { listOffers, OFFER, ORDER, startApiServer, type ApiServer, type Reply } from '../support/api-server.ts';

let server: ApiServer;
let key: string;
let orgId: string;
beforeAll(async () => {
  server = await startApiServer();
  ({ key, orgId } = await server.makeKey('operator'));
  await listOffers(server, [
    { priceMicroUsdPerHour: 400_000n },
    { priceMicroUsdPerHour: 300_000n, region: 'US', reliability: 0.9 },
    { priceMicroUsdPerHour: 500_000n, gpuCount: 2, reliability: null },
    { priceMicroUsdPerHour: 250_000n, gpu: 'RTX 3090', gpuMemoryGib: null },
    { priceMicroUsdPerHour: 400_000n, gpu: 'H100 SXM', gpuMemoryGib: 80 },
  ]);
});
afterAll(() => server?.stop());

const create = (body: Record<string, unknown> = {}) =>
  server.call('POST', '/api/v1/instances', { key, body: { ...ORDER, ...body } });
const fetchOne = async (id: string) => (await server.call('GET', `/api/v1/instances/${id}`, { key })).body;

describe('POST /instances', () => {
  it('answers 202 with the operation, its place, and the instances', async () => {
    const reply = await create({ name: 'train', count: 2, consumer: 'search-team', gpu: 'rtx_4090' });
    expect(reply.status).toBe(202);
    expect(reply.body.operation).toMatchObject({ kind: 'provision_instance', status: 'queued' });
    expect(reply.headers.get('location')).toBe(`/api/v1/operations/${reply.body.operation.id}`);
    expect(reply.body.instances).toMatchObject([
      {
        name: 'train-1',
        status: 'requested',
        phase: 'queued',
        gpu: 'RTX 4090',
        consumer: 'search-team',
        strategy: 'race',
        ssh: null,
        provider: null,
      },
      { name: 'train-2' },
    ]);
    const operation = await server.call('GET', reply.headers.get('location') as string, { key });
    expect(operation.body).toMatchObject({
      status: 'queued',
      allowedActions: ['cancel'],
      targetId: reply.body.instances[0].stackId,
    });
  });

  it('gives 12 hours by default, no end with a reason, and keeps both in the audit log', async () => {
    const bounded = (await create()).body.instances[0];
    expect(Date.parse(bounded.expiresAt) - Date.parse(bounded.createdAt)).toBe(12 * 3_600_000);
    const unbounded = (await create({ maxLifetime: null, overrideReason: 'a long run' })).body.instances[0];
    expect(unbounded).toMatchObject({ expiresAt: null, unbounded: true });
    const fleet = await server.call('GET', '/api/v1/fleet', { key });
    expect(fleet.body.unbounded).toEqual([
      { instanceId: unbounded.id, name: unbounded.name, overrideReason: 'a long run' },
    ]);
    const audit = await server.call('GET', '/api/v1/audit?action=instance.create', { key });
    expect(audit.body.items[0].detail).toMatchObject({ overrideReason: 'a long run' });
    expect(audit.body.items[0].requestId).not.toBeNull();
  });

  it('with dryRun ranks what could be bought and buys nothing', async () => {
    const count = async () => (await server.database.kysely.selectFrom('instances').select('id').execute()).length;
    const before = await count();
    const { status, body } = await create({ dryRun: true, diskGib: 10 });
    expect(status).toBe(200);
    expect(await count()).toBe(before);
    expect(body).toMatchObject({ count: 1, fittingOffers: 2, fittingMachines: 2, shortage: null });
    expect(body.candidates.map((one: { priceMicroUsdPerHour: number }) => one.priceMicroUsdPerHour)).toEqual([
      300_000, 400_000,
    ]);
    expect(body.priceMicroUsdPerHour).toBe(300_000);
    expect(body.priceMicroUsdPer30Days).toBe(300_000 * 720);
    expect(body.candidates[0].offerId).toMatch(/^off_/);
    const none = await create({ dryRun: true, maxPriceUsdPerHour: '0.01' });
    expect(none.body.candidates).toEqual([]);
    expect(none.body.shortage).not.toBeNull();
  });

  it('is the same under /instances/provision', async () => {
    expect((await server.call('POST', '/api/v1/instances/provision', { key, body: ORDER })).status).toBe(202);
  });
});

describe('GET /instances/:id', () => {
  it('shows the machine, what it cost by now, and how to reach it once it is ready', async () => {
    const { body } = await create({ name: 'shown' });
    const { id, stackId } = body.instances[0];
    const attemptId = 'att_abcdefghijklmnop';
    await server.database.kysely.transaction().execute(async (tx) => {
      await insertAttempt(tx, {
        id: attemptId,
        orgId,
        instanceId: id,
        stackId,
        label: 'muster-x',
        // Not one of the inventory's: what is bought is hidden there.
        offer: { ...OFFER, providerOfferId: 'bought' },
        priceMicroUsdPerHour: 400_000n,
      });
      await recordPurchase(
        tx,
        attemptId,
        { providerInstanceId: '4711', machineId: 'm1', priceMicroUsdPerHour: 360_000n },
        60_000,
      );
      await tx
        .updateTable('attempts')
        .set({
          ssh_host: '203.0.113.7',
          ssh_port: 41022,
          ssh_user: 'root',
          purchased_at: sql`now() - interval '30 minutes'`,
        })
        .where('id', '=', attemptId)
        .execute();
      // As if it had been bought then: metering begins with the purchase.
      await tx
        .updateTable('usage_records')
        .set({ started_at: sql`now() - interval '30 minutes'` })
        .where('attempt_id', '=', attemptId)
        .execute();
      await setInstanceStatus(tx, id, 'creating');
      await setInstanceStatus(tx, id, 'booting', { winnerAttemptId: attemptId, phase: 'starting' });
    });
    const booting = await server.call('GET', `/api/v1/instances/${id}/ssh`, { key });
    expect(booting.status).toBe(409);
    expect(booting.body.state).toBe('booting');
    await setInstanceStatus(server.database.kysely, id, 'ready', { phase: 'active' });
    const shown = await fetchOne(id);
    expect(shown).toMatchObject({
      status: 'ready',
      phase: 'active',
      provider: 'vastai',
      providerInstanceId: '4711',
      machineId: 'm1',
      priceMicroUsdPerHour: 360_000,
      ssh: { host: '203.0.113.7', port: 41022, user: 'root' },
      allowedActions: ['destroy', 'ssh', 'extend', 'failover'],
      attempts: [{ id: attemptId, status: 'bought' }],
    });
    expect(Object.keys(shown.phaseAt).sort()).toEqual(['active', 'queued', 'starting']);
    expect(shown.accruedMicroUsd).toBeGreaterThanOrEqual(180_000);
    expect(shown.accruedMicroUsd).toBeLessThan(181_000);
    const ssh = await server.call('GET', `/api/v1/instances/${id}/ssh`, { key });
    expect(ssh.body.command).toBe('ssh -p 41022 root@203.0.113.7');
    const billing = await server.makeKey('billing', orgId);
    const cost = await server.call('GET', `/api/v1/instances/${id}/cost`, { key: billing.key });
    expect(cost.body.burnMicroUsdPerHour).toBe(360_000);
    const fleet = await server.call('GET', '/api/v1/fleet', { key: billing.key });
    expect(fleet.body).toMatchObject({
      machines: 1,
      burnMicroUsdPerHour: 360_000,
      byProvider: [{ provider: 'vastai', machines: 1 }],
    });
  });
});

describe('DELETE /instances/:id', () => {
  it('accepts a destroy once; later asks get the same operation; a destroyed one is a conflict', async () => {
    const { id } = (await create()).body.instances[0];
    const first = await server.call('DELETE', `/api/v1/instances/${id}`, { key });
    expect(first.status).toBe(202);
    expect(first.body).toMatchObject({
      operation: { kind: 'destroy_instance' },
      instance: { id, status: 'destroying' },
    });
    const again = await server.call('DELETE', `/api/v1/instances/${id}/destroy`, { key });
    expect(again.body.operation.id).toBe(first.body.operation.id);
    await setInstanceStatus(server.database.kysely, id, 'destroyed');
    await server.database.kysely
      .updateTable('operations')
      .set({ status: 'succeeded' })
      .where('id', '=', first.body.operation.id)
      .execute();
    const late = await server.call('DELETE', `/api/v1/instances/${id}`, { key });
    expect({ status: late.status, state: late.body.state }).toEqual({ status: 409, state: 'destroyed' });
  });

  it('a destroy is never canceled, a queued provision is at once', async () => {
    const made = await create();
    const canceled = await server.call('POST', `/api/v1/operations/${made.body.operation.id}/cancel`, {
      key,
      body: { reason: 'changed my mind' },
    });
    expect(canceled.status).toBe(202);
    expect(canceled.body.operation.status).toBe('canceled');
    const other = await create();
    const destroy = await server.call('DELETE', `/api/v1/instances/${other.body.instances[0].id}`, { key });
    const refused = await server.call('POST', `/api/v1/operations/${destroy.body.operation.id}/cancel`, { key });
    expect({ status: refused.status, code: refused.body.code }).toEqual({ status: 409, code: 'conflict' });
  });
});

describe('POST /instances/:id/extend', () => {
  it('moves the end; beyond the maximum only with a reason', async () => {
    const { id, expiresAt } = (await create({ maxLifetime: '2 hours' })).body.instances[0];
    const extend = (body: unknown) => server.call('POST', `/api/v1/instances/${id}/extend`, { key, body });
    expect(Date.parse((await extend({ by: '3 hours' })).body.expiresAt) - Date.parse(expiresAt)).toBe(3 * 3_600_000);
    expect((await extend({ by: '10 hours' })).body.errors[0].path).toBe('overrideReason');
    expect((await extend({ by: '10 hours', overrideReason: 'nearly done' })).status).toBe(200);
    const audit = await server.call('GET', `/api/v1/audit?targetId=${id}`, { key });
    expect(audit.body.items[0]).toMatchObject({ action: 'instance.extend', detail: { overrideReason: 'nearly done' } });
  });

  it('is refused for one without an end', async () => {
    const { id } = (await create({ maxLifetime: null, overrideReason: 'for ever' })).body.instances[0];
    expect((await server.call('POST', `/api/v1/instances/${id}/extend`, { key, body: { by: '1 hour' } })).status).toBe(
      409,
    );
  });
});

interface Item {
  id: string;
  createdAt: string;
  priceMicroUsdPerHour: number;
  gpuMemoryGib: number | null;
  reliability: number | null;
}

describe('pages', () => {
  async function collect(path: string, limit: number, credential = key): Promise<Item[]> {
    const items: Item[] = [];
    let cursor: string | null = null;
    do {
      const separator = path.includes('?') ? '&' : '?';
      const reply: Reply = await server.call(
        'GET',
        `${path}${separator}limit=${limit}${cursor === null ? '' : `&cursor=${cursor}`}`,
        { key: credential },
      );
      expect(reply.status).toBe(200);
      expect(reply.body.items.length).toBeLessThanOrEqual(limit);
      items.push(...reply.body.items);
      cursor = reply.body.nextCursor;
    } while (cursor !== null);
    return items;
  }

  it('of instances and operations hold everything once, newest first, though many were made in one moment', async () => {
    const other = await server.makeKey('operator');
    await server.database.kysely
      .updateTable('deployment')
      .set({ max_instances: 1000, max_burn_micro_usd_per_hour: 10_000_000_000n })
      .execute();
    await server.call('POST', '/api/v1/instances', { key: other.key, body: { ...ORDER, count: 7 } });
    for (let index = 0; index < 6; index++)
      await server.call('POST', '/api/v1/instances', { key: other.key, body: ORDER });
    const instances = await collect('/api/v1/instances', 3, other.key);
    expect(new Set(instances.map((item) => item.id)).size).toBe(13);
    expect(instances).toHaveLength(13);
    const times = instances.map((item) => Date.parse(item.createdAt));
    expect(times).toEqual([...times].sort((a, b) => b - a));
    expect(await collect('/api/v1/operations', 2, other.key)).toHaveLength(7);
    expect(await collect('/api/v1/audit', 2, other.key)).toHaveLength(7);
    expect(await collect('/api/v1/api-keys', 1, (await server.makeKey('owner', other.orgId)).key)).toHaveLength(2);
  });

  it.each(['price', '-price', 'price_per_gpu', 'reliability', 'memory'])(
    'of the inventory sorted by %s hold every offer once',
    async (sort) => {
      const all = await collect(`/api/v1/inventory?sort=${sort}`, 2);
      expect(new Set(all.map((item) => item.id)).size).toBe(5);
      expect(all.map((item) => item.id)).toEqual(
        (await collect(`/api/v1/inventory?sort=${sort}`, 100)).map((item) => item.id),
      );
      const prices = all.map((item) => item.priceMicroUsdPerHour);
      if (sort === 'price') expect(prices).toEqual([...prices].sort((a, b) => a - b));
      if (sort === '-price') expect(prices).toEqual([...prices].sort((a, b) => b - a));
      if (sort === 'memory') expect(all[0]?.gpuMemoryGib).toBe(80);
      if (sort === 'reliability') expect(all.at(-1)?.reliability).toBeNull();
    },
  );

  it('of the inventory are filtered', async () => {
    const prices = async (query: string) =>
      (await collect(`/api/v1/inventory?${query}`, 50)).map((item) => item.priceMicroUsdPerHour);
    expect(await prices('gpu=rtx%204090&gpuCount=1')).toEqual([300_000, 400_000]);
    expect(await prices('maxPriceUsdPerHour=0.30')).toEqual([250_000, 300_000]);
    expect(await prices('region=us')).toEqual([300_000]);
    expect(await prices('minReliability=0.95')).toEqual([250_000, 400_000, 400_000]);
    expect(await prices('minGpuMemoryGib=48')).toEqual([400_000]);
    expect(await prices('interruptible=true')).toEqual([]);
    expect(await prices('provider=vastai')).toHaveLength(5);
  });
});

describe('what only the admin does', () => {
  it('switches providers, keeps a denylist, and sees findings of no org', async () => {
    const off = await server.call('POST', '/api/v1/providers/vastai/disable', {
      body: { reason: 'too many bad hosts' },
    });
    expect(off.body).toMatchObject({ name: 'vastai', enabled: false });
    expect((await server.call('POST', '/api/v1/providers/vastai/enable')).body.enabled).toBe(true);
    expect((await server.call('POST', '/api/v1/providers/nobody/enable')).status).toBe(404);
    const path = '/api/v1/machines/vastai/m9/denylist';
    expect(
      (await server.call('POST', path, { body: { reason: 'wrong GPU', for: '2 days' } })).body.denylistReason,
    ).toBe('wrong GPU');
    expect((await server.call('GET', '/api/v1/machines/denylist', { key })).body.items).toMatchObject([
      { machineId: 'm9' },
    ]);
    expect((await server.call('DELETE', path)).body.denylistedUntil).toBeNull();
    expect((await server.call('GET', '/api/v1/machines/denylist', { key })).body.items).toEqual([]);
    expect((await server.call('GET', '/api/v1/machines/history', { key })).body.items).toHaveLength(1);
    const audit = await server.call('GET', '/api/v1/audit');
    expect(audit.body.items.map((item: { action: string }) => item.action)).toEqual(
      expect.arrayContaining(['provider.disable', 'provider.enable', 'machine.denylist', 'machine.lift_denylist']),
    );
  });

  it('destroys an orphan by an operation, once, and never a foreign machine', async () => {
    const found = (kind: string, providerInstanceId: string) =>
      sightFinding(server.database.kysely, {
        orgId: null,
        class: kind,
        provider: 'vastai',
        providerInstanceId,
        attemptId: null,
        instanceId: null,
        label: kind === 'foreign' ? null : 'muster-sandbox-a-b',
        detail: 'seen',
        priceMicroUsdPerHour: 100n,
      });
    const [orphan, foreign] = [await found('orphan', '1'), await found('foreign', '2')];
    expect((await server.call('GET', '/api/v1/findings', { key })).body.items).toEqual([]);
    const reply = await server.call('POST', `/api/v1/findings/${orphan?.id}/destroy`, {
      body: { reason: 'ours and forgotten' },
    });
    expect(reply.status).toBe(202);
    expect(reply.body).toMatchObject({ operation: { kind: 'destroy_machine' }, finding: { status: 'resolving' } });
    expect((await server.call('GET', `/api/v1/operations/${reply.body.operation.id}`)).body.targetId).toBe(orphan?.id);
    expect((await server.call('POST', `/api/v1/findings/${orphan?.id}/destroy`)).status).toBe(409);
    expect((await server.call('POST', `/api/v1/findings/${foreign?.id}/destroy`)).status).toBe(409);
    const ignored = await server.call('POST', `/api/v1/findings/${foreign?.id}/ignore`, { body: { reason: 'known' } });
    expect(ignored.body.status).toBe('ignored');
    expect((await server.call('GET', '/api/v1/findings?status=ignored,resolving')).body.items).toHaveLength(2);
  });
});

describe('health', () => {
  it('lives at once, is ready when the engine and every provider have reported', async () => {
    expect((await server.call('GET', '/health', { key: null })).body).toEqual({ status: 'ok' });
    await sql`update providers set status = 'unknown', offers_seen_at = null`.execute(server.database.kysely);
    const before = await server.call('GET', '/ready', { key: null });
    expect(before.status).toBe(503);
    expect(before.body.checks).toMatchObject({
      database: { ready: true },
      engine: { ready: false },
      providers: { vastai: { ready: false, reason: 'not listed yet' } },
    });
    const { recordComponent } = await import('../../db/processes.ts');
    const { recordBelievable } = await import('../../db/providers.ts');
    await recordComponent(server.database.kysely, 'engine', 'test', true, 'pulumi 3');
    await recordBelievable(server.database.kysely, 'vastai', { listing: 'offers', count: 5 });
    const after = await server.call('GET', '/ready', { key: null });
    expect({ status: after.status, ready: after.body.ready }).toEqual({ status: 200, ready: true });
  });

  it('tells its metrics to a viewer', async () => {
    const viewer = await server.makeKey('viewer');
    await server.call('GET', '/api/v1/instances', { key: viewer.key });
    const reply = await server.call<string>('GET', '/metrics', { key: viewer.key });
    expect(reply.body).toContain(
      'muster_http_request_duration_seconds_count{method="GET",route="/api/v1/instances",status="200"}',
    );
  });
});

describe('the rate limit', () => {
  it('lets so many through in a second, from however many replicas, and says when to come back', async () => {
    const limited = await startApiServer({ rateLimitPerSecond: 5 });
    try {
      const replies = await Promise.all(Array.from({ length: 12 }, () => limited.call('GET', '/api/v1/users/me')));
      const passed = replies.filter((reply) => reply.status === 200).length;
      expect(passed).toBeGreaterThanOrEqual(5);
      expect(passed).toBeLessThanOrEqual(10);
      const refused = replies.find((reply) => reply.status === 429);
      expect(refused?.body.code).toBe('rate_limited');
      expect(refused?.headers.get('retry-after')).toBe('1');
    } finally {
      await limited.stop();
    }
  });
});
