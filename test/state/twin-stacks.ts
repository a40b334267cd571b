/**
 * One program on two stacks that differ in nothing but how the engine tells of its state: by journal entries, which we replay, and by the
 * whole state at each step, which the engine makes by another algorithm of its own.
 */
import { SCHEMA_VERSION_CURRENT, type VersionedDeployment } from '../../domain/state/deployment.ts';
import type { StackCipher } from '../../secrets/stack-key.ts';
import { comparable } from './compare.ts';
import {
  compareReplays,
  findDifferences,
  forgetStack,
  openCipher,
  readRecorded,
  readState,
  runUpdate,
  type Laboratory,
} from './laboratory.ts';
import { describeUpdate, type Drift, type Program } from './program.ts';
import type { SimCloud } from './sim-provider.ts';

export interface TwinReport {
  /** Updates that were held against each other. */
  updates: number;
  /** Of these, how many the engine ended with an error, on both. */
  failed: number;
  entries: number;
  /** The engine wrote a state that it then refuses (it checks whole states only): there is no other to hold ours against. */
  isEndedEarly: boolean;
  /** Empty: all agree. */
  problems: string[];
}

/** Ends at the first update that disagrees: what follows would be its consequence. */
export async function runTwins(laboratory: Laboratory, seed: number, program: Program): Promise<TwinReport> {
  const report: TwinReport = { updates: 0, failed: 0, entries: 0, isEndedEarly: false, problems: [] };
  const names = { journal: `s${seed}-entries`, checkpoints: `s${seed}-points` } as const;
  for (const name of Object.values(names)) await laboratory.home.backend.prepareStack(name);
  for (const [index, update] of program.updates.entries()) {
    const outcomes = [];
    for (const transport of ['journal', 'checkpoints'] as const) {
      const stackName = names[transport];
      for (const drift of update.drift) applyDrift(laboratory.provider.cloud(stackName), drift);
      outcomes.push(await runUpdate(laboratory, { stackName, update, transport }));
    }
    const [one, other] = outcomes;
    const recorded = await readRecorded(laboratory, names.journal);
    if (other && INTEGRITY.test(other.output)) {
      report.isEndedEarly = true;
      report.problems = recorded ? await compareReplays(laboratory, recorded) : [];
      break;
    }
    report.updates++;
    if (one?.code !== 0) report.failed++;
    const states = [];
    for (const stackName of Object.values(names))
      states.push(
        plainState(await readState(laboratory, stackName), stackName, await openCipher(laboratory, stackName)),
      );
    report.entries += recorded?.entries.length ?? 0;
    const problems = [
      ...(one?.code === other?.code ? [] : [`exit codes ${one?.code} | ${other?.code}`]),
      ...findDifferences(states[0], states[1]),
      ...(recorded ? await compareReplays(laboratory, recorded) : []),
    ];
    if (problems.length === 0) continue;
    report.problems = [
      `update ${index + 1} (${describeUpdate(update)}), journaled | with checkpoints:`,
      ...problems,
      ...outcomes.map(({ output }) => output.trim().slice(-1500)),
    ];
    return report;
  }
  for (const name of Object.values(names)) await forgetStack(laboratory, name);
  return report;
}

/**
 * Seen after `destroy --run-program` in which a delete failed: the engine deletes the provider of what is left all the same, and after that panics
 * where it sends whole states, and goes on where it journals.
 */
const INTEGRITY = /failed to verify snapshot|snapshot integrity failure/;

export function applyDrift(cloud: SimCloud, { index, kind }: Drift): void {
  const ids = [...cloud.things.keys()].sort();
  const thing = cloud.things.get(ids[index % Math.max(1, ids.length)] ?? '');
  if (!thing) return;
  if (kind === 'gone') cloud.things.delete(thing.id);
  else cloud.things.set(thing.id, { ...thing, inputs: { ...thing.inputs, size: 77 }, revision: thing.revision + 1 });
}

const SIGNATURE = '4dabf18193072939515e22adb298388d';
const UUID = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g;
/** When it was made and changed, which no two runs share. */
const TIMES = new Set(['created', 'modified']);

/**
 * A state without what legitimately differs between two runs: the stack's name, times, ciphertexts, and ids of providers, which are random.
 * Dependencies of a resource are a set that the engine writes in the order of a map, of which Go makes another each time. The schema's features
 * are told by the engine's replayer, and so by ours, before a refresh drops references to what is gone; the engine's own checkpoint tells them
 * after: the feature of a reference that nobody has any more means nothing, and is gone with the next update.
 */
export function plainState(state: VersionedDeployment, stackName: string, cipher: StackCipher): unknown {
  const text = JSON.stringify(withoutRun(comparable(withUsedFeatures(withSortedSets(state))), cipher)).replaceAll(
    stackName,
    'stack',
  );
  const known = new Map<string, string>();
  const named = text.replaceAll(UUID, (uuid) => {
    const name = known.get(uuid) ?? `uuid-${known.size + 1}`;
    known.set(uuid, name);
    return name;
  });
  return JSON.parse(named) as unknown;
}

function withoutRun(value: unknown, cipher: StackCipher): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutRun(item, cipher));
  if (typeof value !== 'object' || value === null) return value;
  if (SIGNATURE in value && 'ciphertext' in value) {
    const { ciphertext } = value as { ciphertext: string };
    return { secret: cipher.decrypt(Buffer.from(ciphertext, 'base64')).toString('utf8') };
  }
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !TIMES.has(key))
      .map(([key, item]) => [key, withoutRun(item, cipher)]),
  );
}

function withUsedFeatures(state: VersionedDeployment): VersionedDeployment {
  const isUsed = (state.deployment.resources ?? []).some(({ replaceWith }) => (replaceWith?.length ?? 0) > 0);
  const features = (state.features ?? []).filter((feature) => feature !== 'replaceWith' || isUsed);
  return {
    version: features.length > 0 ? state.version : SCHEMA_VERSION_CURRENT,
    features,
    deployment: state.deployment,
  };
}

function withSortedSets(state: VersionedDeployment): VersionedDeployment {
  const resources = state.deployment.resources?.map(({ dependencies, propertyDependencies, ...resource }) => ({
    ...resource,
    dependencies: [...(dependencies ?? [])].sort(),
    propertyDependencies: Object.fromEntries(
      Object.entries(propertyDependencies ?? {}).map(([key, urns]) => [key, [...(urns ?? [])].sort()]),
    ),
  }));
  return { ...state, deployment: { ...state.deployment, ...(resources ? { resources } : {}) } };
}
