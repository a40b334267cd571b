/** A stack's program on the real engine against simulated clouds, its state at our state service, in this process: one update at a time, each told by what changed. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineEvent, Stack } from '@pulumi/pulumi/automation/index.js';
import { openStack } from '../../automation/engine/child/open-stack.ts';
import { PROJECT } from '../../automation/engine/state-backend.ts';
import { locateEngine } from '../../engine/locate.ts';
import { startSimulatedClouds, type SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { loadProgram } from '../../stacks/catalogue.ts';
import type { StackArgs } from '../../stacks/stack-args.ts';
import { createTestDatabase } from './database.ts';
import { openStateHome, type StateHome } from './state-home.ts';

export interface CloudStack {
  clouds: SimulatedClouds;
  /** The program runs with these from the next update on. */
  setArgs(args: StackArgs<unknown>): void;
  preview(): Promise<CloudUpdate>;
  up(): Promise<CloudUpdate>;
  refresh(): Promise<CloudUpdate>;
  destroy(): Promise<CloudUpdate>;
  /** The state as it is kept. */
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
  const database = await createTestDatabase();
  const home = await openStateHome(database.url);
  await home.backend.prepareStack(NAME);
  const stack = await openStack({
    settings: {
      enginePath: engine.path,
      engineVersion: engine.version,
      projectRoot: process.cwd(),
      scratchDir: folder,
    },
    stackName: NAME,
    workDir: folder,
    program: async () => run(current),
    attached: clouds.ports,
    environment: { PULUMI_BACKEND_URL: home.url },
  });
  const doUpdate = (what: 'preview' | 'up' | 'refresh' | 'destroy') =>
    withState(home, stack, () => watch((onEvent) => stack[what]({ onEvent })));
  return {
    clouds,
    setArgs(next) {
      current = next;
    },
    preview: () => doUpdate('preview'),
    up: () => doUpdate('up'),
    refresh: () => doUpdate('refresh'),
    destroy: () => doUpdate('destroy'),
    readState: () => withState(home, stack, (token) => exportState(home.url, token)),
    async close() {
      clouds.close();
      await home.close();
      await database.drop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** As the runner does it: a token for each run. */
async function withState<T>(
  { backend }: StateHome,
  { workspace }: Stack,
  act: (token: string) => Promise<T>,
): Promise<T> {
  const access = backend.openRun({ runId: randomUUID(), stackName: NAME });
  workspace.envVars['PULUMI_ACCESS_TOKEN'] = access.accessToken;
  try {
    return await act(access.accessToken);
  } finally {
    await access.close();
  }
}

async function exportState(url: string, token: string): Promise<string> {
  const reply = await fetch(`${url}/api/stacks/organization/${PROJECT}/${NAME}/export`, {
    headers: { authorization: `token ${token}` },
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`export: ${text}`);
  return text;
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
