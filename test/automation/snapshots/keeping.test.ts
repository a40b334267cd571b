import { randomBytes } from 'node:crypto';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKeepSnapshotsCron } from '../../../automation/cron/keep-snapshots.ts';
import { createTakeSnapshotsCron } from '../../../automation/cron/take-snapshots.ts';
import { beginDeletion, beginRestore, beginVerification } from '../../../db/accept-snapshot.ts';
import { inTransaction } from '../../../db/database.ts';
import { findSnapshot, latestVerified } from '../../../db/snapshots.ts';
import { findWorkspace } from '../../../db/workspaces.ts';
import { until } from '../../support/fleet-database.ts';
import { resticMissing } from '../../support/restic.ts';
import { startSnapshotWorld, type SnapshotWorld } from '../../support/snapshot-world.ts';

let world: SnapshotWorld;
beforeAll(async () => {
  if (resticMissing !== null) return;
  world = await startSnapshotWorld();
  await world.startWorker();
});
afterAll(() => world?.close());

const NEVER = new AbortController().signal;

function bytesOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

describe.skipIf(resticMissing !== null)('what is kept', { timeout: 60_000 }, () => {
  it('is what the policy says: the data of the others is removed from the store, and the rest is still whole', async () => {
    const { instanceId, node } = await world.makeInstance({ keep: { last: 1, daily: 0, weekly: 0 } });
    const cron = createKeepSnapshotsCron(world.db, world.server.queue, () => new Date());
    writeFileSync(join(node.workspace, 'data'), randomBytes(3_000_000));
    const old = await world.settled(await world.begin(instanceId), 30_000);
    expect(await cron.run(NEVER)).toMatchObject({ deletions: 0 });
    writeFileSync(join(node.workspace, 'data'), randomBytes(1_000_000));
    const recent = await world.settled(await world.begin(instanceId), 30_000);
    expect(bytesOf(join(world.store, instanceId, 'data'))).toBeGreaterThan(4_000_000);
    expect(await cron.run(NEVER)).toMatchObject({ deletions: 1 });
    await until(
      async () => (await findSnapshot(world.db, null, old.id))?.status === 'deleted',
      'it is deleted',
      30_000,
    );
    expect(bytesOf(join(world.store, instanceId, 'data'))).toBeLessThan(1_500_000);
    expect(await cron.run(NEVER)).toMatchObject({ deletions: 0 });
    const workspace = await until(async () => {
      const row = await findWorkspace(world.db, instanceId);
      return row?.pruning_operation_id === null && row;
    }, 'it is done');
    expect(Number(workspace.stored_bytes)).toBeLessThan(1_500_000);
    const other = await world.makeNode(instanceId);
    expect(await world.restore(recent.id, other.nodeId)).toMatchObject({ status: 'succeeded' });
  });

  it('is never the snapshot that a restore reads, and a deletion waits for it', async () => {
    const { instanceId, node } = await world.makeInstance({ downloadLimitKib: 500 });
    writeFileSync(join(node.workspace, 'data'), randomBytes(1_500_000));
    const first = await world.settled(await world.begin(instanceId), 30_000);
    const second = await world.settled(await world.begin(instanceId), 30_000);
    const other = await world.makeNode(instanceId);
    const restore = await inTransaction(world.db, (tx) =>
      beginRestore(tx, world.server.queue, { snapshotId: first.id, nodeId: other.nodeId }),
    );
    const snapshotIds = [first.id];
    expect(
      await inTransaction(world.db, (tx) => beginDeletion(tx, world.server.queue, { instanceId, snapshotIds })),
    ).toBeNull();
    await until(
      async () =>
        (await world.db
          .selectFrom('node_orders')
          .select('id')
          .where('kind', '=', 'restore_snapshot')
          .where('node_id', '=', other.nodeId)
          .executeTakeFirst()) !== undefined,
      'it is ordered',
    );
    const deletion = await inTransaction(world.db, (tx) =>
      beginDeletion(tx, world.server.queue, { instanceId, snapshotIds: [second.id] }),
    );
    const restored = await world.finished(restore, 40_000);
    expect(restored.status).toBe('succeeded');
    const deleted = await world.finished(deletion?.id as string, 40_000);
    expect(deleted.status).toBe('succeeded');
    expect(deleted.finished_at?.getTime()).toBeGreaterThan(restored.finished_at?.getTime() ?? Infinity);
  });
});

