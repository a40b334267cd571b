/**
 * Engine time of a cluster's stack by our runner against the simulated clouds, and of one program with 1,000 resources. The clouds are
 * a process of their own. Run: node scripts/bootstrap.mjs bench/stacks.ts
 */
import { fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import { LocalWorkspace, PulumiCommand } from '@pulumi/pulumi/automation/index.js';
import semver from 'semver';
import { dropPromiseBookkeeping } from '../automation/engine/child/prime.ts';
import { createChildPool } from '../automation/engine/child-pool.ts';
import { createStackRunner, type UpdateHooks, type UpdateOutcome } from '../automation/engine/stack-runner.ts';
import { locateEngine } from '../engine/locate.ts';
import { eksConfigSchema } from '../stacks/eks/config.ts';
import { openScratchDatabase } from '../test/support/scratch-database.ts';
import { openStateHome } from '../test/support/state-home.ts';
import { median } from './lab.ts';

// As in the operation child.
Error.stackTraceLimit = 2;
dropPromiseBookkeeping();
const ROUNDS = 5;
const RESOURCES = Number(process.env['RESOURCES'] ?? 1_000);
const PROJECT_DIR = join(import.meta.dirname, '..');
const never = { cancel: new AbortController().signal, kill: new AbortController().signal };

const dir = mkdtempSync(join(tmpdir(), 'muster-bench-'));
const engine = await locateEngine({ env: process.env }, []);
if (!engine) throw new Error('no engine: run `npm start` or `npm test` once');
const { path: enginePath, version: engineVersion } = engine;
const sandbox = fork(join(PROJECT_DIR, 'sandbox', 'main.ts'), [], {
  env: {
    ...process.env,
    MUSTER_SANDBOX_PORT: '0',
    MUSTER_SANDBOX_DIR: join(dir, 'sandbox'),
    MUSTER_SANDBOX_CLOUD_TIME: 'none',
  },
  stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
});
const cloudPorts = await new Promise<Record<string, number>>((resolve) => {
  sandbox.on('message', (message: { type: string; cloudPorts: Record<string, number> }) => {
    if (message.type === 'ready') resolve(message.cloudPorts);
  });
});
const database = await openScratchDatabase();
const home = await openStateHome(database.url);
try {
  await measureCluster();
  const ours = await measureMany('ours');
  const files = await measureMany('files');
  for (const [name, ms] of Object.entries(ours)) {
    console.log(`files ÷ ours: ${name.padEnd(14)} ${((files[name] ?? NaN) / ms).toFixed(1)}`);
  }
} finally {
  await home.close();
  await database.close();
  sandbox.kill('SIGTERM');
  rmSync(dir, { recursive: true, force: true });
}
process.exit(0);

async function measureCluster(): Promise<void> {
  const pool = createChildPool({
    size: 1,
    scratchDir: join(dir, 'children'),
    settings: {
      enginePath,
      engineVersion,
      projectRoot: PROJECT_DIR,
      parallel: 64,
      cloudPorts,
      cloudEnvironment: {},
      providers: {},
    },
    onChildError: (message) => console.error(message),
  });
  pool.warm();
  const runner = createStackRunner(pool, home.backend);
  const hooks = {
    onResources() {},
    onDiagnostic(severity: string, message: string) {
      if (severity === 'error') console.error(message);
    },
    resolvePending: () => Promise.resolve(null),
  } as unknown as UpdateHooks;
  const config = eksConfigSchema.parse({
    region: 'us-east-1',
    gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 2 }],
  });
  const times: Record<string, number[]> = { up: [], noopPreview: [], noopUp: [], refresh: [], destroy: [] };
  let resources = 0;
  for (let round = 0; round <= ROUNDS; round++) {
    const tags = { owner: 'bench', deployment: 'bench', costCentre: 'bench' };
    const args = { config, name: `bench-${round}`, tags, protect: false, ceilingMicroUsdPerHour: null };
    const request = {
      stackName: `eks-${round}`,
      program: { kind: 'eks', args },
      mayExist: [],
      deploymentSshPublicKeys: [],
    };
    const results: Record<string, UpdateOutcome> = {
      up: await runner.up(request, hooks, never),
      noopPreview: await runner.preview(request, hooks, never),
      noopUp: await runner.up(request, hooks, never),
      refresh: await runner.refresh(request, hooks, never),
    };
    resources = results['up']?.state?.resources.length ?? 0;
    results['destroy'] = await runner.destroy(request, hooks, never);
    for (const [name, { isOk, error, engineMs }] of Object.entries(results)) {
      if (!isOk) throw new Error(`${name}: ${error?.detail}`);
      // The first round loads and compiles the program.
      if (round > 0) times[name]?.push(engineMs);
    }
  }
  await pool.close();
  for (const [name, values] of Object.entries(times))
    console.log(`eks, ${resources} resources: ${name.padEnd(11)} median ${median(values)} ms (${values.join(', ')})`);
}

