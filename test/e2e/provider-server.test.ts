/** The attached provider server under the real engine: state, partial failures, cancel and secrets as they really come out. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalWorkspace, PulumiCommand, Stack, type EngineEvent } from '@pulumi/pulumi/automation/index.js';
import semver from 'semver';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ENGINE_ENVIRONMENT } from '../../automation/engine/child/open-stack.ts';
import { startProviderServer, type ProviderServer } from '../../automation/engine/child/provider-server.ts';
import { locateEngine } from '../../engine/locate.ts';
import { setPurchaseRuntime } from '../../providers-dynamic/entry.ts';
import { shimText } from '../../providers-dynamic/shim.ts';
import { machineType } from '../../providers-dynamic/machine-resource.ts';
import { instanceProgram, type InstanceAttempt } from '../../stacks/instance/program.ts';
import {
  createScriptedClient,
  createScriptedRuntime,
  type ScriptedClient,
  type ScriptedRuntime,
} from '../support/scripted-purchases.ts';

const SECRET = 'env-value-that-stays-secret';
let folder: string;
let enginePath: string;
let engineVersion: string;
let server: ProviderServer;
let client: ScriptedClient;
let runtime: ScriptedRuntime;
const failures: { urn: string; error: unknown }[] = [];
let stacks = 0;

beforeAll(async () => {
  const tried: string[] = [];
  const engine = await locateEngine({ env: process.env }, tried);
  if (!engine) throw new Error(`no engine: ${tried.join('; ')}`);
  enginePath = engine.path;
  engineVersion = engine.version;
  folder = await mkdtemp(join(tmpdir(), 'muster-server-'));
  await mkdir(join(folder, 'state'));
  server = await startProviderServer({ onError: (urn, error) => failures.push({ urn, error }) });
});

afterAll(async () => {
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(() => {
  client = createScriptedClient();
  runtime = createScriptedRuntime(client);
  failures.length = 0;
  setPurchaseRuntime(runtime);
});

function attempt(attemptId: string, changes: Partial<InstanceAttempt> = {}): InstanceAttempt {
  return {
    attemptId,
    label: `muster-test-${attemptId}`,
    provider: 'vastai',
    requirements: {
      gpu: 'RTX 4090',
      gpuCount: 1,
      minGpuMemoryGib: null,
      diskGib: 40,
      maxPriceMicroUsdPerHour: 600_000,
      regions: [],
      minReliability: null,
      interruptible: false,
    },
    image: 'an/image:1',
    env: { TOKEN: SECRET },
    onStart: null,
    sshPublicKeys: ['ssh-ed25519 AAAA me'],
    bidMicroUsdPerHour: null,
    ...changes,
  };
}

async function openStack(program: () => Promise<Record<string, unknown>>): Promise<Stack> {
  const workDir = await mkdtemp(join(folder, 'work-'));
  const Command = PulumiCommand as unknown as new (path: string, version: semver.SemVer | null) => PulumiCommand;
  const workspace = await LocalWorkspace.create({
    workDir,
    program,
    pulumiCommand: new Command(enginePath, semver.parse(engineVersion)),
    projectSettings: { name: 'muster', runtime: 'nodejs', main: process.cwd() },
    envVars: {
      ...ENGINE_ENVIRONMENT,
      PULUMI_HOME: join(folder, 'home'),
      PULUMI_BACKEND_URL: `file://${join(folder, 'state')}`,
      PULUMI_CONFIG_PASSPHRASE: 'test',
      PULUMI_DEBUG_PROVIDERS: `pulumi-nodejs:${server.port}`,
      PULUMI_DIY_BACKEND_NO_LEGACY_WARNING: '1',
    },
  });
  const stack = await Stack.create(`s${++stacks}`, workspace);
  // What follows is one CLI process per update, not four.
  workspace.selectStack = async () => {};
  const slim = stack as unknown as { outputs(): Promise<object>; info(): Promise<undefined> };
  slim.outputs = async () => ({});
  slim.info = async () => undefined;
  return stack;
}

/** The update's own count of what it did. */
async function run(
  stack: Stack,
  update: 'up' | 'preview' | 'refresh' | 'destroy',
  options: { signal?: AbortSignal; onEvent?: (event: EngineEvent) => void } = {},
): Promise<Record<string, number>> {
  let changes: Record<string, number> = {};
  const onEvent = (event: EngineEvent): void => {
    if (event.summaryEvent) changes = event.summaryEvent.resourceChanges;
    options.onEvent?.(event);
  };
  await stack[update]({ ...options, onEvent });
  return changes;
}

