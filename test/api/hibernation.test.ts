/** Putting to sleep, waking and their prices over the API. No worker runs: what one would do is done to the rows. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listOffers, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';
import { recordReadyInstance, recordSleep } from '../support/sleeping-record.ts';

const HOUR = 3_600_000;
let server: ApiServer;
let key: string;
let orgId: string;
beforeAll(async () => {
  server = await startApiServer();
  ({ key, orgId } = await server.makeKey('operator'));
  await listOffers(server, [{ priceMicroUsdPerHour: 400_000n }, { priceMicroUsdPerHour: 300_000n }]);
});
afterAll(() => server?.stop());

const post = (path: string, body: unknown = {}) => server.call('POST', `/api/v1${path}`, { key, body });
const shown = async (id: string) => (await server.call('GET', `/api/v1/instances/${id}`, { key })).body;

const makeReady = (body: Record<string, unknown> = {}) => recordReadyInstance(server, { key, orgId }, body);
const putToSleep = (id: string, attemptId: string) => recordSleep(server, { key, orgId }, id, attemptId);

describe('POST /instances/:id/hibernate', () => {
  it('answers 202, the same operation again, and shows that it goes to sleep', async () => {
    const { id } = await makeReady({ hibernateWhenIdle: { for: '5 minutes' } });
    expect(await shown(id)).toMatchObject({
      hibernateWhenIdle: { belowPercent: 5, for: '5 minutes' },
      hibernateSchedule: null,
      hibernation: null,
      savings: null,
    });
    expect((await shown(id)).allowedActions).toContain('hibernate');
    const first = await post(`/instances/${id}/hibernate`);
    expect(first.status).toBe(202);
    expect(first.body).toMatchObject({
      operation: { kind: 'hibernate_instance', status: 'queued' },
      instance: { status: 'hibernating', phase: 'snapshotting', hibernation: { status: 'copying', cause: 'request' } },
    });
    expect((await post(`/instances/${id}/hibernate`)).body.operation.id).toBe(first.body.operation.id);
    const audit = await server.call('GET', '/api/v1/audit?action=instance.hibernate', { key });
    expect(audit.body.items).toHaveLength(1);
    const canceled = await post(`/operations/${first.body.operation.id}/cancel`);
    expect(canceled.status).toBe(202);
    expect(await shown(id)).toMatchObject({ status: 'ready', hibernation: { status: 'failed' } });
  });

  it('is refused where nothing of it would be kept, and for what is not ready', async () => {
    const { id } = await makeReady();
    expect((await shown(id)).allowedActions).not.toContain('hibernate');
    const refused = await post(`/instances/${id}/hibernate`);
    expect(refused).toMatchObject({ status: 409, body: { code: 'conflict', missing: 'workspace', state: 'ready' } });
    const policy = await post(`/instances/${id}/hibernation`, { hibernateWhenIdle: {} });
    expect(policy.body).toMatchObject({ hibernateWhenIdle: { belowPercent: 5, for: '3 minutes' } });
    await server.database.kysely
      .updateTable('nodes')
      .set({ heartbeat_at: null })
      .where('instance_id', '=', id)
      .execute();
    expect(await post(`/instances/${id}/hibernate`)).toMatchObject({
      status: 409,
      body: { code: 'snapshot_store_unreachable' },
    });
    const { instances } = (await post('/instances', ORDER)).body;
    expect(await post(`/instances/${instances[0].id}/hibernate`)).toMatchObject({
      status: 409,
      body: { state: 'requested' },
    });
    const other = await server.makeKey('operator');
    expect((await server.call('POST', `/api/v1/instances/${id}/hibernate`, { key: other.key, body: {} })).status).toBe(
      404,
    );
  });
});

describe('an instance that sleeps', () => {
  it('shows what its files cost, what it saved, and that its lifetime stands still', async () => {
    const { id, attemptId } = await makeReady({ hibernateWhenIdle: {} });
    await putToSleep(id, attemptId);
    const asleep = await shown(id);
    expect(asleep).toMatchObject({
      status: 'hibernated',
      phase: 'asleep',
      allowedActions: ['destroy', 'wake'],
      expiresAt: null,
      ssh: null,
      hibernation: {
        status: 'asleep',
        cause: 'request',
        storageBytes: 40_000_000_000,
        // 40 GB at $0.006.
        storageMicroUsdPerMonth: 240_000,
        nothingLeftAt: null,
      },
    });
    expect(asleep.hibernation.lifetimeLeftMs).toBeGreaterThan(1.9 * HOUR);
    const { avoidedMicroUsd, storageMicroUsd, savedMicroUsd, asleepMs } = asleep.savings;
    expect(asleepMs).toBeGreaterThanOrEqual(HOUR);
    expect(avoidedMicroUsd).toBeGreaterThanOrEqual(400_000);
    expect(avoidedMicroUsd).toBeLessThan(402_000);
    expect(storageMicroUsd).toBeGreaterThanOrEqual(328);
    expect(savedMicroUsd).toBe(avoidedMicroUsd - storageMicroUsd);
    const billing = await server.makeKey('billing', orgId);
    const summary = await server.call('GET', '/api/v1/costs/summary', { key: billing.key });
    expect(summary.body.hibernation.avoidedMicroUsd).toBeGreaterThanOrEqual(400_000);
  });

  it('is woken at a price that was shown, and not where that no longer holds', async () => {
    const { id, attemptId } = await makeReady({ hibernateWhenIdle: {} });
    expect(await post(`/instances/${id}/wake`)).toMatchObject({ status: 409, body: { state: 'ready' } });
    await putToSleep(id, attemptId);
    const plan = await post(`/instances/${id}/wake`, { dryRun: true });
    expect(plan).toMatchObject({
      status: 200,
      body: { instanceId: id, count: 1, priceMicroUsdPerHour: 306_000, restoreBytes: 41_000_000_000, shortage: null },
    });
    expect((await shown(id)).status).toBe('hibernated');
    await listOffers(server, [{ priceMicroUsdPerHour: 590_000n }]);
    const { planHash } = plan.body as { planHash: string };
    expect(await post(`/instances/${id}/wake`, { planHash })).toMatchObject({
      status: 409,
      body: { code: 'plan_changed' },
    });
    await listOffers(server, [{ priceMicroUsdPerHour: 400_000n }, { priceMicroUsdPerHour: 300_000n }]);
    const again = await post(`/instances/${id}/wake`, { dryRun: true });
    const woken = await post(`/instances/${id}/wake`, { planHash: again.body.planHash });
    expect(woken).toMatchObject({
      status: 202,
      body: { operation: { kind: 'wake_instance' }, instance: { status: 'waking', phase: 'queued' } },
    });
    expect((await post(`/instances/${id}/wake`)).body.operation.id).toBe(woken.body.operation.id);
    const operation = await server.database.kysely
      .selectFrom('operations')
      .select('input')
      .where('id', '=', woken.body.operation.id)
      .executeTakeFirstOrThrow();
    expect(
      (operation.input as { hold: { maxPriceMicroUsdPerHour: number } }).hold.maxPriceMicroUsdPerHour,
    ).toBeLessThan(600_000);
    // Asked by another key of the org with someone else's plan: not found.
    const other = await server.makeKey('operator');
    expect((await server.call('POST', `/api/v1/instances/${id}/wake`, { key: other.key, body: {} })).status).toBe(404);
  });

  it('is not woken beyond the caps', async () => {
    const { id, attemptId } = await makeReady({ hibernateWhenIdle: {} });
    await putToSleep(id, attemptId);
    await server.database.kysely.updateTable('deployment').set({ max_instances: 1 }).execute();
    expect(await post(`/instances/${id}/wake`)).toMatchObject({ status: 507, body: { code: 'cap_exceeded' } });
    expect((await shown(id)).status).toBe('hibernated');
    await server.database.kysely.updateTable('deployment').set({ max_instances: 20 }).execute();
  });

  it('may be destroyed', async () => {
    const { id, attemptId } = await makeReady({ hibernateWhenIdle: {} });
    await putToSleep(id, attemptId);
    expect((await server.call('DELETE', `/api/v1/instances/${id}`, { key })).status).toBe(202);
    expect(await shown(id)).toMatchObject({ status: 'destroying', hibernation: { status: 'ended' } });
  });
});

describe('when an instance sleeps by itself', () => {
  it.each([
    [{ hibernateWhenIdle: { belowPercent: 0 } }, 'hibernateWhenIdle.belowPercent'],
    [{ hibernateWhenIdle: { for: '10 seconds' } }, 'hibernateWhenIdle.for'],
    [{ hibernateWhenIdle: { after: '1 hour' } }, 'hibernateWhenIdle'],
    [{ hibernateSchedule: { windows: [] } }, 'hibernateSchedule.windows'],
    [
      { hibernateSchedule: { timeZone: 'Mars', windows: [{ from: '20:00', to: '07:00' }] } },
      'hibernateSchedule.timeZone',
    ],
    [{ hibernateSchedule: { windows: [{ from: '8 pm', to: '07:00' }] } }, 'hibernateSchedule.windows.0.from'],
  ])('%j is refused with its place', async (body, path) => {
    const reply = await post('/instances', { ...ORDER, ...body });
    expect(reply.status).toBe(422);
    expect((reply.body.errors as { path: string }[]).map((error) => error.path).join()).toContain(path);
  });

  it('may be changed, and what is left out stays', async () => {
    const { id } = await makeReady({ hibernateWhenIdle: { for: '10 minutes' } });
    const schedule = { timeZone: 'Europe/Stockholm', windows: [{ from: '20:00', to: '07:00' }] };
    const changed = await post(`/instances/${id}/hibernation`, { hibernateSchedule: schedule });
    expect(changed.body).toMatchObject({
      hibernateWhenIdle: { for: '10 minutes' },
      hibernateSchedule: { timeZone: 'Europe/Stockholm', wake: true, evenIfBusy: false },
    });
    const off = await post(`/instances/${id}/hibernation`, { hibernateWhenIdle: null });
    expect(off.body).toMatchObject({ hibernateWhenIdle: null, hibernateSchedule: { wake: true } });
    expect((await post(`/instances/${id}/hibernation`, {})).status).toBe(422);
  });
});
