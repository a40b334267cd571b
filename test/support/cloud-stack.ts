/** A stack's program on the real engine against simulated clouds, in this process: one update at a time, each told by what changed. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  LocalWorkspace,
  PulumiCommand,
  Stack,
  type EngineEvent,
  type OutputMap,
} from '@pulumi/pulumi/automation/index.js';
import semver from 'semver';
import { ENGINE_ENVIRONMENT } from '../../automation/engine/child/open-stack.ts';
import { locateEngine } from '../../engine/locate.ts';
import { startSimulatedClouds, type SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { loadProgram } from '../../stacks/catalogue.ts';
import type { StackArgs } from '../../stacks/stack-args.ts';

export interface CloudStack {
  clouds: SimulatedClouds;
  /** The program runs with these from the next update on. */
  setArgs(args: StackArgs<unknown>): void;
  preview(): Promise<CloudUpdate>;
  up(): Promise<CloudUpdate>;
  refresh(): Promise<CloudUpdate>;
  destroy(): Promise<CloudUpdate>;
  /** The state as it lies on the disk. */
  readState(): Promise<string>;
  close(): Promise<void>;
}

export interface CloudUpdate {
  /** What was done to how many resources, by operation; without those that stayed as they were. */
  changes: Record<string, number>;
  /** Names of resources that changed, with how: "update train-gpu-1". */
  steps: string[];
  /** Warnings and errors of the engine. */
  complaints: string[];
  ms: number;
}

const NAME = 'test';

/** Throws Error when there is no engine. */
export async function openCloudStack(kind: string, args: StackArgs<unknown>): Promise<CloudStack> {
  Error.stackTraceLimit = 1; // as in the operation child: every call of the SDK captures a stack
  const engine = await locateEngine({ env: process.env }, []);
  if (!engine) throw new Error('no engine');
  const folder = await mkdtemp(join(tmpdir(), 'muster-cloud-'));
  const clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
  const run = await loadProgram(kind);
  let current = args;
  const stack = await openStack(folder, engine, clouds, async () => run(current));
  const doUpdate = (what: 'preview' | 'up' | 'refresh' | 'destroy') => watch((onEvent) => stack[what]({ onEvent }));
  return {
    clouds,
    setArgs(next) {
      current = next;
    },
    preview: () => doUpdate('preview'),
    up: () => doUpdate('up'),
    refresh: () => doUpdate('refresh'),
    destroy: () => doUpdate('destroy'),
    readState: () => readFile(join(folder, 'state', '.pulumi', 'stacks', 'muster', `${NAME}.json`), 'utf8'),
    async close() {
      clouds.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function openStack(
  folder: string,
  engine: { path: string; version: string },
  clouds: SimulatedClouds,
  program: () => Promise<Record<string, unknown>>,
): Promise<Stack> {
  await mkdir(join(folder, 'state'));
  await mkdir(join(folder, 'work'));
  const Command = PulumiCommand as unknown as new (path: string, version: semver.SemVer | null) => PulumiCommand;
  const workspace = await LocalWorkspace.create({
    workDir: join(folder, 'work'),
    program,
    pulumiCommand: new Command(engine.path, semver.parse(engine.version)),
    projectSettings: { name: 'muster', runtime: 'nodejs', main: process.cwd() },
    envVars: {
      ...ENGINE_ENVIRONMENT,
      PULUMI_HOME: join(folder, 'home'),
      PULUMI_BACKEND_URL: `file://${join(folder, 'state')}`,
      PULUMI_CONFIG_PASSPHRASE: 'test',
      PULUMI_DEBUG_PROVIDERS: Object.entries(clouds.ports)
        .map(([name, port]) => `${name}:${port}`)
        .join(','),
      PULUMI_DIY_BACKEND_NO_LEGACY_WARNING: '1',
    },
  });
  const stack = await Stack.create(NAME, workspace);
  workspace.selectStack = async () => {};
  const slim = stack as unknown as { outputs(): Promise<OutputMap>; info(): Promise<undefined> };
  slim.outputs = async () => ({});
  slim.info = async () => undefined;
  return stack;
}

async function watch(update: (onEvent: (event: EngineEvent) => void) => Promise<unknown>): Promise<CloudUpdate> {
  const seen: CloudUpdate = { changes: {}, steps: [], complaints: [], ms: 0 };
  const startedAt = performance.now();
  await update((event) => {
    const { summaryEvent, resOutputsEvent, resourcePreEvent, diagnosticEvent } = event;
    const step = (resOutputsEvent ?? resourcePreEvent)?.metadata;
    const text = step && `${step.op} ${step.urn.split('::').at(-1)}`;
    if (step && text && !['same', 'refresh', 'read'].includes(step.op) && !seen.steps.includes(text))
      seen.steps.push(text);
    if (summaryEvent) seen.changes = withoutSame(summaryEvent.resourceChanges ?? {});
    if (diagnosticEvent && ['warning', 'error'].includes(diagnosticEvent.severity))
      seen.complaints.push(diagnosticEvent.message);
  });
  seen.ms = performance.now() - startedAt;
  return seen;
}

function withoutSame(changes: Record<string, number | undefined>): Record<string, number> {
  return Object.fromEntries(Object.entries(changes).filter(([op]) => op !== 'same')) as Record<string, number>;
}
