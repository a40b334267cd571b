/**
 * Engine time of one rented machine: our runner (warm children, attached provider, one CLI process, state in Postgres) beside the stock
 * Automation API on the file backend, in one run. Run: node scripts/bootstrap.mjs bench/engine.ts
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalWorkspace, PulumiCommand } from '@pulumi/pulumi/automation/index.js';
import { createChildPool } from '../automation/engine/child-pool.ts';
import { createStackRunner, type UpdateHooks, type UpdateRequest } from '../automation/engine/stack-runner.ts';
import { locateEngine } from '../engine/locate.ts';
import { startSandbox } from '../sandbox/server.ts';
import { instanceProgram } from '../stacks/instance/program.ts';
import { openScratchDatabase } from '../test/support/scratch-database.ts';
import { openStateHome } from '../test/support/state-home.ts';
import { median } from './lab.ts';

const ROUNDS = 7;
const STOCK_ROUNDS = 3;
const PROJECT_DIR = join(import.meta.dirname, '..');

const dir = mkdtempSync(join(tmpdir(), 'muster-bench-'));
const sandbox = await startSandbox({ port: 0, dir: join(dir, 'sandbox') });
const engine = await locateEngine({ env: process.env });
if (!engine) throw new Error('no engine: run `npm start` or `npm test` once');
const provider = { apiKey: sandbox.apiKey, baseUrl: sandbox.urls.vastai, listLagMs: 0 };
const pool = createChildPool({
  size: 1,
  scratchDir: join(dir, 'children'),
  settings: {
    enginePath: engine.path,
    engineVersion: engine.version,
    projectRoot: PROJECT_DIR,
    parallel: 16,
    cloudPorts: {},
    cloudEnvironment: {},
    providers: { vastai: provider },
  },
  onChildError: (message) => console.error(message),
});
pool.warm();
const database = await openScratchDatabase();
const home = await openStateHome(database.url);
const runner = createStackRunner(pool, home.backend);
const offers = await listOffers();
let nextOffer = 0;

const hooks = {
  onResources() {},
  onProgress() {},
  answer: (question: string) => {
    if (question !== 'nextCandidate') return Promise.resolve(null);
    const offer = offers[nextOffer++] as { id: number; machine_id: number };
    return Promise.resolve({
      providerOfferId: String(offer.id),
      machineId: String(offer.machine_id),
      priceMicroUsdPerHour: '400000',
    });
  },
  resolvePending: () => Promise.resolve(null),
} as unknown as UpdateHooks;
const never = { cancel: new AbortController().signal, kill: new AbortController().signal };

const times: Record<string, number[]> = { upNew: [], up: [], noop: [], destroy: [] };
await timeOf(() => runner.up(request('warm'), hooks, never));
await runner.destroy(request('warm'), hooks, never);
for (let round = 0; round < ROUNDS; round++) {
  const stack = request(`s${round}`);
  times['upNew']?.push(await timeOf(() => runner.up(stack, hooks, never)));
  times['destroy']?.push(await timeOf(() => runner.destroy(stack, hooks, never)));
  times['up']?.push(await timeOf(() => runner.up(stack, hooks, never)));
  times['noop']?.push(await timeOf(() => runner.up(stack, hooks, never)));
}
await pool.close();
const stock = await measureStock();
for (const [name, values] of Object.entries(times))
  console.log(
    `ours   ${name.padEnd(8)} median ${Math.round(median(values))} ms (${values.map(Math.round).join(', ')})`,
  );
for (const [name, values] of Object.entries(stock))
  console.log(
    `stock  ${name.padEnd(8)} median ${Math.round(median(values))} ms (${values.map(Math.round).join(', ')})`,
  );
console.log(
  `ratio  up stock/ours ${(median(stock.up) / median(times['up'] ?? [])).toFixed(1)}, destroy ${(median(stock.destroy) / median(times['destroy'] ?? [])).toFixed(1)}`,
);
await home.close();
await database.close();
await sandbox.close();
rmSync(dir, { recursive: true, force: true });
process.exit(0);

function request(name: string): UpdateRequest {
  return {
    stackName: name,
    program: { kind: 'instance', args: programArgs(name) },
    mayExist: [],
    deploymentSshPublicKeys: [],
  };
}

function programArgs(name: string): Parameters<typeof instanceProgram>[0] {
  return {
    attempts: [
      {
        attemptId: `att-${name}`,
        label: `muster-bench-${name}`,
        provider: 'vastai',
        requirements: {
          gpu: 'RTX 4090',
          gpuCount: 1,
          minGpuMemoryGib: null,
          diskGib: 40,
          maxPriceMicroUsdPerHour: 900_000,
          regions: [],
          minReliability: null,
          interruptible: false,
        },
        image: 'pytorch/pytorch',
        env: {},
        onStart: null,
        sshPublicKeys: [],
        bidMicroUsdPerHour: null,
      },
    ],
  };
}

/** As the documentation shows it: stack.up() and stack.destroy() of an inline program, the stock plugin process for dynamic resources. */
async function measureStock(): Promise<{ up: number[]; destroy: number[] }> {
  const root = join(dir, 'stock');
  const up: number[] = [];
  const destroy: number[] = [];
  const pulumiCommand = await PulumiCommand.get({ root: join(engine?.path ?? '', '..', '..') });
  const stack = await LocalWorkspace.createOrSelectStack(
    { stackName: 'stock', projectName: 'stock', program: () => Promise.resolve(instanceProgram({ attempts: [] })) },
    {
      pulumiCommand,
      projectSettings: { name: 'stock', runtime: 'nodejs', main: PROJECT_DIR, backend: { url: `file://${root}` } },
      envVars: {
        PULUMI_HOME: join(root, 'home'),
        PULUMI_CONFIG_PASSPHRASE: 'bench',
        PULUMI_SKIP_UPDATE_CHECK: 'true',
        MUSTER_VASTAI_API_KEY: sandbox.apiKey,
        MUSTER_VASTAI_URL: sandbox.urls.vastai,
        MUSTER_PROVIDER_ENTRY: join(PROJECT_DIR, 'providers-dynamic', 'entry.ts'),
        PATH: `${join(engine?.path ?? '', '..')}:${join(process.execPath, '..')}:${process.env['PATH'] ?? ''}`,
        HOME: homedir(),
      },
    },
  );
  for (let round = 0; round < STOCK_ROUNDS; round++) {
    const args = programArgs(`stock${round}`);
    up.push(await timeOf(() => stack.up({ program: () => Promise.resolve(instanceProgram(args)) })));
    destroy.push(await timeOf(() => stack.destroy()));
  }
  return { up, destroy };
}

async function listOffers(): Promise<unknown[]> {
  const reply = await fetch(`${sandbox.urls.vastai}/api/v0/bundles/`, {
    method: 'POST',
    headers: { authorization: `Bearer ${sandbox.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ gpu_name: { eq: 'RTX 4090' }, num_gpus: { eq: 1 }, limit: 200 }),
  });
  return ((await reply.json()) as { offers: unknown[] }).offers;
}

async function timeOf(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  const result = (await work()) as { isOk?: boolean; error?: unknown };
  if (result.isOk === false) throw new Error(JSON.stringify(result.error));
  return performance.now() - startedAt;
}
