/**
 * A program whose engine is killed in the middle of its updates. There is no second run to hold it against; what holds is that everything
 * made is in the state or a create that is known to be open, and that the update after it, once these are resolved, makes nothing twice.
 */
import type { FoundResource } from '../../domain/state/adopt.ts';
import type { VersionedDeployment } from '../../domain/state/deployment.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import { compareReplays, forgetStack, readRecorded, readState, runUpdate, type Laboratory } from './laboratory.ts';
import { describeUpdate, type Program, type Update, type Wished } from './program.ts';
import type { SimCloud } from './sim-provider.ts';

export interface KilledReport {
  /** Runs of the engine, those that were killed too. */
  updates: number;
  kills: number;
  /** Creates that were open when it died, and had made something. */
  adopted: number;
  entries: number;
  problems: string[];
}

/** Later updates change less than the first one makes. */
const FEW_CHANGES = 4;

/** @param program a plain one */
export async function runKilled(
  laboratory: Laboratory,
  seed: number,
  program: Program,
  random: SeededRandom,
): Promise<KilledReport> {
  const report: KilledReport = { updates: 0, kills: 0, adopted: 0, entries: 0, problems: [] };
  const stackName = `s${seed}-killed`;
  const { provider, home } = laboratory;
  await home.backend.prepareStack(stackName);
  const cloud = provider.cloud(stackName);
  for (const [index, update] of program.updates.entries()) {
    const kill = {
      change: 1 + random.below(index === 0 ? (program.updates[0]?.resources.length ?? 1) : FEW_CHANGES),
      when: random.pick(['before', 'after'] as const),
      isParallel: random.chance(0.6),
    };
    const wasKilled = await runToKill(laboratory, stackName, update, kill);
    report.updates++;
    if (wasKilled) report.kills++;
    const recorded = await readRecorded(laboratory, stackName);
    report.entries += recorded?.entries.length ?? 0;
    const problems = [
      ...(recorded ? await compareReplays(laboratory, recorded) : []),
      ...findUnknown(cloud, await readState(laboratory, stackName)),
    ];
    if (random.chance(0.3)) {
      // A person's, who does not know: what is open stays open.
      const refresh: Update = { ...update, command: 'refresh', flags: ['--skip-pending-creates'] };
      await runUpdate(laboratory, { stackName, update: refresh, transport: 'journal' });
      report.updates++;
      const refreshed = await readRecorded(laboratory, stackName);
      if (refreshed) problems.push(...(await compareReplays(laboratory, refreshed)));
      problems.push(...findUnknown(cloud, await readState(laboratory, stackName)));
    }
    const found = findPending(cloud, await readState(laboratory, stackName));
    report.adopted += Object.keys(found).length;
    await home.backend.resolvePendingCreates(stackName, found);
    const { code, output } = await runUpdate(laboratory, { stackName, update, transport: 'journal' });
    report.updates++;
    if (code !== 0) problems.push(`the update after it failed: ${output.trim().slice(-1500)}`);
    else problems.push(...findUnwished(cloud, await readState(laboratory, stackName), update.resources));
    const after = await readRecorded(laboratory, stackName);
    if (after) problems.push(...(await compareReplays(laboratory, after)));
    if (problems.length === 0) continue;
    const at = `${kill.when} change ${kill.change}${kill.isParallel ? ', in parallel' : ''}`;
    report.problems = [`update ${index + 1} (${describeUpdate(update)}), killed ${at}:`, ...problems];
    return report;
  }
  await forgetStack(laboratory, stackName);
  return report;
}

/** @returns false: the update ended before */
async function runToKill(
  laboratory: Laboratory,
  stackName: string,
  update: Update,
  kill: { change: number; when: 'before' | 'after'; isParallel: boolean },
): Promise<boolean> {
  const cloud = laboratory.provider.cloud(stackName);
  let changes = 0;
  let killEngine = (): void => {};
  cloud.onChange = (when) => {
    if (when === kill.when && ++changes === kill.change) killEngine();
    // Whoever is dead hears no answer; what its calls were about to do is not done.
    return changes >= kill.change && (when === kill.when || kill.when === 'before')
      ? new Promise(() => {})
      : Promise.resolve();
  };
  try {
    const { code } = await runUpdate(laboratory, {
      stackName,
      update,
      transport: 'journal',
      isParallel: kill.isParallel,
      onStart: (engine) => {
        killEngine = () => engine.kill('SIGKILL');
      },
    });
    return code === null;
  } finally {
    cloud.onChange = null;
  }
}

/** Things at the cloud of which neither a resource nor an open create knows. */
function findUnknown(cloud: SimCloud, { deployment }: VersionedDeployment): string[] {
  const known = new Set((deployment.resources ?? []).map(({ id }) => id));
  const open = new Set(
    (deployment.pending_operations ?? []).filter(({ type }) => type === 'creating').map(({ resource }) => resource.urn),
  );
  return [...cloud.things.values()]
    .filter(({ id, urn }) => !known.has(id) && !open.has(urn))
    .map(({ id }) => `${id} is at the cloud and nowhere else`);
}

/** What the open creates made, as the worker finds it by its label. */
function findPending(cloud: SimCloud, { deployment }: VersionedDeployment): Record<string, FoundResource> {
  const known = new Set((deployment.resources ?? []).map(({ id }) => id));
  const found: Record<string, FoundResource> = {};
  for (const { resource, type } of deployment.pending_operations ?? []) {
    const made = [...cloud.things.values()].find(({ id, urn }) => urn === resource.urn && !known.has(id));
    if (type === 'creating' && made) found[resource.urn] = { id: made.id };
  }
  return found;
}

/** Exactly one of each that is wished, at the cloud and in the state, and nothing beside. */
function findUnwished(cloud: SimCloud, { deployment }: VersionedDeployment, resources: readonly Wished[]): string[] {
  const names = resources.map(({ name }) => name).sort();
  const atCloud = [...cloud.things.values()].map(({ urn }) => nameOf(urn)).sort();
  const inState = (deployment.resources ?? []).filter(({ type }) => type.startsWith('sim:'));
  const ids = inState.map(({ id = '' }) => id).sort();
  return [
    ...(atCloud.length === names.length ? [] : [`wished ${names.join(' ')}, at the cloud ${atCloud.join(' ')}`]),
    ...(ids.join(' ') === [...cloud.things.keys()].sort().join(' ')
      ? []
      : [`in the state ${ids.join(' ')}, at the cloud ${[...cloud.things.keys()].sort().join(' ')}`]),
    ...(deployment.pending_operations?.length ? [`${deployment.pending_operations.length} are still open`] : []),
  ];
}

function nameOf(urn: string): string {
  return urn.split('::').at(-1) ?? urn;
}
