import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { createNameEndpointsCron } from '../../automation/cron/name-endpoints.ts';
import { setEndpoint } from '../../db/endpoints.ts';
import { findStack } from '../../db/stacks.ts';
import { startStandbyFleet, type MadeStandby, type StandbyFleet } from '../support/standby-fleet.ts';

let fleet: StandbyFleet;
beforeAll(async () => {
  fleet = await startStandbyFleet();
}, 60_000);
afterAll(() => fleet.stop());

const db = () => fleet.server.database.kysely;
const pathOf = ({ instanceId }: MadeStandby) => `/api/v1/instances/${instanceId}/endpoint/name`;
const NAME = { zoneId: 'Z0123456789ABCDEFGHIJ', hostname: 'train.example.com' };
const give = (made: MadeStandby, change: object = {}) =>
  fleet.server.call('POST', pathOf(made), { body: { ...NAME, ...change } });
const show = async (made: MadeStandby) => (await fleet.server.call('GET', pathOf(made))).body;
const tick = () =>
  createNameEndpointsCron({ db: db(), queue: fleet.server.queue, log: pino({ level: 'silent' }) }).run(
    new AbortController().signal,
  );
const point = (made: MadeStandby, host: string, port: number) =>
  fleet.inTx((tx) => setEndpoint(tx, made.instanceId, { kind: 'instance', host, port, user: 'root', nodeId: null }));
const lastUp = async (stackId: string) =>
  (await db()
    .selectFrom('operations')
    .selectAll()
    .where('stack_id', '=', stackId)
    .orderBy('created_at', 'desc')
    .executeTakeFirst())!;

describe('the name of an endpoint', () => {
  it('is a stack that leads to where the workload is, and follows it', async () => {
    const made = await fleet.make('stopped');
    await point(made, '203.0.113.7', 22_001);
    const given = await give(made);
    expect(given).toMatchObject({ status: 202, body: { operation: { kind: 'up_stack' }, name: { isCurrent: false } } });
    const { stackId } = given.body.name;
    expect((await findStack(db(), null, stackId))!.config).toMatchObject({
      ...NAME,
      ttl: 60,
      address: '203.0.113.7',
      port: 22_001,
    });
    await fleet.end(given.body.operation.id, 'succeeded');
    expect(await show(made)).toMatchObject({ isCurrent: true, failure: null });
    expect(await tick()).toMatchObject({ stale: 0 });

    await point(made, 'ssh4.vast.ai', 22_002);
    expect(await show(made)).toMatchObject({ isCurrent: false, host: 'ssh4.vast.ai' });
    expect(await tick()).toMatchObject({ updated: 1 });
    expect(await tick()).toMatchObject({ updated: 0 });
    expect((await findStack(db(), null, stackId))!.config).toMatchObject({ address: 'ssh4.vast.ai', port: 22_002 });
    await fleet.end((await lastUp(stackId)).id, 'succeeded');

    await fleet.inTx((tx) => setEndpoint(tx, made.instanceId, { kind: 'none' }));
    await tick();
    expect((await findStack(db(), null, stackId))!.config).toMatchObject({ address: null, port: null });
    await fleet.end((await lastUp(stackId)).id, 'succeeded');
    expect(await show(made)).toMatchObject({ isCurrent: true, host: null });
  });

  it('whose update failed says why, and is tried again a minute later', async () => {
    const made = await fleet.make('stopped');
    await point(made, '203.0.113.8', 1);
    const given = await give(made, { hostname: 'other.example.com' });
    await fleet.end(given.body.operation.id, 'failed', 'AccessDenied');
    expect(await show(made)).toMatchObject({ isCurrent: false, failure: 'AccessDenied' });
    expect(await tick()).toMatchObject({ updated: 0 });
    await db()
      .updateTable('operations')
      .set({ finished_at: new Date(Date.now() - 61_000) })
      .where('id', '=', given.body.operation.id)
      .execute();
    expect(await tick()).toMatchObject({ updated: 1 });
  });

  it('is one for an instance, of a zone that can be, and of nobody else', async () => {
    const made = await fleet.make('stopped');
    const wrong = await give(made, { zoneId: 'example.com', hostname: 'train' });
    expect(wrong).toMatchObject({ status: 422 });
    expect(wrong.body.errors.map((one: { path: string }) => one.path)).toEqual(['zoneId', 'hostname']);
    expect((await give(made)).status).toBe(202);
    expect((await give(made)).status).toBe(409);
    const other = await fleet.server.makeKey('operator');
    expect((await fleet.server.call('GET', pathOf(made), { key: other.key })).status).toBe(404);
    expect((await fleet.server.call('POST', pathOf(made), { key: other.key, body: NAME })).status).toBe(404);
  });

  it('goes with its stack', async () => {
    const made = await fleet.make('stopped');
    const given = await give(made, { hostname: 'gone.example.com' });
    await fleet.end(given.body.operation.id, 'succeeded');
    expect(await fleet.server.call('DELETE', pathOf(made))).toMatchObject({
      status: 202,
      body: { operation: { kind: 'destroy_stack' } },
    });
    expect((await fleet.server.call('GET', pathOf(made))).status).toBe(404);
    expect(await tick()).toMatchObject({ stale: expect.any(Number) });
  });
});
