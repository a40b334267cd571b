/** The scenarios of the crash matrix in which the work goes on elsewhere: on another machine at once, and on a standby first. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EndpointReply, FailoverReply } from '../../api/contract/failovers.ts';
import type { Instance } from '../../api/contract/instances.ts';
import type { StandbyReply } from '../../api/contract/standbys.ts';
import type { CrashScene } from './crash-fleet.ts';
import { expectRecordedOnce, loseMachine, untilNothingIsLeft } from './crash-rental.ts';
import {
  digestOf,
  expectBought,
  expectSameFiles,
  expectSavedBefore,
  rentWithFiles,
  saveFiles,
} from './crash-workspace.ts';

const POLICY = { rpo: '7 days', cooldown: '0 seconds', maxPerDay: 100 };
const MAX_TRIES = 4;

/** Of a machine that dies, or (by the seed) one that lives and is left on request: then what it wrote last comes along. */
export async function failOverAndDestroy(scene: CrashScene): Promise<void> {
  const isAsked = scene.cell.seed % 2 === 0;
  const before = await rentWithFiles(scene, { failover: { ...POLICY, mode: 'replace' } });
  const root = scene.workspaceOf(before);
  const since = Date.now();
  await saveFiles(scene, before.id);
  if (isAsked) writeFileSync(join(root, 'late'), 'written after the last copy that it made by itself');
  const digest = digestOf(root);
  scene.arm();
  if (isAsked) await scene.ask('POST', `/instances/${before.id}/failover`, { reason: 'a test' });
  else await loseMachine(scene.sandbox, scene.cell, before.providerInstanceId as string);
  await untilFailedOver(scene, before.id);
  const after = await scene.untilStatus(before.id, 'ready');
  await expectMoved(scene, before, after, digest);
  await expectSavedBefore(scene, before, since);
  expectBought(scene, 2);
  await scene.ask('DELETE', `/instances/${before.id}`);
  await untilNothingIsLeft(scene);
}

export async function standInAndDestroy(scene: CrashScene): Promise<void> {
  const policy = { ...POLICY, mode: 'standby', failback: 'manual' };
  const before = await rentWithFiles(scene, { failover: policy });
  scene.arm();
  const id = await makeStandby(scene, before.id);
  const standby = () => scene.get<StandbyReply>(`/standby/${id}`);
  const since = Date.parse((await saveFiles(scene, before.id)).createdAt);
  await scene.until(async () => (await standby()).synced.snapshotId !== null, 'the standby is in sync');
  if (scene.cell.seed % 2 === 0) await scene.ask('POST', `/instances/${before.id}/failover`, { reason: 'a test' });
  else await loseMachine(scene.sandbox, scene.cell, before.providerInstanceId as string);
  await scene.until(async () => (await standby()).status === 'serving', 'the standby serves');
  expectOneStandby(scene);
  const root = standbyWorkspace(scene);
  writeFileSync(join(root, 'work of the standby'), 'done while it served');
  const digest = digestOf(root);
  await scene.ask('POST', '/standby/failback', { standbyId: id });
  await untilFailedOver(scene, before.id);
  const after = await scene.untilStatus(before.id, 'ready');
  await expectMoved(scene, before, after, digest);
  await expectSavedBefore(scene, before, since);
  expectBought(scene, 2);
  await scene.until(async () => (await standby()).status === 'warm', 'the standby is at rest');
  expectOneStandby(scene);
  await scene.ask('DELETE', `/standby/${id}`);
  await scene.until(async () => (await standby()).status === 'destroyed', 'the standby is gone');
  const left = scene.sandbox.clouds?.resources() ?? [];
  if (left.length > 0) scene.problems.push(`left at the cloud: ${left.map(({ type }) => type).join(', ')}`);
  await scene.ask('DELETE', `/instances/${before.id}`);
  await untilNothingIsLeft(scene);
}

/** Begun again where it failed and said why. */
async function untilFailedOver(scene: CrashScene, instanceId: string): Promise<void> {
  for (let tries = 1; tries <= MAX_TRIES; tries++) {
    let episodes: FailoverReply[] = [];
    await scene.until(async () => {
      const path = `/standby/failovers?instanceId=${instanceId}`;
      episodes = (await scene.get<{ items: FailoverReply[] }>(path)).items;
      return episodes.length > 0 && episodes.every(({ finishedAt }) => finishedAt !== null);
    }, 'it has failed over');
    if (episodes.length > tries) scene.problems.push(`${episodes.length} failovers were begun where ${tries} do`);
    const [last] = episodes.toSorted((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt));
    if (last?.phase === 'complete') return;
    if (!last?.failure) scene.problems.push(`a failover is ${last?.phase} and does not say why`);
    await scene.ask('POST', `/instances/${instanceId}/failover`, { reason: 'again' });
  }
  throw new Error(`${instanceId} does not fail over`);
}

async function expectMoved(scene: CrashScene, before: Instance, after: Instance, digest: string): Promise<void> {
  const { problems } = scene;
  if (after.providerInstanceId === before.providerInstanceId)
    problems.push(`${after.id} is on the machine that it lost`);
  expectSameFiles(scene, after, digest);
  await scene.until(async () => {
    const { attempts } = await scene.instance(after.id);
    return attempts.every(({ status }) => status === 'ready' || status === 'gone');
  }, 'the lost machine is gone');
  expectRecordedOnce(scene, [await scene.instance(after.id)]);
  let endpoint: EndpointReply | undefined;
  await scene.until(async () => {
    endpoint = await scene.get<EndpointReply>(`/instances/${after.id}/endpoint`);
    return true;
  }, 'its endpoint');
  if (endpoint?.kind !== 'instance' || endpoint.port !== after.ssh?.port)
    problems.push(`the endpoint of ${after.id} is ${JSON.stringify(endpoint)}`);
}

/** Warm. Its stack is updated again where a kill made the first update fail. */
async function makeStandby(scene: CrashScene, instanceId: string): Promise<string> {
  const config = { project: 'a-project', zone: 'europe-west4-a', fallbackZone: 'europe-west4-b' };
  const { standby } = await scene.ask<{ standby: StandbyReply }>('POST', '/standby', {
    instanceId,
    name: `stand-${scene.cell.seed}-${Math.random().toString(36).slice(2, 8)}`,
    state: 'warm',
    rpo: '7 days',
    config,
  });
  for (let tries = 1; tries <= MAX_TRIES; tries++) {
    let seen: StandbyReply | undefined;
    await scene.until(async () => {
      seen = await scene.get<StandbyReply>(`/standby/${standby.id}`);
      return seen.status === 'warm' || seen.status === 'failed';
    }, 'the standby is made');
    if (seen?.status === 'warm') return standby.id;
    await scene.ask('POST', `/stacks/${standby.stackId}/up`);
  }
  throw new Error(`${standby.id} cannot be made`);
}

function expectOneStandby({ sandbox, problems }: CrashScene): void {
  const machines = sandbox.clouds?.resources('Instance') ?? [];
  if (machines.length !== 1) problems.push(`the cloud has ${machines.length} machines for one standby`);
}

function standbyWorkspace(scene: CrashScene): string {
  const [seat] = scene.sandbox.agents().filter(({ provider }) => provider === 'gcp');
  return join(seat?.home ?? 'none', 'workspace');
}
