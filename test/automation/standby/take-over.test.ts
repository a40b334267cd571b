import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { demoteStandby, promoteStandby, type TakeOver } from '../../../automation/standby/take-over.ts';
import { sampleOf } from '../../../api/contract/node-sample.ts';
import { findEndpoint } from '../../../db/endpoints.ts';
import { recordHeartbeat } from '../../../db/nodes.ts';
import { findStack } from '../../../db/stacks.ts';
import { findWorkspace, setWriter } from '../../../db/workspaces.ts';
import { makeHeartbeat } from '../../support/heartbeat.ts';
import { startStandbyFleet, type MadeStandby, type StandbyFleet } from '../../support/standby-fleet.ts';

let fleet: StandbyFleet;
beforeAll(async () => {
  fleet = await startStandbyFleet();
}, 60_000);
afterAll(() => fleet.stop());

const db = () => fleet.server.database.kysely;
const services = () => ({ queue: fleet.server.queue, now: () => new Date() });

async function promote(made: MadeStandby, operationId?: string): Promise<TakeOver> {
  const order = { standbyId: made.id, operationId: operationId ?? (await fleet.operation(made.instanceId)) };
  return fleet.inTx((tx) => promoteStandby(tx, services(), order));
}

async function demote(made: MadeStandby): Promise<TakeOver> {
  const order = { standbyId: made.id, operationId: await fleet.operation(made.instanceId) };
  return fleet.inTx((tx) => demoteStandby(tx, services(), order));
}

const configOf = async (made: MadeStandby) => (await findStack(db(), null, made.stackId))!.config;
const operationsOf = (made: MadeStandby, kind: 'up_stack' | 'restore_workspace') =>
  db()
    .selectFrom('operations')
    .selectAll()
    .where('kind', '=', kind)
    .where((eb) => eb.or([eb('stack_id', '=', made.stackId), eb('input', '@>', `{"instanceId":"${made.instanceId}"}`)]))
    .orderBy('created_at')
    .execute();

async function inSync(made: MadeStandby): Promise<string> {
  const snapshotId = await fleet.verified(made.instanceId, new Date(Date.now() - 5_000));
  await db()
    .updateTable('standbys')
    .set({ synced_snapshot_id: snapshotId, synced_to: new Date(Date.now() - 5_000) })
    .where('id', '=', made.id)
    .execute();
  return snapshotId;
}

describe('a warm standby that is in sync', () => {
  it('serves at once: it is the writer and the endpoint, and nothing is started or restored', async () => {
    const made = await fleet.make('warm');
    const snapshotId = await inSync(made);
    const done = await promote(made);
    expect(done).toMatchObject({ kind: 'done', snapshotId, host: '10.62.0.2', recoveryPointAt: expect.any(Date) });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'serving', serving_since: expect.any(Date) });
    expect(await findWorkspace(db(), made.instanceId)).toMatchObject({
      writer_standby_id: made.id,
      writer_attempt_id: null,
    });
    expect(await findEndpoint(db(), made.instanceId)).toMatchObject({
      kind: 'standby',
      host: '10.62.0.2',
      ssh_user: 'muster',
    });
    expect(await operationsOf(made, 'up_stack')).toEqual([]);
    expect(await operationsOf(made, 'restore_workspace')).toEqual([]);
  });

  it('asked again says the same and changes nothing; another takeover is refused', async () => {
    const made = await fleet.make('warm');
    await inSync(made);
    const first = await promote(made);
    const epoch = (await findWorkspace(db(), made.instanceId))!.epoch;
    expect(await promote(made)).toEqual(first);
    expect((await findWorkspace(db(), made.instanceId))!.epoch).toBe(epoch);
    expect(await promote(made, 'op_aaaaaaaaaaaaaaaa')).toMatchObject({ kind: 'failed', code: 'conflict' });
  });

  it('goes to rest without an update, and must be restored before it is in sync again', async () => {
    const made = await fleet.make('warm');
    await inSync(made);
    await promote(made);
    await fleet.inTx((tx) => setWriter(tx, made.instanceId, { attemptId: made.attemptId }));
    expect(await demote(made)).toMatchObject({ kind: 'done' });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'warm', synced_snapshot_id: null, promotion: null });
    expect(await operationsOf(made, 'up_stack')).toEqual([]);
    expect(await demote(made)).toMatchObject({ kind: 'done' });
  });
});

