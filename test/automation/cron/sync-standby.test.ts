import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { createSyncStandbyCron } from '../../../automation/cron/sync-standby.ts';
import { setWriter } from '../../../db/workspaces.ts';
import { startStandbyFleet, type MadeStandby, type StandbyFleet } from '../../support/standby-fleet.ts';

let fleet: StandbyFleet;
let webhookId: string;
beforeAll(async () => {
  fleet = await startStandbyFleet();
  const hook = await fleet.server.call('POST', '/api/v1/webhooks', {
    body: { url: 'http://127.0.0.1:1/', events: ['standby.behind', 'standby.caught_up'] },
  });
  webhookId = hook.body.id;
}, 60_000);
afterAll(() => fleet.stop());

const db = () => fleet.server.database.kysely;

/** One tick, with the standbys of before out of the way. */
async function tick(made: MadeStandby, aheadMs = 0) {
  await db().updateTable('standbys').set({ removed_at: new Date() }).where('id', '<>', made.id).execute();
  const now = () => new Date(Date.now() + aheadMs);
  const cron = createSyncStandbyCron({ db: db(), queue: fleet.server.queue, now, log: pino({ level: 'silent' }) });
  return cron.run(new AbortController().signal);
}

const snapshotsOf = (made: MadeStandby) =>
  db().selectFrom('snapshots').selectAll().where('instance_id', '=', made.instanceId).orderBy('created_at').execute();
const restoresOf = (made: MadeStandby) =>
  db()
    .selectFrom('operations')
    .selectAll()
    .where('kind', '=', 'restore_workspace')
    .where('input', '@>', `{"instanceId":"${made.instanceId}"}`)
    .orderBy('created_at')
    .execute();
const findingsOf = (made: MadeStandby) =>
  db().selectFrom('findings').selectAll().where('provider_instance_id', '=', made.id).execute();
const deliveriesOf = (made: MadeStandby) =>
  db()
    .selectFrom('webhook_deliveries')
    .select('type')
    .where('webhook_id', '=', webhookId)
    .where('object_id', '=', made.id)
    .orderBy('seq')
    .execute();

describe('keeping a standby in sync', () => {
  it('takes a snapshot of the machine that writes, one at a time, and none while the last is young', async () => {
    const made = await fleet.make('stopped');
    expect(await tick(made)).toMatchObject({ checked: 1, snapshots: 1 });
    expect(await tick(made)).toMatchObject({ snapshots: 0 });
    const [taking] = await snapshotsOf(made);
    expect(taking).toMatchObject({ cause: 'standby', status: 'taking', node_id: made.nodeId });
    await db()
      .updateTable('snapshots')
      .set({ status: 'verified', data_at: new Date() })
      .where('id', '=', taking!.id)
      .execute();
    expect(await tick(made)).toMatchObject({ snapshots: 0, restores: 0 });
    await db()
      .updateTable('nodes')
      .set({ heartbeat_at: new Date(Date.now() + 40_000) })
      .where('id', '=', made.nodeId)
      .execute();
    expect(await tick(made, 40_000)).toMatchObject({ snapshots: 1 });
  });

  it('by two at the same moment begins one', async () => {
    const made = await fleet.make('stopped');
    await Promise.all([tick(made), tick(made)]);
    expect(await snapshotsOf(made)).toHaveLength(1);
  });

  it('restores a warm one to each new snapshot, and records what is on its disk only when it is', async () => {
    const made = await fleet.make('warm');
    const dataAt = new Date(Date.now() - 2_000);
    const first = await fleet.verified(made.instanceId, dataAt);
    expect(await tick(made)).toMatchObject({ restores: 1 });
    expect(await tick(made)).toMatchObject({ restores: 0 });
    expect(await fleet.find(made.id)).toMatchObject({ synced_snapshot_id: null, sync_snapshot_id: first });
    await fleet.end((await restoresOf(made))[0]!.id, 'succeeded');
    expect(await tick(made)).toMatchObject({ restores: 0 });
    expect(await fleet.find(made.id)).toMatchObject({
      synced_snapshot_id: first,
      sync_operation_id: null,
      synced_to: dataAt,
    });
    const second = await fleet.verified(made.instanceId, new Date());
    expect(await tick(made)).toMatchObject({ restores: 1 });
    expect(await fleet.find(made.id)).toMatchObject({ synced_snapshot_id: null, sync_snapshot_id: second });
  });

  it('says that a restore failed, and tries it again later', async () => {
    const made = await fleet.make('warm');
    await fleet.verified(made.instanceId, new Date());
    await tick(made);
    await fleet.end((await restoresOf(made))[0]!.id, 'failed', 'disk full');
    expect(await tick(made)).toMatchObject({ restores: 0 });
    expect(await fleet.find(made.id)).toMatchObject({ sync_failure: 'disk full', synced_snapshot_id: null });
    await fleet.hear(made.id, -40_000);
    expect(await tick(made, 40_000)).toMatchObject({ restores: 1 });
  });

  it('asks nothing of a machine that is silent', async () => {
    const made = await fleet.make('warm');
    await fleet.hear(made.id, 60_000);
    await fleet.verified(made.instanceId, new Date());
    expect(await tick(made)).toMatchObject({ restores: 0 });
  });
});

