/** Workspaces of the crash matrix: what lies in them, what is promised of their copies, and instances that have one. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Instance } from '../../api/contract/instances.ts';
import type { Snapshot } from '../../api/contract/snapshots.ts';
import type { CrashScene } from './crash-fleet.ts';

/** Rented, with files; nothing is armed yet. */
export async function rentWithFiles(scene: CrashScene, order: Record<string, unknown>): Promise<Instance> {
  const [id] = await scene.order({ strategy: 'coldstart', ...order });
  const instance = await scene.untilStatus(id as string, 'ready');
  fill(scene.workspaceOf(instance));
  return instance;
}

function fill(root: string): void {
  mkdirSync(join(root, 'empty'), { recursive: true });
  mkdirSync(join(root, 'small'), { recursive: true });
  for (let index = 0; index < 20; index++) writeFileSync(join(root, 'small', `${index}`), 'x'.repeat(index));
  writeFileSync(join(root, 'ünïcode – "quoted" $HOME'), 'ü');
  writeFileSync(join(root, 'run.sh'), '#!/bin/sh\n');
  chmodSync(join(root, 'run.sh'), 0o755);
  utimesSync(join(root, 'run.sh'), 1_700_000_000, 1_700_000_000);
  writeFileSync(join(root, 'model.bin'), Buffer.alloc(300_000, 'weights'));
}

/** Of all paths, kinds, modes, times and contents. */
export function digestOf(root: string): string {
  const hash = createHash('sha256');
  const paths = existsSync(root) ? (readdirSync(root, { recursive: true }) as string[]) : [];
  for (const path of paths.sort()) {
    const stat = statSync(join(root, path));
    hash.update(`${path} ${stat.mode} ${stat.isDirectory() ? '' : Math.floor(stat.mtimeMs)}\n`);
    if (stat.isFile()) hash.update(readFileSync(join(root, path)));
  }
  return hash.digest('hex');
}

export function expectSameFiles({ problems, workspaceOf }: CrashScene, instance: Instance, digest: string): void {
  const root = workspaceOf(instance);
  if (digestOf(root) === digest) return;
  const found = existsSync(root) ? (readdirSync(root, { recursive: true }) as string[]) : [];
  problems.push(`${instance.id} has other files than it had: ${found.length} paths`);
}

export async function listSnapshots(scene: CrashScene, instanceId: string): Promise<Snapshot[]> {
  return (await scene.get<{ items: Snapshot[] }>(`/snapshots?instanceId=${instanceId}&limit=100`)).items;
}

/** One that shows at least what is there now; asked for again where it failed, for a kill may take it along. */
export async function saveFiles(scene: CrashScene, instanceId: string): Promise<Snapshot> {
  for (let tries = 1; ; tries++) {
    const { snapshot } = await scene.ask<{ snapshot: { id: string } }>('POST', `/instances/${instanceId}/snapshots`);
    let seen: Snapshot | undefined;
    await scene.until(async () => {
      seen = await scene.get<Snapshot>(`/snapshots/${snapshot.id}`);
      return seen.status === 'verified' || seen.status === 'failed';
    }, `${snapshot.id} is verified`);
    if (seen?.status === 'verified') return seen;
    if (tries === 3) throw new Error(`no snapshot of ${instanceId} succeeds: ${seen?.failureDetail}`);
  }
}

/** Something of it was verified before that machine stopped. */
export async function expectSavedBefore(scene: CrashScene, machine: Instance, since: number): Promise<void> {
  const stoppedAt = scene.stoppedAt.get(`${machine.provider}/${machine.providerInstanceId}`);
  const saved = (await listSnapshots(scene, machine.id)).filter(
    ({ verifiedAt, createdAt }) =>
      verifiedAt !== null && Date.parse(createdAt) >= since && Date.parse(verifiedAt) <= (stoppedAt ?? 0),
  );
  if (stoppedAt === undefined) scene.problems.push(`the machine of ${machine.id} was never stopped`);
  else if (saved.length === 0)
    scene.problems.push(`${machine.providerInstanceId} was destroyed before its files were safe`);
}

/** As many machines as its way needs, each bought once. */
export function expectBought({ machines, problems }: CrashScene, wanted: number): void {
  const bought = machines().length;
  if (bought !== wanted) problems.push(`${bought} machines were bought where ${wanted} do`);
}