describe.skipIf(resticMissing !== null)('reading back and removing', { timeout: 60_000 }, () => {
  it('wait for each other: what is read is never removed under the reader', async () => {
    const { instanceId, node } = await world.makeInstance();
    writeFileSync(join(node.workspace, 'data'), randomBytes(1_000_000));
    const first = await world.settled(await world.begin(instanceId), 30_000);
    writeFileSync(join(node.workspace, 'more'), randomBytes(1_000_000));
    const second = await world.settled(await world.begin(instanceId), 30_000);
    const log: string[] = [];
    let go = () => {};
    world.beforeRestic = (args) => {
      const verb = args.find((arg) => !arg.startsWith('-')) ?? '';
      log.push(verb);
      return verb === 'dump' ? new Promise<void>((resolve) => (go = resolve)) : Promise.resolve();
    };
    const { queue } = world.server;
    const reading = await inTransaction(world.db, (tx) => beginVerification(tx, queue, { snapshotId: second.id }));
    await until(() => log.includes('dump'), 'it is read', 20_000);
    const order = { instanceId, snapshotIds: [first.id] };
    const removing = await inTransaction(world.db, (tx) => beginDeletion(tx, queue, order));
    await until(
      async () => (await findWorkspace(world.db, instanceId))?.pruning_operation_id === removing?.id,
      'the deletion has begun',
      20_000,
    );
    const again = await inTransaction(world.db, (tx) => beginVerification(tx, queue, { snapshotId: second.id }));
    expect(again.id).toBe(reading.id);
    expect(log).not.toContain('prune');
    go();
    expect(await world.finished(reading.id, 30_000)).toMatchObject({ status: 'succeeded' });
    expect(await world.finished(removing?.id as string, 30_000)).toMatchObject({ status: 'succeeded' });
    expect(log.indexOf('prune')).toBeGreaterThan(log.indexOf('dump'));
    world.beforeRestic = () => Promise.resolve();
    expect(await findSnapshot(world.db, null, second.id)).toMatchObject({ status: 'verified' });
  });
});

describe.skipIf(resticMissing !== null)('the schedule', { timeout: 60_000 }, () => {
  it('takes snapshots by itself, one at a time, and tells when its promise is broken and kept again', async () => {
    const { instanceId, node } = await world.makeInstance({ snapshotEveryMs: 60_000 });
    const made = await world.server.call('POST', '/api/v1/webhooks', {
      body: { url: 'http://127.0.0.1:9/', events: ['snapshot.*'] },
    });
    expect(made.status).toBe(201);
    let aheadMs = 0;
    const cron = createTakeSnapshotsCron(world.db, world.server.queue, () => new Date(Date.now() + aheadMs));
    expect(await cron.run(NEVER)).toEqual({ workspaces: 1, begun: 0, behind: 0 }); // its node is not heard of
    await world.db.updateTable('nodes').set({ heartbeat_at: new Date() }).where('id', '=', node.nodeId).execute();
    expect(await cron.run(NEVER)).toMatchObject({ begun: 1 });
    expect(await cron.run(NEVER)).toMatchObject({ begun: 0 });
    await until(async () => latestVerified(world.db, instanceId), 'it is verified', 30_000);
    expect(await cron.run(NEVER)).toEqual({ workspaces: 1, begun: 0, behind: 0 });
    aheadMs = 100_000;
    await world.db
      .updateTable('nodes')
      .set({ heartbeat_at: new Date(0) })
      .where('id', '=', node.nodeId)
      .execute();
    expect(await cron.run(NEVER)).toEqual({ workspaces: 1, begun: 0, behind: 1 });
    expect((await findWorkspace(world.db, instanceId))?.behind_since).not.toBeNull();
    aheadMs = 0;
    expect(await cron.run(NEVER)).toMatchObject({ behind: 0 });
    expect((await findWorkspace(world.db, instanceId))?.behind_since).toBeNull();
    const told = await world.db.selectFrom('webhook_deliveries').select('type').orderBy('seq').execute();
    expect(told.map(({ type }) => type)).toEqual(
      expect.arrayContaining([
        'snapshot.taking',
        'snapshot.taken',
        'snapshot.verifying',
        'snapshot.verified',
        'snapshot.behind',
      ]),
    );
  });
});
