/**
 * Stacks of cloud resources through the stack runner and its child pool, killed with SIGKILL (the operation child and its engine) while
 * simulated clouds are making and deleting, and resumed by the next update. What the clouds then have is held against the state.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { z } from 'zod';
import { createChildPool } from '../../automation/engine/child-pool.ts';
import {
  createStackRunner,
  type StackRunner,
  type UpdateHooks,
  type UpdateOutcome,
  type UpdateRequest,
} from '../../automation/engine/stack-runner.ts';
import type { StateBackend } from '../../automation/engine/state-backend.ts';
import type { StackKind } from '../../domain/stack-kind.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { locateEngine } from '../../engine/locate.ts';
import { startSimulatedClouds, type CloudResourceReport, type SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import { STACK_CONFIG_SCHEMAS } from '../../stacks/schemas.ts';
import { openStateHome } from './state-home.ts';
import { createSeededRandom, type SeededRandom } from './seeded-random.ts';

export const CRASH_KINDS = ['eks', 'aks', 'standby', 'snapshots'] as const;
export type CrashKind = (typeof CRASH_KINDS)[number];

export interface CrashReport {
  /** Empty: 0 left, 0 doubled. */
  problems: string[];
  /** Updates that a kill ended. */
  kills: number;
  /** Pending creates met after them: found at the clouds, and not. */
  found: number;
  absent: number;
}

export interface CloudCrashLab {
  readonly clouds: SimulatedClouds;
  readonly runner: StackRunner;
  readonly backend: StateBackend;
  request(stackName: string, kind: StackKind, config: object, more?: { protect?: boolean }): UpdateRequest;
  /** Ups with kills until one ends, then destroys with kills until one ends. */
  run(kind: CrashKind, seed: number): Promise<CrashReport>;
  close(): Promise<void>;
}

export interface CloudCrashLabOptions {
  envelope?: Envelope;
  wrapEngine?: (path: string, folder: string) => Promise<string>;
  idleGraceMs?: number;
}

const NAME = 'train';
const TAGS = { owner: 'platform', deployment: 'sandbox', costCentre: 'cc-1' };
/** An update that does not end well by then never will. */
const MAX_TRIES = 12;
const MAX_KILLS = 2;
/** About as many as a stack of the kind has. */
const RESOURCES: Record<CrashKind, number> = { eks: 50, aks: 14, standby: 10, snapshots: 12 };
/** What a change makes anew. */
const CHANGED = 2;
const CREATE_MS = 60;

export const QUIET_HOOKS: UpdateHooks = {
  answer: (question) => Promise.reject(new Error(`no machine is bought here: ${question}`)),
  onResources: () => {},
  onProgress: () => {},
  resolvePending: ({ name }) => Promise.reject(new Error(`${name} is of no cloud`)),
};
export const NEVER = { cancel: new AbortController().signal, kill: new AbortController().signal };

/**
 * Throws Error when there is no engine.
 * @param databaseUrl of a migrated database; whoever gives it drops it after the close
 * @param envelope of whoever works on the database too
 * @param wrapEngine given the engine's path, returns that of what is to be run in its place
 */