/** @returns milliseconds by update */
async function measureMany(where: 'ours' | 'files'): Promise<Record<string, number>> {
  const { stack, close } = await openStack(where, () => {
    const vpc = new Vpc('many', { cidrBlock: '10.0.0.0/16' });
    for (let index = 0; index < RESOURCES; index++) {
      const cidrBlock = `10.0.${Math.floor(index / 4)}.${(index % 4) * 64}/26`;
      new Subnet(`subnet-${index}`, { vpcId: vpc.id, cidrBlock, availabilityZone: 'us-east-1a' });
    }
    return Promise.resolve({});
  });
  const times: Record<string, number> = {};
  const timeOf = async (name: string, update: () => Promise<unknown>): Promise<void> => {
    const startedAt = performance.now();
    await update();
    times[name] = performance.now() - startedAt;
    console.log(`${where}, ${RESOURCES} resources: ${name.padEnd(14)} ${(times[name] / 1000).toFixed(1)} s`);
  };
  const options = { parallel: 64, onEvent: () => {} };
  await timeOf('up', () => stack.up(options));
  await timeOf('no-op preview', () => stack.preview(options));
  await timeOf('no-op up', () => stack.up(options));
  await timeOf('refresh', () => stack.refresh(options));
  await timeOf('destroy', () => stack.destroy(options));
  await close();
  return times;
}

async function openStack(where: 'ours' | 'files', program: () => Promise<Record<string, unknown>>) {
  const name = `many-${where}`;
  for (const folder of ['state', 'work']) mkdirSync(join(dir, `${name}-${folder}`));
  await home.backend.prepareStack(name);
  const run = home.backend.openRun({ runId: name, stackName: name });
  const state: Record<string, string> =
    where === 'ours'
      ? { PULUMI_BACKEND_URL: run.url, PULUMI_ACCESS_TOKEN: run.accessToken, PULUMI_JOURNALING_BATCH_PERIOD: '5' }
      : {
          PULUMI_BACKEND_URL: `file://${join(dir, `${name}-state`)}`,
          PULUMI_CONFIG_PASSPHRASE: 'bench',
          PULUMI_DIY_BACKEND_NO_LEGACY_WARNING: '1',
        };
  const Command = PulumiCommand as unknown as new (path: string, version: semver.SemVer | null) => PulumiCommand;
  const workspace = await LocalWorkspace.create({
    workDir: join(dir, `${name}-work`),
    program,
    pulumiCommand: new Command(enginePath, semver.parse(engineVersion)),
    projectSettings: { name: 'muster', runtime: 'nodejs', main: PROJECT_DIR },
    stackSettings: { [name]: { config: { 'aws:region': 'us-east-1' } } },
    envVars: {
      ...state,
      PULUMI_HOME: join(dir, `${name}-home`),
      PULUMI_DEBUG_PROVIDERS: Object.entries(cloudPorts)
        .map(([provider, port]) => `${provider}:${port}`)
        .join(','),
      PULUMI_SKIP_UPDATE_CHECK: 'true',
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: 'true',
      PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL: 'true',
      GOGC: '400',
    },
  });
  const { Stack: Stacks } = await import('@pulumi/pulumi/automation/index.js');
  const stack = await (where === 'ours' ? Stacks.select(name, workspace) : Stacks.create(name, workspace));
  workspace.selectStack = async () => {};
  const slim = stack as unknown as { outputs(): Promise<object>; info(): Promise<undefined> };
  slim.outputs = async () => ({});
  slim.info = async () => undefined;
  return { stack, close: () => run.close() };
}