describe('a standby that is behind its RPO', () => {
  it('says so once with the reason, by finding, webhook and page, and says when it caught up', async () => {
    const made = await fleet.make('stopped');
    await fleet.verified(made.instanceId, new Date(Date.now() - 90_000));
    await db()
      .updateTable('nodes')
      .set({ heartbeat_at: new Date(Date.now() - 45_000) })
      .where('id', '=', made.nodeId)
      .execute();
    expect(await tick(made)).toMatchObject({ behind: 1, snapshots: 0 });
    expect(await tick(made)).toMatchObject({ behind: 0 });
    const shown = await fleet.server.call('GET', `/api/v1/standby/${made.id}`);
    expect(shown.body.lag).toMatchObject({
      isBehind: true,
      reason: expect.stringMatching(/90 s old, 60 s declared; .*not heard of for 45 s/),
    });
    expect(await findingsOf(made)).toMatchObject([
      { class: 'standby_behind', status: 'open', instance_id: made.instanceId },
    ]);
    await fleet.verified(made.instanceId, new Date());
    expect(await tick(made)).toMatchObject({ caughtUp: 1 });
    expect(await tick(made)).toMatchObject({ caughtUp: 0 });
    expect(await findingsOf(made)).toMatchObject([{ status: 'resolved' }]);
    expect((await deliveriesOf(made)).map(({ type }) => type)).toEqual(['standby.behind', 'standby.caught_up']);
  });

  it('is not, while nobody writes: what there is cannot grow old', async () => {
    const made = await fleet.make('stopped');
    await fleet.verified(made.instanceId, new Date(Date.now() - 600_000));
    await fleet.inTx((tx) => setWriter(tx, made.instanceId, null));
    expect(await tick(made)).toMatchObject({ behind: 0, snapshots: 0 });
    expect((await fleet.find(made.id)).behind_since).toBeNull();
  });

  it('is, where its instance is destroyed: it costs for nothing', async () => {
    const made = await fleet.make('stopped');
    await db().updateTable('instances').set({ status: 'destroyed' }).where('id', '=', made.instanceId).execute();
    expect(await tick(made)).toMatchObject({ behind: 1 });
    expect((await fleet.find(made.id)).behind_reason).toContain('destroy the standby too');
  });
});

describe('a takeover that was left alone', () => {
  it('is brought to rest once its operation has ended, and not before', async () => {
    const made = await fleet.make('warm');
    const operationId = await fleet.operation(made.instanceId);
    const promotion = {
      operationId,
      begunAt: new Date().toISOString(),
      zonesWithoutRoom: [],
      failedRestores: 0,
      failedUpdates: 0,
    };
    await db()
      .updateTable('standbys')
      .set({ status: 'promoting', promotion: JSON.stringify(promotion) })
      .where('id', '=', made.id)
      .execute();
    expect(await tick(made)).toMatchObject({ demoted: 0 });
    await fleet.end(operationId, 'failed', 'gave up');
    expect(await tick(made)).toMatchObject({ demoted: 1 });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'warm', promotion: null });
  });
});

describe('a warm standby that is off', () => {
  it('is looked at and started by an update of its stack, once in a while', async () => {
    const made = await fleet.make('warm');
    const updates = () =>
      db()
        .selectFrom('operations')
        .selectAll()
        .where('stack_id', '=', made.stackId)
        .where('kind', '=', 'up_stack')
        .execute();
    const nodeId = (await fleet.find(made.id)).node_id as string;
    await fleet.hear(made.id, 300_000);
    const since = new Date(Date.now() - 60_000);
    const watch = { node_id: nodeId, verdict: 'dead', since, is_silent: true, heard_at: since } as const;
    await db().insertInto('node_watches').values(watch).execute();
    expect(await tick(made)).toMatchObject({ revived: 0 });
    await db()
      .updateTable('node_watches')
      .set({ since: new Date(Date.now() - 300_000) })
      .where('node_id', '=', nodeId)
      .execute();
    expect(await tick(made)).toMatchObject({ revived: 1 });
    await tick(made);
    const [update, ...more] = await updates();
    expect(update).toMatchObject({ status: 'queued', input: { refreshFirst: true } });
    expect(more).toEqual([]);
    await fleet.end(update!.id, 'succeeded');
    expect(await tick(made)).toMatchObject({ demoted: 1 });
    expect(await fleet.find(made.id)).toMatchObject({ status: 'warm', promotion: null });
    // It boots: it is not asked again before it had time to.
    expect(await tick(made)).toMatchObject({ revived: 0 });
    expect(await tick(made, 700_000)).toMatchObject({ revived: 1 });
  });
});