describe("the dead man's switch of a standby", () => {
  const obeys = async (made: MadeStandby) => {
    const keyHash = Buffer.from(made.id.padEnd(32, 'x').slice(0, 32));
    await db().updateTable('nodes').set({ key_hash: keyHash }).where('standby_id', '=', made.id).execute();
    const body = makeHeartbeat();
    const sent = { ...body, keyHash, sample: sampleOf(body), freshKeyHash: Buffer.alloc(32), rotateAfterMs: 1e9 };
    return (await recordHeartbeat(fleet.server.database, sent))?.obeysDeadMan;
  };

  it('holds while it takes over, serves and goes to rest, and neither before nor after', async () => {
    const made = await fleet.make('warm');
    await inSync(made);
    const found: Record<string, unknown> = {};
    for (const status of ['warm', 'stopped', 'promoting', 'serving', 'demoting', 'warm'] as const) {
      await db().updateTable('standbys').set({ status }).where('id', '=', made.id).execute();
      found[status] = await obeys(made);
    }
    expect(found).toEqual({ warm: false, stopped: false, promoting: true, serving: true, demoting: true });
  });

  it('leaves a warm one that is off: it is started when it goes to rest', async () => {
    const made = await fleet.make('warm');
    await inSync(made);
    await promote(made);
    await fleet.hear(made.id, 3_600_000);
    expect(await demote(made)).toMatchObject({ kind: 'wait', phase: 'stopping' });
    const [update, ...more] = await operationsOf(made, 'up_stack');
    expect(more).toEqual([]);
    expect(update?.input).toMatchObject({ refreshFirst: true });
    await fleet.end(update!.id, 'succeeded');
    expect(await demote(made)).toMatchObject({ kind: 'done' });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'warm' });
  });
});

describe('a standby whose disk is behind', () => {
  it('is restored to the newest verified snapshot first, and serves that', async () => {
    const made = await fleet.make('warm');
    await inSync(made);
    const newest = await fleet.verified(made.instanceId, new Date(Date.now() - 1_000));
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'restoring' });
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'restoring' });
    const [restore, ...more] = await operationsOf(made, 'restore_workspace');
    expect(more).toEqual([]);
    expect(await fleet.find(made.id)).toMatchObject({ status: 'promoting', synced_snapshot_id: null });
    await fleet.end(restore!.id, 'succeeded');
    expect(await promote(made)).toMatchObject({ kind: 'done', snapshotId: newest });
    expect(await fleet.find(made.id)).toMatchObject({ synced_snapshot_id: newest });
  });

  it('tries a failed restore again, and gives up after three, at rest', async () => {
    const made = await fleet.make('warm');
    await fleet.verified(made.instanceId, new Date());
    for (let tries = 1; tries <= 3; tries++) {
      expect(await promote(made)).toMatchObject({ kind: 'wait' });
      const restores = await operationsOf(made, 'restore_workspace');
      expect(restores).toHaveLength(tries);
      await fleet.end(restores.at(-1)!.id, 'failed', 'disk full');
    }
    expect(await promote(made)).toMatchObject({
      kind: 'failed',
      code: 'restore_failed',
      detail: expect.stringContaining('disk full'),
    });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'warm', failure_code: 'restore_failed' });
    expect(await findWorkspace(db(), made.instanceId)).toMatchObject({ writer_attempt_id: made.attemptId });
  });

  it('serves nothing where no snapshot was ever verified', async () => {
    const made = await fleet.make('warm');
    expect(await promote(made)).toMatchObject({ kind: 'failed', code: 'snapshot_failed' });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'warm' });
  });
});

