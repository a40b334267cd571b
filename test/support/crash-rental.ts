/** The scenarios of the crash matrix in which machines are rented and given back: cold, by a race, from a pool. */
import type { Instance } from '../../api/contract/instances.ts';
import { wantedOf, type CrashCell } from './crash-cells.ts';
import type { CrashScene } from './crash-fleet.ts';

export async function rentAndDestroy(scene: CrashScene): Promise<void> {
  const { cell, problems } = scene;
  const poolId = cell.scenario === 'serverless' ? await warmUp(scene) : null;
  if (scene.isKilledAt('warm_given_up')) await loseWarm(scene);
  scene.arm();
  const ids = await scene.order({ count: cell.count, strategy: cell.scenario });
  const read = () => Promise.all(ids.map((id) => scene.instance(id)));
  await scene.until(
    async () => (await read()).every(({ status }) => status === 'ready' || status === 'destroyed'),
    'ready',
  );
  await scene.until(async () => (await read()).every((one) => one.attempts.every(isSettled)), 'losers gone');
  for (const one of await read()) {
    if (one.status !== 'ready') problems.push(`${one.id} was not rented: ${one.failureCode} ${one.failureDetail}`);
  }
  if (poolId !== null) await untilWarm(scene, poolId);
  let kept: Instance[] = [];
  await scene.until(async () => {
    kept = await scene.listInstances();
    return kept.every(({ status }) => status === 'ready');
  }, 'nothing is on its way');
  expectRecordedOnce(scene, kept);
  for (const id of ids) await scene.ask('DELETE', `/instances/${id}`);
  if (poolId !== null) await scene.ask('DELETE', `/pools/${poolId}`);
  await untilNothingIsLeft(scene);
}

/** Every machine that lives is the machine of one instance. */
export function expectRecordedOnce({ alive, problems }: CrashScene, kept: Instance[]): void {
  const ready = kept.flatMap(({ attempts }) => attempts.filter(({ status }) => status === 'ready'));
  for (const { id, label } of alive()) {
    const recorded = ready.filter(({ providerInstanceId }) => providerInstanceId === String(id)).length;
    if (recorded !== 1) problems.push(`machine ${id} (${label}) is alive and recorded ${recorded} times`);
  }
}

export function untilNothingIsLeft(scene: CrashScene): Promise<void> {
  return scene.until(async () => (await scene.listInstances()).length === 0, 'everything is destroyed');
}

/** A pool with one warm instance; returns its id. */
async function warmUp(scene: CrashScene): Promise<string> {
  const { id } = await scene.ask<{ id: string }>('POST', '/pools', {
    name: `pool-${scene.cell.seed}-${Math.random().toString(36).slice(2, 8)}`,
    ...wantedOf(scene.cell),
    targetSize: 1,
    maxSize: 5,
  });
  await untilWarm(scene, id);
  return id;
}

function untilWarm(scene: CrashScene, poolId: string): Promise<void> {
  return scene.until(async () => {
    const { counts } = await scene.get<{ counts: { ready: number } }>(`/pools/${poolId}`);
    return counts.ready === 1;
  }, 'the pool is warm');
}

/** Its machine dies, and nobody has noticed yet. */
async function loseWarm({ sandbox, cell, alive }: CrashScene): Promise<void> {
  for (const { id } of alive()) await loseMachine(sandbox, cell, id);
}

export async function loseMachine(
  sandbox: CrashScene['sandbox'],
  { provider }: CrashCell,
  instanceId: string | number,
): Promise<void> {
  await sandbox.addFault({
    provider,
    endpoint: 'machine',
    kind: 'host_loss',
    match: { instanceId: String(instanceId) },
  });
}

function isSettled({ status }: { status: string }): boolean {
  return status === 'ready' || status === 'gone';
}
