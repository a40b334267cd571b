import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { identityAt } from '../../../secrets/sealed-place.ts';
import { resticMissing } from '../../support/restic.ts';
import { startSnapshotWorld, type SnapshotWorld } from '../../support/snapshot-world.ts';

let world: SnapshotWorld;
beforeAll(async () => {
  if (resticMissing !== null) return;
  world = await startSnapshotWorld();
  await world.startWorker();
});
afterAll(() => world?.close());

/** Everything that a restore must bring back: kind, mode, owner, times, targets and content of each. */
export function describeTree(folder: string): string {
  return execFileSync(
    'bash',
    [
      '-c',
      `cd "$1" && find . -mindepth 1 -printf '%p|%y|%m|%U|%G|%T@|%l|%s|' \\( -type f -exec sha256sum {} \\; -o -printf '\\n' \\) | sed 's/|4096|$/|/' | sort`,
      'bash',
      folder,
    ],
    { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  );
}

function fill(folder: string): void {
  mkdirSync(join(folder, 'empty folder'));
  mkdirSync(join(folder, 'deep', 'er', 'Ünïcödé 文件 📦'), { recursive: true });
  writeFileSync(join(folder, 'deep', 'er', 'Ünïcödé 文件 📦', 'naïve\nname'), 'x');
  writeFileSync(join(folder, '-dash'), 'a name that looks like an option');
  writeFileSync(join(folder, 'script.sh'), '#!/bin/sh\n');
  chmodSync(join(folder, 'script.sh'), 0o4755);
  writeFileSync(join(folder, 'secret'), 'mine');
  chmodSync(join(folder, 'secret'), 0o600);
  writeFileSync(join(folder, 'empty'), '');
  symlinkSync('script.sh', join(folder, 'link'));
  symlinkSync('/nowhere/at/all', join(folder, 'dangling'));
  writeFileSync(join(folder, 'sparse'), 'begin');
  truncateSync(join(folder, 'sparse'), 3_000_000);
  writeFileSync(join(folder, 'large'), Buffer.alloc(5_000_000, 'muster'));
  for (let index = 0; index < 300; index++) writeFileSync(join(folder, 'deep', `small-${index}`), `${index}`);
  utimesSync(join(folder, 'secret'), 1_000_000_000, 1_000_000_000.123);
  chmodSync(join(folder, 'empty folder'), 0o711);
}

describe.skipIf(resticMissing !== null)('a workspace that is taken and restored', { timeout: 60_000 }, () => {
  it('is the same byte for byte on another node, and what was there before is gone', async () => {
    const { instanceId, node } = await world.makeInstance();
    fill(node.workspace);
    const before = describeTree(node.workspace);
    const snapshot = await world.take(instanceId);
    expect({ status: snapshot.status, detail: snapshot.failure_detail }).toEqual({ status: 'verified', detail: null });
    expect(snapshot.verified_files).toBe(307n);
    expect(snapshot.verified_bytes).toBe(snapshot.source_bytes);

    const other = await world.makeNode(instanceId);
    writeFileSync(join(other.workspace, 'left over'), 'from before');
    const restored = await world.restore(snapshot.id, other.nodeId);
    expect({ status: restored.status, note: restored.note }).toEqual({
      status: 'succeeded',
      note: 'every file is there',
    });
    expect(describeTree(other.workspace)).toBe(before);
  });

  it('adds only what is new the next time', async () => {
    const { instanceId, node } = await world.makeInstance();
    writeFileSync(
      join(node.workspace, 'large'),
      Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => (at * 7919) % 251)),
    );
    const first = await world.take(instanceId);
    writeFileSync(join(node.workspace, 'small'), 'new');
    const second = await world.take(instanceId);
    expect([first.status, second.status]).toEqual(['verified', 'verified']);
    expect(Number(second.added_bytes)).toBeLessThan(20_000);
    expect(second.data_at?.getTime()).toBeGreaterThan(first.data_at?.getTime() ?? Infinity);
  });

  it('may be empty', async () => {
    const { instanceId } = await world.makeInstance();
    const snapshot = await world.take(instanceId);
    expect({ status: snapshot.status, detail: snapshot.failure_detail }).toEqual({ status: 'verified', detail: null });
    const other = await world.makeNode(instanceId);
    writeFileSync(join(other.workspace, 'left over'), 'from before');
    expect(await world.restore(snapshot.id, other.nodeId)).toMatchObject({ status: 'succeeded' });
    expect(readdirSync(other.workspace)).toEqual([]);
  });

  it('keeps its secrets out of arguments, rows and logs', async () => {
    const { instanceId, node } = await world.makeInstance();
    const args: string[] = [];
    world.beforeRestic = async (given) => void args.push(given.join(' '));
    const snapshot = await world.take(instanceId);
    expect(snapshot.status).toBe('verified');
    const orders = await world.db.selectFrom('node_orders').selectAll().where('node_id', '=', node.nodeId).execute();
    const workspace = await world.db
      .selectFrom('workspaces')
      .selectAll()
      .where('instance_id', '=', instanceId)
      .executeTakeFirstOrThrow();
    const password = world.server.deps.envelope.open(
      workspace.password_sealed as string,
      identityAt('workspaces.password_sealed', instanceId),
    );
    const seen = [...args, JSON.stringify(orders), ...world.server.log, ...filesOf(node.directory)].join('\n');
    expect(seen).not.toContain(password);
    expect(seen).not.toMatch(/mw_[A-Za-z0-9_-]{20}/);
    expect(orders.every((order) => order.secrets_sealed === null)).toBe(true);
  });
});

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
}
