/** The scenarios of the crash matrix in which files are copied: snapshots on a machine that stays, and an instance that sleeps and wakes. */
import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Instance } from '../../api/contract/instances.ts';
import type { CrashScene } from './crash-fleet.ts';
import { expectRecordedOnce, untilNothingIsLeft } from './crash-rental.ts';
import {
  digestOf,
  expectBought,
  expectSameFiles,
  expectSavedBefore,
  listSnapshots,
  rentWithFiles,
  saveFiles,
} from './crash-workspace.ts';

/** Each try that failed told why; more than that is no honest failure any more. */
const MAX_TRIES = 4;

export async function copyAndDestroy(scene: CrashScene): Promise<void> {
  const instance = await rentWithFiles(scene, { workspace: {} });
  const root = scene.workspaceOf(instance);
  scene.arm();
  const first = await saveFiles(scene, instance.id);
  writeFileSync(join(root, 'later'), 'written after the first copy');
  const digest = digestOf(root);
  const second = await saveFiles(scene, instance.id);
  await scene.ask('DELETE', `/snapshots/${first.id}`);
  await scene.until(async () => {
    const kept = await listSnapshots(scene, instance.id);
    return kept.every(({ id, status }) => id !== first.id || status === 'deleted');
  }, 'the first copy is deleted');
  writeFileSync(join(root, 'later'), 'spoilt');
  await untilSucceeded(scene, 'restore', () =>
    scene.ask('POST', `/instances/${instance.id}/restore`, { snapshotId: second.id }),
  );
  expectSameFiles(scene, instance, digest);
  expectBought(scene, 1);
  await scene.ask('DELETE', `/instances/${instance.id}`);
  await untilNothingIsLeft(scene);
}

export async function sleepAndDestroy(scene: CrashScene): Promise<void> {
  const before = await rentWithFiles(scene, { hibernateWhenIdle: { for: '24 hours' } });
  const { id } = before;
  const digest = digestOf(scene.workspaceOf(before));
  const mustFail = scene.isKilledAt('restore_given_up');
  if (!mustFail) scene.arm();
  const since = Date.now();
  await come(scene, id, 'hibernate', 'hibernated');
  if (scene.alive().length > 0) scene.problems.push(`${id} sleeps and has ${scene.alive().length} machines`);
  await expectSavedBefore(scene, before, since);
  const spoilt = mustFail ? hideCopy(scene, id) : null;
  if (mustFail) scene.arm();
  const awake = await come(scene, id, 'wake', 'ready', ({ attempts }) => {
    if (attempts.some(({ failureCode }) => failureCode === 'restore_failed')) spoilt?.putBack();
  });
  expectSameFiles(scene, awake, digest);
  await scene.until(async () => {
    const { attempts } = await scene.instance(id);
    return attempts.every(({ status }) => status === 'ready' || status === 'gone');
  }, 'what was given up is gone');
  expectRecordedOnce(scene, [await scene.instance(id)]);
  expectBought(scene, mustFail ? 3 : 2);
  await scene.ask('DELETE', `/instances/${id}`);
  await untilNothingIsLeft(scene);
}

/** Asked for until it is there; a try that ended elsewhere must have said why. */
async function come(
  scene: CrashScene,
  id: string,
  verb: 'hibernate' | 'wake',
  wanted: Instance['status'],
  look: (instance: Instance) => void = () => {},
): Promise<Instance> {
  for (let tries = 1; tries <= MAX_TRIES; tries++) {
    const { operation } = await scene.ask<{ operation: { id: string } }>('POST', `/instances/${id}/${verb}`);
    const ended = await untilEnded(scene, operation.id, async () => look(await scene.instance(id)));
    const instance = await readInstance(scene, id);
    if (ended.status === 'succeeded') {
      if (instance.status !== wanted) scene.problems.push(`${verb} succeeded and ${id} is ${instance.status}`);
      return instance;
    }
    if (!ended.error) scene.problems.push(`${verb} of ${id} is ${ended.status} and does not say why`);
  }
  throw new Error(`${id} cannot be brought to ${wanted}`);
}

async function readInstance(scene: CrashScene, id: string): Promise<Instance> {
  let seen: Instance | undefined;
  await scene.until(async () => (seen = await scene.instance(id)) !== undefined, id);
  return seen as Instance;
}

interface Ended {
  status: string;
  error: unknown;
}

async function untilEnded(
  scene: CrashScene,
  operationId: string,
  look: () => Promise<void> = () => Promise.resolve(),
): Promise<Ended> {
  let seen: Ended | undefined;
  await scene.until(async () => {
    await look();
    seen = await scene.get<Ended>(`/operations/${operationId}`);
    return !['queued', 'running'].includes(seen.status);
  }, `operation ${operationId} has ended`);
  return seen as Ended;
}

async function untilSucceeded(
  scene: CrashScene,
  what: string,
  begin: () => Promise<{ operation: { id: string } }>,
): Promise<void> {
  for (let tries = 1; tries <= MAX_TRIES; tries++) {
    const { operation } = await begin();
    const ended = await untilEnded(scene, operation.id);
    if (ended.status === 'succeeded') return;
    if (!ended.error) scene.problems.push(`${what} is ${ended.status} and does not say why`);
  }
  throw new Error(`no ${what} succeeds`);
}

/** As long as it is away from its store no machine can restore it. */
function hideCopy({ dataDir }: CrashScene, instanceId: string): { putBack(): void } {
  const folder = join(dataDir, 'snapshots', instanceId, 'snapshots');
  const names = readdirSync(folder).filter((name) => !name.endsWith('.away'));
  for (const name of names) renameSync(join(folder, name), join(folder, '..', `${name}.away`));
  let isAway = true;
  return {
    putBack() {
      if (!isAway) return;
      isAway = false;
      for (const name of names) renameSync(join(folder, '..', `${name}.away`), join(folder, name));
    },
  };
}