describe('a stopped standby', () => {
  const zones = { fallbackZone: 'europe-west4-b', maxRunHours: 168 };

  it('is started by one up of its stack, waits for its agent, is restored, and is stopped again afterwards', async () => {
    const made = await fleet.make('stopped', zones);
    const snapshotId = await fleet.verified(made.instanceId, new Date());
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'starting' });
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'starting' });
    const [up, ...more] = await operationsOf(made, 'up_stack');
    expect(more).toEqual([]);
    expect(up!.input).toMatchObject({ refreshFirst: true });
    expect(await configOf(made)).toMatchObject({ state: 'warm', runIn: 'zone', maxRunHours: 168 });
    await fleet.end(up!.id, 'succeeded');
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'registering' });
    await fleet.hear(made.id);
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'restoring' });
    await fleet.end((await operationsOf(made, 'restore_workspace'))[0]!.id, 'succeeded');
    expect(await promote(made)).toMatchObject({ kind: 'done', snapshotId });
    expect(await demote(made)).toMatchObject({ kind: 'wait', phase: 'stopping' });
    expect(await configOf(made)).toMatchObject({ state: 'stopped' });
    const ups = await operationsOf(made, 'up_stack');
    await fleet.end(ups.at(-1)!.id, 'succeeded');
    expect(await demote(made)).toMatchObject({ kind: 'done' });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'stopped' });
  });

  it('runs in the other zone where the first has no room, and stays there at rest', async () => {
    const made = await fleet.make('stopped', zones);
    await fleet.verified(made.instanceId, new Date());
    await promote(made);
    const [first] = await operationsOf(made, 'up_stack');
    await fleet.end(first!.id, 'failed', "Error: ZONE_RESOURCE_POOL_EXHAUSTED: The zone 'a' has no room");
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'starting' });
    expect(await configOf(made)).toMatchObject({ state: 'warm', runIn: 'fallback_zone' });
    const second = (await operationsOf(made, 'up_stack')).at(-1)!;
    expect(second.id).not.toBe(first!.id);
    await fleet.end(second.id, 'succeeded');
    await fleet.hear(made.id);
    await promote(made);
    await fleet.end((await operationsOf(made, 'restore_workspace'))[0]!.id, 'succeeded');
    expect(await promote(made)).toMatchObject({ kind: 'done' });
    await demote(made);
    expect(await configOf(made)).toMatchObject({ state: 'stopped', runIn: 'fallback_zone' });
  });

  it('that finds room nowhere has failed, and its declared state comes back by itself', async () => {
    const made = await fleet.make('stopped', zones);
    await fleet.verified(made.instanceId, new Date());
    await promote(made);
    for (const _ of ['zone', 'fallback_zone']) {
      const last = (await operationsOf(made, 'up_stack')).at(-1)!;
      await fleet.end(last.id, 'failed', 'ZONE_RESOURCE_POOL_EXHAUSTED');
      await promote(made);
    }
    expect(await fleet.find(made.id)).toMatchObject({ status: 'demoting', failure_code: 'no_capacity' });
    expect(await demote(made)).toMatchObject({ kind: 'wait', phase: 'stopping' });
    await fleet.end((await operationsOf(made, 'up_stack')).at(-1)!.id, 'succeeded');
    expect(await demote(made)).toMatchObject({ kind: 'done' });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'stopped' });
  });

  it('whose agent was heard of only before its start is not there yet', async () => {
    const made = await fleet.make('stopped', zones);
    await fleet.hear(made.id, 3_000);
    await fleet.verified(made.instanceId, new Date());
    await promote(made);
    await fleet.end((await operationsOf(made, 'up_stack'))[0]!.id, 'succeeded');
    expect(await promote(made)).toMatchObject({ kind: 'wait', phase: 'registering' });
  });

  it('goes on for another once whoever began has ended', async () => {
    const made = await fleet.make('stopped', zones);
    await fleet.verified(made.instanceId, new Date());
    await promote(made);
    expect(await promote(made, 'op_aaaaaaaaaaaaaaaa')).toMatchObject({ kind: 'failed', code: 'conflict' });
    await fleet.end(await fleet.operation(made.instanceId), 'failed', 'died');
    expect(await promote(made, 'op_aaaaaaaaaaaaaaaa')).toMatchObject({ kind: 'wait', phase: 'starting' });
    expect(await operationsOf(made, 'up_stack')).toHaveLength(1);
  });
});

describe('two that promote at the same moment', () => {
  it('make one takeover', async () => {
    const made = await fleet.make('stopped');
    await fleet.verified(made.instanceId, new Date());
    await Promise.all([promote(made), promote(made), promote(made)]);
    expect(await operationsOf(made, 'up_stack')).toHaveLength(1);
  });
});
