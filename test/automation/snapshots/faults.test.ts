import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, chmodSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { latestVerified } from '../../../db/snapshots.ts';
import { setWriter } from '../../../db/workspaces.ts';
import { inTransaction } from '../../../db/database.ts';
import { beginVerification } from '../../../db/accept-snapshot.ts';
import { resticMissing } from '../../support/restic.ts';
import { startSnapshotWorld, type SnapshotNode, type SnapshotWorld } from '../../support/snapshot-world.ts';

let world: SnapshotWorld;
beforeAll(async () => {
  if (resticMissing !== null) return;
  world = await startSnapshotWorld();
  await world.startWorker();
});
afterAll(() => world?.close());

/** An instance whose repository has data packs, in a fresh workspace. */
async function makeFilled(): Promise<{ instanceId: string; node: SnapshotNode }> {
  const made = await world.makeInstance();
  writeFileSync(join(made.node.workspace, 'data'), randomBytes(2_000_000));
  writeFileSync(join(made.node.workspace, 'small'), 'small');
  return made;
}

/** The pack with the files' content. */
function largestPack(instanceId: string, repository = instanceId): string {
  const folder = join(world.store, repository, 'data');
  const packs = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  return packs.sort((a, b) => statSync(b).size - statSync(a).size)[0] as string;
}

/** Breaks the store after the node has finished, and before it is read back. */
function breakBeforeReading(instanceId: string, damage: (pack: string) => void): void {
  let isDone = false;
  world.beforeRestic = (args) => {
    if (!isDone && args.includes('ls')) {
      isDone = true;
      damage(largestPack(instanceId));
    }
    return Promise.resolve();
  };
}

const DAMAGES: [string, (pack: string) => void][] = [
  ['a pack is deleted', (pack) => rmSync(pack)],
  [
    'a byte is flipped',
    (pack) => {
      const bytes = readFileSync(pack);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
      chmodSync(pack, 0o600);
      writeFileSync(pack, bytes);
    },
  ],
  [
    'a pack is cut in its middle',
    (pack) => {
      chmodSync(pack, 0o600);
      truncateSync(pack, statSync(pack).size >> 1);
    },
  ],
  [
    'a pack is cut at its very end, where only its own directory is',
    (pack) => {
      chmodSync(pack, 0o600);
      truncateSync(pack, statSync(pack).size - 10);
    },
  ],
];

describe.skipIf(resticMissing !== null)('a snapshot whose data is not what it should be', { timeout: 60_000 }, () => {
  it.each(DAMAGES)('is failed and never verified when %s, and the next one is whole again', async (_, damage) => {
    const { instanceId } = await makeFilled();
    breakBeforeReading(instanceId, damage);
    const broken = await world.settled(await world.begin(instanceId), 30_000);
    expect({ status: broken.status, code: broken.failure_code }).toEqual({
      status: 'failed',
      code: 'snapshot_damaged',
    });
    expect(await latestVerified(world.db, instanceId)).toBeUndefined();
    const next = await world.settled(await world.begin(instanceId), 30_000);
    expect({ status: next.status, detail: next.failure_detail, generation: next.generation }).toEqual({
      status: 'verified',
      detail: null,
      generation: 2,
    });
  });

  it('is failed when it is read back again later', async () => {
    const { instanceId } = await makeFilled();
    const snapshot = await world.settled(await world.begin(instanceId), 30_000);
    expect(snapshot.status).toBe('verified');
    rmSync(largestPack(instanceId));
    const operation = await inTransaction(world.db, (tx) =>
      beginVerification(tx, world.server.queue, { snapshotId: snapshot.id }),
    );
    expect(await world.finished(operation.id, 30_000)).toMatchObject({
      status: 'failed',
      error_code: 'snapshot_failed',
    });
    expect(await latestVerified(world.db, instanceId)).toBeUndefined();
  });

  it('is failed when the node reports other files than there are', async () => {
    const { instanceId } = await makeFilled();
    world.beforeRestic = () => Promise.resolve();
    world.alterResult = (result) => ({ ...result, bytes: (result['bytes'] as number) + 1 });
    const snapshot = await world.settled(await world.begin(instanceId), 30_000);
    world.alterResult = (result) => result;
    expect(snapshot).toMatchObject({ status: 'failed', failure_code: 'snapshot_damaged' });
    expect(snapshot.failure_detail).toContain('were reported');
    expect(await latestVerified(world.db, instanceId)).toBeUndefined();
  });

  it('is failed when the node names the snapshot of somebody else', async () => {
    const { instanceId } = await makeFilled();
    world.beforeRestic = () => Promise.resolve();
    const first = await world.settled(await world.begin(instanceId), 30_000);
    world.alterResult = (result) => ({ ...result, resticId: first.restic_id });
    const second = await world.settled(await world.begin(instanceId), 30_000);
    world.alterResult = (result) => result;
    expect(second).toMatchObject({ status: 'failed', failure_code: 'snapshot_damaged' });
    expect((await latestVerified(world.db, instanceId))?.id).toBe(first.id);
  });
});

describe.skipIf(resticMissing !== null)('a machine that is no longer the writer', { timeout: 60_000 }, () => {
  it('adds nothing to the line: its snapshot fails as fenced', async () => {
    const { instanceId } = await makeFilled();
    world.beforeRestic = () => Promise.resolve();
    const first = await world.settled(await world.begin(instanceId), 30_000);
    expect(first.status).toBe('verified');
    const id = await world.begin(instanceId);
    await inTransaction(world.db, (tx) => setWriter(tx, instanceId, null));
    expect(await world.settled(id, 30_000)).toMatchObject({ status: 'failed', failure_code: 'fenced' });
    expect((await latestVerified(world.db, instanceId))?.id).toBe(first.id);
    await expect(world.begin(instanceId)).rejects.toMatchObject({ code: 'conflict' });
  });
});
