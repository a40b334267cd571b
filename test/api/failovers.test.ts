/** Failovers over the API: policies, what a person begins, episodes and endpoints. What an episode does is its operation's. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setInstanceStatus } from '../../db/instances.ts';
import { startStandbyFleet, type StandbyFleet } from '../support/standby-fleet.ts';

let fleet: StandbyFleet;
beforeAll(async () => {
  fleet = await startStandbyFleet();
});
afterAll(() => fleet?.stop());

const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  fleet.server.call(method, `/api/v1${path}`, { headers, ...(body === undefined ? {} : { body }) });
const POLICY = {
  mode: 'standby',
  rpoMs: 60_000,
  maxPriceMicroUsdPerHour: 800_000,
  budgetMicroUsdPerDay: 2_000_000,
  cooldownMs: 600_000,
  maxPerDay: 4,
  failback: 'manual',
};

describe('a failover policy', () => {
  it('is set and shown, and gives the instance a workspace that is saved as often as it promises', async () => {
    const { instanceId } = await fleet.make('warm');
    expect((await call('GET', `/instances/${instanceId}/failover-policy`)).status).toBe(404);
    const body = {
      mode: 'standby',
      rpo: '1 minute',
      maxPriceUsdPerHour: '0.80',
      budgetUsdPerDay: '2',
      failback: 'manual',
    };
    expect(await call('POST', `/instances/${instanceId}/failover-policy`, body)).toMatchObject({
      status: 200,
      body: { instanceId, ...POLICY },
    });
    expect((await call('GET', `/instances/${instanceId}/failover-policy`)).body).toEqual({ instanceId, ...POLICY });
    const workspace = await fleet.server.database.kysely
      .selectFrom('workspaces')
      .select('snapshot_every_ms')
      .where('instance_id', '=', instanceId)
      .executeTakeFirst();
    expect(workspace).toEqual({ snapshot_every_ms: 60_000n });
  });

  it.each([
    ['mode', { mode: 'always' }],
    ['rpo', { mode: 'replace', rpo: '1 second' }],
    ['maxPriceUsdPerHour', { mode: 'replace', maxPriceUsdPerHour: '0' }],
    ['maxPerDay', { mode: 'replace', maxPerDay: -1 }],
    ['failback', { mode: 'replace', failback: 'never' }],
  ])('with a wrong %s is refused by its name', async (field, body) => {
    const { instanceId } = await fleet.make('stopped');
    const refused = await call('POST', `/instances/${instanceId}/failover-policy`, body);
    expect(refused).toMatchObject({ status: 422, body: { errors: [{ path: field }] } });
  });

  it('may come with the instance', async () => {
    const order = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60', failover: { mode: 'replace', rpo: '2 minutes' } };
    await fleet.server.database.kysely.updateTable('instances').set({ status: 'destroyed' }).execute();
    const accepted = await call('POST', '/instances', order);
    expect(accepted.status).toBe(202);
    const { id } = accepted.body.instances[0];
    expect((await call('GET', `/instances/${id}/failover-policy`)).body).toMatchObject({
      mode: 'replace',
      rpoMs: 120_000,
    });
  });
});

describe('a failover by hand', () => {
  it('is one episode, however often it is asked for, and says what it rests upon', async () => {
    const { instanceId, attemptId, nodeId } = await fleet.make('warm');
    const body = { reason: 'the host is noisy' };
    expect(await call('POST', `/instances/${instanceId}/failover`, body)).toMatchObject({
      status: 409,
      body: {
        code: 'conflict',
        detail: expect.stringContaining('no snapshot of its workspace was verified') as string,
      },
    });
    await fleet.verified(instanceId, new Date(Date.now() - 30_000));
    const actions = async () => (await call('GET', `/instances/${instanceId}`)).body.allowedActions;
    expect(await actions()).toEqual(['destroy', 'ssh', 'extend', 'hibernate', 'failover']);
    const accepted = await call('POST', `/instances/${instanceId}/failover`, body);
    expect(await actions()).toEqual(['destroy', 'ssh', 'extend']);
    expect(accepted).toMatchObject({
      status: 202,
      body: {
        operation: { kind: 'fail_over', status: 'queued' },
        failover: {
          instanceId,
          cause: 'requested',
          mode: 'replace',
          phase: 'detected',
          reasons: ['the host is noisy'],
          lost: { attemptId, nodeId },
          phases: [{ phase: 'detected', durationMs: null }],
        },
      },
    });
    const { id } = accepted.body.failover;
    const again = await call('POST', `/instances/${instanceId}/failover`, body, { 'idempotency-key': 'another' });
    expect(again).toMatchObject({ status: 202, body: { failover: { id } } });
    expect((await call('GET', `/standby/failovers/${id}`)).body).toMatchObject({
      id,
      costMicroUsd: 0,
      isWithinRpo: null,
    });
    expect(
      (await call('GET', `/standby/failovers?instanceId=${instanceId}&phase=detected,fencing`)).body.items,
    ).toHaveLength(1);
    expect((await call('GET', `/standby/failovers?instanceId=${instanceId}&phase=complete`)).body.items).toEqual([]);
  });

  it('to a standby needs one at rest; a failback one that serves', async () => {
    const { id: standbyId, instanceId } = await fleet.make('warm');
    await fleet.verified(instanceId, new Date());
    expect(await call('POST', '/standby/failback', { standbyId })).toMatchObject({ status: 409 });
    const accepted = await call('POST', '/standby/failover', { standbyId, reason: 'a rehearsal' });
    expect(accepted).toMatchObject({ status: 202, body: { failover: { mode: 'standby', standbyId } } });
    const asked = await call('POST', '/standby/failback', { standbyId });
    expect(asked).toMatchObject({ status: 202, body: { failover: { id: accepted.body.failover.id } } });
    expect(asked.body.failover.failbackRequestedAt).not.toBeNull();
  });

  it("of another org's instance, standby or episode is not there", async () => {
    const { id: standbyId, instanceId } = await fleet.make('warm');
    await fleet.verified(instanceId, new Date());
    const { failover } = (await call('POST', `/instances/${instanceId}/failover`, { reason: 'a reason' })).body;
    const { key } = await fleet.server.makeKey('operator');
    const foreign = (method: string, path: string, body?: unknown) =>
      fleet.server.call(method, `/api/v1${path}`, { key, ...(body === undefined ? {} : { body }) });
    for (const [method, path, body] of [
      ['GET', `/instances/${instanceId}/endpoint`],
      ['POST', `/instances/${instanceId}/failover`, { reason: 'a reason' }],
      ['POST', `/instances/${instanceId}/failover-policy`, { mode: 'off' }],
      ['POST', '/standby/failover', { standbyId, reason: 'a reason' }],
      ['POST', '/standby/failback', { standbyId }],
      ['GET', `/standby/failovers/${failover.id}`],
    ] as const) {
      expect((await foreign(method, path, body)).status, `${method} ${path}`).toBe(404);
    }
    expect((await foreign('GET', '/standby/failovers')).body.items).toEqual([]);
  });
});

describe('an endpoint', () => {
  it('is nowhere at first, follows its instance and its address, and rises with each change', async () => {
    const { instanceId, attemptId } = await fleet.make('warm');
    const db = fleet.server.database.kysely;
    const shown = async () => (await call('GET', `/instances/${instanceId}/endpoint`)).body;
    expect(await shown()).toMatchObject({ kind: 'none', host: null, version: 0, changedAt: null });
    await setInstanceStatus(db, instanceId, 'ready');
    expect(await shown()).toMatchObject({ kind: 'instance', host: '127.0.0.1', port: 1, user: 'root', version: 1 });
    await setInstanceStatus(db, instanceId, 'ready');
    expect((await shown()).version).toBe(1);
    await db.updateTable('attempts').set({ ssh_port: 2222 }).where('id', '=', attemptId).execute();
    expect(await shown()).toMatchObject({ port: 2222, version: 2 });
    await setInstanceStatus(db, instanceId, 'creating', { winnerAttemptId: null });
    expect(await shown()).toMatchObject({ kind: 'none', host: null, port: null, version: 3 });
  });
});