interface StoredResource {
  type: string;
  id?: string;
  initErrors?: string[];
  inputs: Record<string, unknown>;
  outputs: Record<string, unknown>;
}

async function readState(
  stack: Stack,
): Promise<{ text: string; machines: StoredResource[]; outputs: Record<string, unknown>; pending: unknown[] }> {
  const text = await readFile(join(folder, 'state/.pulumi/stacks/muster', `${stack.name}.json`), 'utf8');
  const { latest } = (
    JSON.parse(text) as { checkpoint: { latest: { resources?: StoredResource[]; pending_operations?: unknown[] } } }
  ).checkpoint;
  const machines = (latest.resources ?? []).filter((resource) => resource.type === machineType('vastai'));
  const outputs = latest.resources?.find((resource) => resource.type === 'pulumi:pulumi:Stack')?.outputs ?? {};
  return { text, machines, outputs, pending: latest.pending_operations ?? [] };
}

describe('the provider server under the real engine', () => {
  it('buys several at once, changes nothing the second time, survives a refresh, and destroys', async () => {
    const stack = await openStack(async () =>
      instanceProgram({ attempts: [attempt('a'), attempt('b'), attempt('c')] }),
    );
    expect(await run(stack, 'preview')).toEqual({ create: 4 });
    expect(client.bought()).toEqual([]);

    expect(await run(stack, 'up')).toEqual({ create: 4 });
    expect(new Set(client.live())).toEqual(new Set(['muster-test-a', 'muster-test-b', 'muster-test-c']));
    expect(client.live()).toHaveLength(3);
    expect((await readState(stack)).outputs.a).toMatchObject({
      provider: 'vastai',
      label: 'muster-test-a',
      status: 'starting',
    });

    client.setStatus('muster-test-b', 'running');
    await run(stack, 'refresh');
    const { text, machines } = await readState(stack);
    const statuses = machines.map((machine) => String(machine.outputs.status));
    expect(statuses.toSorted((a, b) => a.localeCompare(b))).toEqual(['running', 'starting', 'starting']);
    expect(machines.every((machine) => machine.outputs.__provider === shimText('vastai'))).toBe(true);
    expect(text).not.toContain(SECRET);
    expect(machines.every((machine) => typeof machine.outputs.envDigest === 'object')).toBe(true);

    expect(await run(stack, 'up')).toEqual({ same: 4 });
    expect(await run(stack, 'destroy')).toEqual({ delete: 4 });
    expect(client.live()).toEqual([]);
  });

  it('keeps a machine whose keys failed, with its shim, and finishes it at the next up', async () => {
    const stack = await openStack(async () => instanceProgram({ attempts: [attempt('a')] }));
    client.failNext('attachSshKey', 'unknown', 'the key answer was lost');
    await expect(run(stack, 'up')).rejects.toThrow(/the key answer was lost/);
    const failed = await readState(stack);
    expect(failed.machines[0]).toMatchObject({ id: '1001', initErrors: [expect.stringContaining('key answer')] });
    expect(failed.machines[0]?.outputs.__provider).toBe(shimText('vastai'));
    expect(failed.text).not.toContain(SECRET);
    expect(failed.machines[0]?.outputs.envDigest).toHaveProperty('ciphertext');
    expect(failures).toMatchObject([{ urn: expect.stringContaining('::a'), error: { name: 'PartialFailure' } }]);

    // A refresh clears the init errors; the keys still missing must show all the same.
    await run(stack, 'refresh');
    expect(await run(stack, 'up')).toEqual({ same: 1, update: 1 });
    expect(client.keysOf('muster-test-a')).toEqual(['ssh-ed25519 AAAA me']);
    expect(client.bought()).toEqual(['muster-test-a']);
    await run(stack, 'destroy');
    expect(client.live()).toEqual([]);
  });

  it('says which input replaces a machine, and destroys the old one first', async () => {
    let image = 'an/image:1';
    const stack = await openStack(async () => instanceProgram({ attempts: [attempt('a', { image })] }));
    await run(stack, 'up');
    image = 'an/image:2';
    const steps: { op: string; diffs: string[] }[] = [];
    await run(stack, 'preview', {
      onEvent: ({ resourcePreEvent }) => {
        if (resourcePreEvent?.metadata.type === machineType('vastai')) {
          steps.push({
            op: resourcePreEvent.metadata.op,
            diffs: Object.keys(resourcePreEvent.metadata.detailedDiff ?? {}),
          });
        }
      },
    });
    expect(steps).toContainEqual({ op: 'replace', diffs: ['image'] });
    await run(stack, 'up');
    expect(client.calls().filter((call) => call === 'buy' || call === 'destroy')).toEqual(['buy', 'destroy', 'buy']);
    await run(stack, 'destroy');
  });

  it('forgets a machine that the vendor no longer has, at a refresh', async () => {
    const stack = await openStack(async () => instanceProgram({ attempts: [attempt('a')] }));
    await run(stack, 'up');
    client.vanish('muster-test-a');
    await run(stack, 'refresh');
    expect((await readState(stack)).machines).toEqual([]);
  });

  it('ends a canceled update at once: bought machines are kept, nothing stays pending, nothing more is bought', async () => {
    const stack = await openStack(async () => instanceProgram({ attempts: [attempt('a'), attempt('b')] }));
    const abort = new AbortController();
    // As an operation child does when it is told to cancel.
    client.onRead(() => {
      runtime.cancel();
      abort.abort();
    });
    client.hideFromReads('muster-test-a');
    client.hideFromReads('muster-test-b');
    await expect(run(stack, 'up', { signal: abort.signal })).rejects.toThrow();
    const state = await readState(stack);
    expect(state.pending).toEqual([]);
    expect(new Set(state.machines.map((machine) => machine.id))).toEqual(new Set(client.liveIds()));
    expect(state.machines.length).toBeGreaterThan(0);
    client.showInReads();
    client.onRead(() => {});
    runtime.resume();
    await run(stack, 'up');
    expect(client.bought()).toHaveLength(2);
    expect(new Set(client.bought())).toEqual(new Set(['muster-test-a', 'muster-test-b']));
    await run(stack, 'destroy');
    expect(client.live()).toEqual([]);
  });

  it('leaves a machine in the state when its destroy is not proven', async () => {
    const stack = await openStack(async () => instanceProgram({ attempts: [attempt('a')] }));
    await run(stack, 'up');
    client.relabel('muster-test-a', 'somebody-elses');
    await expect(run(stack, 'destroy')).rejects.toThrow(/refusing to destroy/);
    expect((await readState(stack)).machines).toHaveLength(1);
    expect(client.live()).toEqual(['somebody-elses']);
  });

  it('runs an unknown provider text as the stock server does', async () => {
    const text = `exports.handler = () => ({ create: async (inputs) => ({ id: 'x1', outs: { ...inputs, made: true } }), delete: async () => {} });`;
    const { CustomResource } = await import('@pulumi/pulumi/resource.js');
    class Thing extends CustomResource {
      constructor(name: string) {
        super('pulumi-nodejs:dynamic:Thing', name, { size: 3, __provider: text });
      }
    }
    const stack = await openStack(async () => ({ id: new Thing('thing').id }));
    expect(await run(stack, 'up')).toEqual({ create: 2 });
    expect((await readState(stack)).outputs).toEqual({ id: 'x1' });
    expect(await run(stack, 'up')).toEqual({ same: 2 });
    await run(stack, 'destroy');
  });
});