export async function openCloudCrashLab(
  databaseUrl: string,
  { envelope, wrapEngine, idleGraceMs }: CloudCrashLabOptions = {},
): Promise<CloudCrashLab> {
  const engine = await locateEngine({ env: process.env }, []);
  if (!engine) throw new Error('no engine');
  const folder = await mkdtemp(join(tmpdir(), 'muster-cloud-crash-'));
  const clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
  const pool = createChildPool({
    size: 1,
    scratchDir: join(folder, 'children'),
    settings: {
      enginePath: wrapEngine ? await wrapEngine(engine.path, folder) : engine.path,
      engineVersion: engine.version,
      projectRoot: process.cwd(),
      parallel: 16,
      cloudPorts: clouds.ports,
      cloudEnvironment: {},
      providers: {},
    },
    ...(idleGraceMs === undefined ? {} : { idleGraceMs }),
    onChildError: () => {}, // a killed one; one that cannot start ends its update with the reason
  });
  const tally = { found: 0, absent: 0 };
  const home = await openStateHome(databaseUrl, envelope);
  const backend = withTally(home.backend, tally);
  const runner = createStackRunner(pool, backend, 0);
  const request: CloudCrashLab['request'] = (stackName, kind, config, more) => ({
    stackName,
    program: { kind, args: programArgs(kind, config, more) },
    mayExist: [],
    deploymentSshPublicKeys: [],
  });
  return {
    clouds,
    runner,
    backend,
    request,
    run: (kind, seed) => runSeed({ clouds, runner, tally }, request, kind, seed),
    async close() {
      await pool.close();
      clouds.close();
      await home.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function programArgs(kind: StackKind, config: object, more: { protect?: boolean } = {}): unknown {
  const schema: z.ZodType = STACK_CONFIG_SCHEMAS[kind];
  return { config: schema.parse(config), name: NAME, tags: TAGS, protect: false, ...more };
}

interface Tally {
  found: number;
  absent: number;
}

interface Parts extends Pick<CloudCrashLab, 'clouds' | 'runner'> {
  tally: Tally;
}

function withTally(backend: StateBackend, tally: Tally): StateBackend {
  return {
    ...backend,
    async resolvePendingCreates(stackName, found) {
      const { pendingCreates = [] } = (await backend.readState(stackName)) ?? {};
      const count = pendingCreates.filter(({ urn }) => found[urn]).length;
      tally.found += count;
      tally.absent += pendingCreates.length - count;
      await backend.resolvePendingCreates(stackName, found);
    },
  };
}

async function runSeed(
  parts: Parts,
  request: CloudCrashLab['request'],
  kind: CrashKind,
  seed: number,
): Promise<CrashReport> {
  const { clouds, runner, tally } = parts;
  Object.assign(tally, { found: 0, absent: 0 });
  const random = createSeededRandom(seed);
  const stackName = `${kind}-${seed}`;
  const config = drawConfig(kind, random);
  let wanted = request(stackName, kind, config);
  const report: CrashReport = { problems: [], kills: 0, found: 0, absent: 0 };
  clouds.fault({ kind: 'slow', operation: 'create', delayMs: CREATE_MS, probability: 0.7 });
  clouds.fault({ kind: 'slow', operation: 'delete', delayMs: CREATE_MS, probability: 0.5 });
  try {
    const isAbandoned = random.chance(0.25);
    const up = await untilDone(parts, kind, wanted, 'up', random, report, isAbandoned ? 1 : MAX_TRIES);
    if (up?.isOk) {
      report.problems.push(...compare(clouds, up));
      if (random.chance(0.5)) {
        wanted = request(stackName, kind, changeConfig(kind, config));
        const changed = await untilDone(parts, kind, wanted, 'up', random, report, MAX_TRIES, CHANGED);
        report.problems.push(...(changed ? compare(clouds, changed) : ['no up of the change ended well']));
      }
      const again = await runner.up(wanted, QUIET_HOOKS, NEVER);
      const changed = Object.keys(again.changes).filter((op) => op !== 'same');
      if (!again.isOk || changed.length > 0)
        report.problems.push(`the next up was not quiet: ${changed.join(', ')} ${again.error?.detail ?? ''}`);
    } else if (!isAbandoned) report.problems.push('no up ended well');
    const gone = await untilDone(parts, kind, wanted, 'destroy', random, report, MAX_TRIES);
    if (!gone?.isOk) report.problems.push('no destroy ended well');
    if (gone && gone.state?.resources.length !== 0) report.problems.push('the state still has resources');
    report.problems.push(...clouds.resources().map((left) => `left: ${describe(left)}`));
  } finally {
    clouds.clearFaults();
    for (const { type, id } of clouds.resources()) clouds.drift({ type, name: id, isDeleted: true });
  }
  return { ...report, ...tally };
}

/** The last outcome that there was; null: none came before the tries were used up. */
async function untilDone(
  { clouds, runner }: Parts,
  kind: CrashKind,
  wanted: UpdateRequest,
  update: 'up' | 'destroy',
  random: SeededRandom,
  report: CrashReport,
  tries: number,
  resources = RESOURCES[kind],
): Promise<UpdateOutcome | null> {
  const said: string[] = [];
  let kills = 0;
  for (let attempt = 0; attempt < tries; attempt++) {
    const kill = new AbortController();
    const stop =
      kills < MAX_KILLS && random.chance(0.9)
        ? killAfter(clouds, update, random.below(resources), random.below(CREATE_MS), kill)
        : () => {};
    try {
      const outcome = await runner[update](wanted, QUIET_HOOKS, { ...NEVER, kill: kill.signal });
      if (outcome.isOk) return outcome;
      if (kill.signal.aborted) report.kills++;
      if (kill.signal.aborted) kills++;
      else said.push(outcome.error?.detail ?? '');
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      if (kill.signal.aborted) kills++;
      else said.push(error.message);
      if (error.kind === 'invalid') break;
    } finally {
      stop();
    }
  }
  if (tries > 1) report.problems.push(...said.slice(-2));
  return null;
}

/** Kills when so many creates or deletes have been asked for, and a little later: inside of them, mostly. @returns ends the watch */
function killAfter(
  clouds: SimulatedClouds,
  update: 'up' | 'destroy',
  calls: number,
  lateMs: number,
  kill: AbortController,
): () => void {
  const word = update === 'up' ? ' create ' : ' delete ';
  const asked = (): number =>
    Object.entries(clouds.state().calls).reduce((sum, [call, times]) => (call.includes(word) ? sum + times : sum), 0);
  const limit = asked() + 1 + calls;
  let late: NodeJS.Timeout | undefined;
  const watch = setInterval(() => {
    if (asked() >= limit) late ??= setTimeout(() => kill.abort(), lateMs);
  }, 3);
  return () => {
    clearInterval(watch);
    clearTimeout(late);
  };
}

/** The same ids at the clouds as in the state, each once. */
export function compare(clouds: SimulatedClouds, { state }: UpdateOutcome): string[] {
  const there = clouds.resources().map(describe).sort();
  const known = (state?.resources ?? []).map(describe).sort();
  return [
    ...there.filter((one) => !known.includes(one)).map((one) => `not in the state: ${one}`),
    ...known.filter((one) => !there.includes(one)).map((one) => `not at the cloud: ${one}`),
    ...known.filter((one, index) => known.indexOf(one) !== index).map((one) => `twice in the state: ${one}`),
    ...(state?.pendingCreates ?? []).map(({ name }) => `still pending: ${name}`),
  ];
}

function describe({ type, id }: Pick<CloudResourceReport, 'type'> & { id: string | null }): string {
  return `${type} ${id}`;
}

/** Options differ from seed to seed, so that every type of the components is met. */
function drawConfig(kind: CrashKind, random: SeededRandom): object {
  const gpuOperator = random.chance(0.5) ? { gpuOperator: {} } : {};
  switch (kind) {
    case 'eks':
      return {
        region: 'eu-west-1',
        nat: random.pick(['single', 'per_zone', 'none']),
        oidcProvider: random.chance(0.5),
        admins: random.chance(0.5) ? ['arn:aws:iam::123456789012:role/admins'] : [],
        gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 4, desiredSize: 1 }],
        nodeAgent: {
          image: 'muster/agent:1',
          controlPlaneUrl: 'https://muster.example',
          enrolmentToken: 'a-token-that-stays-secret',
        },
        ...gpuOperator,
      };
    case 'aks':
      return {
        location: 'swedencentral',
        gpuNodePools: [{ vmSize: 'Standard_NC24ads_A100_v4', maxCount: 2, count: 1 }],
        workloadIdentities: [{ name: 'loader', namespace: 'data', serviceAccount: 'loader' }],
        ...gpuOperator,
      };
    case 'standby':
      return {
        project: 'a-project',
        zone: 'europe-west4-a',
        state: 'warm',
        snapshotBucket: 'snaps',
        ...(random.chance(0.5) ? { fallbackZone: 'europe-west4-b' } : {}),
      };
    case 'snapshots':
      return {
        buckets: [
          { name: 'main', region: 'eu-west-1', user: random.chance(0.6) },
          { name: 'copy', store: 'r2', region: 'auto', accountId: 'a'.repeat(32), profile: 'cloudflare' },
        ],
      };
  }
}

/** What makes resources anew: before the old ones go, or after. */
function changeConfig(kind: CrashKind, config: object): object {
  switch (kind) {
    case 'eks':
      return { ...config, gpuNodeGroups: [{ instanceType: 'g4dn.xlarge', maxSize: 3 }] };
    case 'aks':
      return { ...config, gpuNodePools: [{ vmSize: 'Standard_NC48ads_A100_v4', maxCount: 1 }] };
    case 'standby':
      return 'fallbackZone' in config
        ? { ...config, runIn: 'fallback_zone' }
        : { ...config, image: 'debian-cloud/debian-12' };
    case 'snapshots':
      return { buckets: [{ name: 'moved', region: 'eu-west-1', user: true }] };
  }
}
