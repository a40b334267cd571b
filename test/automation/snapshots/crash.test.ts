import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { beginRestore } from '../../../db/accept-snapshot.ts';
import { inTransaction } from '../../../db/database.ts';
import { findSnapshot, latestVerified } from '../../../db/snapshots.ts';
import { until } from '../../support/fleet-database.ts';
import { resticMissing } from '../../support/restic.ts';
import { startSnapshotWorld, type SnapshotNode, type SnapshotWorld } from '../../support/snapshot-world.ts';

let world: SnapshotWorld;
beforeEach(async () => {
  if (resticMissing === null) world = await startSnapshotWorld();
});
afterEach(() => world?.close());

function fill({ workspace }: SnapshotNode): void {
  mkdirSync(join(workspace, 'sub'));
  for (let index = 0; index < 40; index++) writeFileSync(join(workspace, 'sub', `${index}`), randomBytes(50_000));
}

/** Of a process that is gone: its leases lapse. */
async function killWorker(): Promise<void> {
  await world.db
    .updateTable('operations')
    .set({ lease_owner: null, lease_expires_at: null })
    .where('status', '=', 'running')
    .execute();
}

describe.skipIf(resticMissing !== null)('whoever dies on the way', { timeout: 60_000 }, () => {
  it('a worker between taken and verified: the next one reads the same snapshot back, and nothing is taken twice', async () => {
    const { instanceId, node } = await world.makeInstance();
    fill(node);
    let readings = 0;
    let end = (_reason: Error) => {};
    // The first worker reads for ever, as one that is killed there.
    world.beforeRestic = (args) =>
      args.includes('ls') && ++readings === 1 ? new Promise<void>((_, reject) => (end = reject)) : Promise.resolve();
    const first = await world.startWorker();
    const id = await world.begin(instanceId);
    await until(
      async () => (await findSnapshot(world.db, null, id))?.status === 'verifying' && readings === 1,
      'it is read',
      20_000,
    );
    const drained = first.drain();
    await killWorker();
    await world.startWorker();
    expect(await world.settled(id, 30_000)).toMatchObject({ status: 'verified', verified_files: 40n });
    const orders = await world.db.selectFrom('node_orders').selectAll().where('node_id', '=', node.nodeId).execute();
    expect(orders.map(({ kind }) => kind)).toEqual(['take_snapshot']);
    end(new Error('the process is gone'));
    await drained;
  });

  it('an agent in the middle of a snapshot: it is failed, restic with it, and the next one is whole', async () => {
    const { instanceId, node } = await world.makeInstance({ uploadLimitKib: 200 });
    fill(node);
    await world.startWorker();
    const id = await world.begin(instanceId);
    await until(() => existsSync(join(node.directory, 'restic.pid')), 'restic runs', 20_000);
    const { pid } = JSON.parse(readFileSync(join(node.directory, 'restic.pid'), 'utf8')) as { pid: number };
    node.kill();
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    node.start();
    expect(await world.settled(id, 30_000)).toMatchObject({ status: 'failed', failure_code: 'agent_restarted' });
    await until(() => !isAlive(pid), 'the restic of before has ended');
    expect(await latestVerified(world.db, instanceId)).toBeUndefined();
    await world.db.updateTable('workspaces').set({ upload_limit_kib: null }).execute();
    expect(await world.settled(await world.begin(instanceId), 30_000)).toMatchObject({ status: 'verified' });
  });

  it('an agent in the middle of a restore: the new one does it again, and until it replaces them the old files are there', async () => {
    const { instanceId, node } = await world.makeInstance({ downloadLimitKib: 400 });
    fill(node);
    await world.startWorker();
    const snapshot = await world.settled(await world.begin(instanceId), 30_000);
    const other = await world.makeNode(instanceId);
    writeFileSync(join(other.workspace, 'old'), 'old');
    const operationId = await inTransaction(world.db, (tx) =>
      beginRestore(tx, world.server.queue, { snapshotId: snapshot.id, nodeId: other.nodeId }),
    );
    await until(() => existsSync(join(other.directory, 'restic.pid')), 'restic runs', 20_000);
    expect(readFileSync(join(other.workspace, 'old'), 'utf8')).toBe('old');
    other.kill();
    other.start();
    expect(await world.finished(operationId, 40_000)).toMatchObject({ status: 'succeeded' });
    expect(readdirSync(other.workspace)).toEqual(['sub']);
    for (const name of readdirSync(join(node.workspace, 'sub')))
      expect(
        readFileSync(join(other.workspace, 'sub', name)).equals(readFileSync(join(node.workspace, 'sub', name))),
      ).toBe(true);
  });

  it.each(['clear', 'fill'] as const)(
    'an agent while it replaces the files (%s): what is left to do is done',
    async (phase) => {
      const { instanceId, node } = await world.makeInstance();
      writeFileSync(join(node.workspace, 'a'), 'new a');
      writeFileSync(join(node.workspace, 'b'), 'new b');
      await world.startWorker();
      const snapshot = await world.settled(await world.begin(instanceId), 30_000);
      const other = await world.makeNode(instanceId);
      // As the crash left it: in `fill` one file has come already.
      const staging = join(other.workspace, '.muster-restore');
      mkdirSync(staging);
      writeFileSync(join(staging, 'b'), 'new b');
      if (phase === 'clear') {
        writeFileSync(join(staging, 'a'), 'new a');
        writeFileSync(join(other.workspace, 'old'), 'old');
      } else writeFileSync(join(other.workspace, 'a'), 'new a');
      const swap = { snapshotId: snapshot.id, phase, files: 2, bytes: 10 };
      writeFileSync(join(other.workspace, '.muster-swap'), JSON.stringify(swap));
      expect(await world.restore(snapshot.id, other.nodeId)).toMatchObject({ status: 'succeeded' });
      expect(readdirSync(other.workspace).sort()).toEqual(['a', 'b']);
      expect(readFileSync(join(other.workspace, 'b'), 'utf8')).toBe('new b');
    },
  );

  it('nobody: a canceled snapshot stops restic and leaves nothing verified', async () => {
    const { instanceId, node } = await world.makeInstance({ uploadLimitKib: 100 });
    fill(node);
    await world.startWorker();
    const id = await world.begin(instanceId);
    await until(() => existsSync(join(node.directory, 'restic.pid')), 'restic runs', 20_000);
    const { pid } = JSON.parse(readFileSync(join(node.directory, 'restic.pid'), 'utf8')) as { pid: number };
    const { operation_id: operationId } = await world.db
      .selectFrom('snapshots')
      .select('operation_id')
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    expect(
      (await world.server.call('POST', `/api/v1/operations/${operationId}/cancel`, { body: { reason: 'enough' } }))
        .status,
    ).toBeLessThan(300);
    expect(await world.settled(id, 30_000)).toMatchObject({ status: 'failed', failure_code: 'canceled' });
    await until(() => !isAlive(pid), 'restic has ended');
  });
});

/** A process that has ended and was not waited for is still listed, as a zombie. */
function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
