/**
 * Engine time of a cluster's stack by our runner against the simulated clouds, and of one program with 1,000 resources. The clouds are
 * a process of their own. Run: node scripts/bootstrap.mjs bench/stacks.ts [--files] [--resources 1000]; with `--files` also on the
 * engine's own file backend, and as `terraform_data` where terraform is installed (minutes).
 */
import { fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createChildPool } from '../automation/engine/child-pool.ts';
import { createStackRunner, type UpdateHooks, type UpdateOutcome } from '../automation/engine/stack-runner.ts';
import { locateEngine } from '../engine/locate.ts';
import { eksConfigSchema } from '../stacks/eks/config.ts';
import { openScratchDatabase } from '../test/support/scratch-database.ts';
import { openStateHome } from '../test/support/state-home.ts';
import { median } from './lab.ts';
import type { ManyResources, UpdateName, UpdateTime } from './many-resources.ts';
import { readProcessorMs } from './processor-time.ts';
import { measureTerraform } from './terraform.ts';

const ROUNDS = 5;
const PROJECT_DIR = join(import.meta.dirname, '..');
const { values: flags } = parseArgs({
  options: { files: { type: 'boolean', default: false }, resources: { type: 'string', default: '1000' } },
});
const RESOURCES = Number(flags.resources);
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
  const ours = await measureOurs();
  if (flags.files) {
    printRatios('files', await measureFiles(), ours);
    const terraform = await measureTerraform(join(dir, 'terraform'), RESOURCES);
    if (terraform) printRatios('terraform', terraform, ours);
    else console.log('terraform: not installed');
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
    onProgress() {},
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

async function measureOurs(): Promise<Times> {
  await home.backend.prepareStack('ours');
  const run = home.backend.openRun({ runId: 'ours', stackName: 'ours' });
  const environment = { PULUMI_BACKEND_URL: run.url, PULUMI_ACCESS_TOKEN: run.accessToken };
  const times = await measureMany('ours', environment, ['up', 'no-op preview', 'no-op up', 'refresh', 'destroy']);
  await run.close();
  return times;
}

/** Only the backend is another. */
function measureFiles(): Promise<Times> {
  const state = join(dir, 'state');
  mkdirSync(state);
  const environment = {
    PULUMI_BACKEND_URL: `file://${state}`,
    PULUMI_CONFIG_PASSPHRASE: 'bench',
    PULUMI_DIY_BACKEND_NO_LEGACY_WARNING: '1',
  };
  return measureMany('files', environment, ['up', 'destroy']);
}

/** Milliseconds by update. */
type Times = Partial<Record<UpdateName, number>>;

async function measureMany(name: string, environment: Record<string, string>, updates: UpdateName[]): Promise<Times> {
  const scratchDir = join(dir, `${name}-scratch`);
  const workDir = join(dir, `${name}-work`);
  mkdirSync(workDir);
  const asked: ManyResources = {
    resources: RESOURCES,
    opening: {
      settings: { enginePath, engineVersion, projectRoot: PROJECT_DIR, scratchDir },
      stackName: name,
      workDir,
      attached: cloudPorts,
      environment,
    },
    isNew: name === 'files',
    updates,
  };
  const program = fork(join(import.meta.dirname, 'many-resources.ts'), [], {
    execArgv: ['--disable-warning=ExperimentalWarning'],
  });
  const ended = new Promise<number | null>((resolve) => program.once('exit', resolve));
  const times: Times = {};
  let before = readOwnParts();
  program.on('message', ({ update, ms, programMs, engineMs }: UpdateTime) => {
    times[update] = ms;
    const after = readOwnParts();
    const parts = {
      program: programMs,
      engine: engineMs,
      'state service': after.service - before.service,
      clouds: after.clouds - before.clouds,
    };
    before = after;
    const told = Object.entries(parts).map(([part, cpu]) => `${part} ${seconds(cpu)}`);
    console.log(
      `${name}, ${RESOURCES} resources: ${update.padEnd(14)} ${seconds(ms)} s; of the processor: ${told.join(', ')}`,
    );
  });
  program.send(asked);
  const code = await ended;
  if (code !== 0) throw new Error(`the program of ${name} ended with ${code}`);
  return times;
}

/** The state service is this process's. */
function readOwnParts(): { service: number; clouds: number } {
  return { service: readProcessorMs('self').own, clouds: readProcessorMs(sandbox.pid ?? 'self').own };
}

function printRatios(name: string, others: Times, ours: Times): void {
  for (const update of ['up', 'destroy'] as const) {
    const ratio = (others[update] ?? NaN) / (ours[update] ?? NaN);
    console.log(`${name} ÷ ours: ${update.padEnd(14)} ${ratio.toFixed(1)}`);
  }
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}
