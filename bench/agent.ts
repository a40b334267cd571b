/**
 * The agent as a machine without Node gets it: its installer and the control plane's Node, then what it weighs and what it costs at rest.
 * Run: node scripts/bootstrap.mjs bench/agent.ts [seconds]. Its nvidia-smi is a shell script: a real one takes longer, and has its own cost.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { renderFakeSmi } from '../sandbox/agent/fake-smi.ts';
import type { RunningMachine } from '../sandbox/vendor.ts';
import { waitFor } from '../test/support/muster-process.ts';
import { median, openLab, readPssMb, readRssMb, waitUntilReady } from './lab.ts';

const REST_SECONDS = Number(process.argv[2] ?? 120);
const BOUND_MS = 120_000;
/** Of /proc/PID/stat, everywhere on Linux. */
const TICKS_PER_SECOND = 100;

let rented: RunningMachine | undefined;
const lab = await openLab({
  sandbox: {
    machineWatch: {
      onRunning: (machine) => (rented ??= machine.env['MUSTER_AGENT_TOKEN'] ? machine : undefined),
      onGone: () => {},
    },
  },
  env: { MUSTER_AGENT: 'on', MUSTER_PROVIDERS: 'vastai', MUSTER_READINESS_INTERVAL: '1 seconds' },
});
const dir = join(lab.dir, 'machine');
const bin = join(lab.dir, 'bin');
try {
  await lab.muster.start();
  await waitUntilReady(lab.muster);
  const order = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.95', strategy: 'coldstart' };
  await waitFor(
    async () => (await lab.muster.request('POST', '/api/v1/instances', order)).status === 202,
    BOUND_MS,
    'offers',
  );
  await waitFor(() => Promise.resolve(rented !== undefined), BOUND_MS, 'a machine');
  const machine = rented as unknown as RunningMachine;
  const { gpus } = machine;
  if (gpus === null) throw new Error('a machine without GPUs was rented');
  mkdirSync(bin);
  writeFileSync(join(bin, 'nvidia-smi'), renderFakeSmi(gpus), { mode: 0o755 });
  const path = `${lab.muster.url}/api/v1/nodes`;
  const firstMs = await timed(() => download(`${path}/runtime/linux-${process.arch}`));
  const sizes: number[] = [];
  const nextMs = await timed(async () => void sizes.push(await download(`${path}/runtime/linux-${process.arch}`)));
  writeFileSync(join(lab.dir, 'install.sh'), await (await fetch(`${path}/install.sh`)).text());
  const installMs = await timed(() => install());
  await waitFor(isHealthy, BOUND_MS, 'a healthy node');
  const pid = Number(readFileSync(join(dir, 'agent.pid'), 'utf8'));
  const weights: number[] = [];
  const startedAt = performance.now();
  const before = cpuSeconds(pid);
  while (performance.now() - startedAt < REST_SECONDS * 1_000) {
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    weights.push(readRssMb(pid));
  }
  const after = cpuSeconds(pid);
  const seconds = (performance.now() - startedAt) / 1_000;
  console.log(
    `Node handed out: ${((sizes[0] as number) / 1e6).toFixed(1)} MB compressed; first download ${Math.round(firstMs)} ms, next ${Math.round(nextMs)} ms`,
  );
  console.log(`install.sh on a machine without Node, to a started agent: ${Math.round(installMs)} ms`);
  console.log(
    `agent over ${Math.round(seconds)} s: RSS median ${median(weights).toFixed(1)} MB, most ${Math.max(...weights).toFixed(1)} MB, PSS ${readPssMb(pid).toFixed(1)} MB`,
  );
  console.log(
    `agent at rest, a heartbeat every 10 s: ${(((after.own - before.own) / seconds) * 100).toFixed(2)} % of a core, with its nvidia-smi ${(((after.all - before.all) / seconds) * 100).toFixed(2)} %`,
  );
} finally {
  await install('uninstall').catch(() => {});
  await lab.close();
}

function install(...args: string[]) {
  return promisify(execFile)('sh', [join(lab.dir, 'install.sh'), ...args], {
    env: {
      PATH: `${bin}:/usr/bin:/bin`,
      MUSTER_AGENT_URL: lab.muster.url,
      MUSTER_AGENT_TOKEN: rented?.env['MUSTER_AGENT_TOKEN'] ?? '',
      MUSTER_AGENT_DIR: dir,
      MUSTER_AGENT_SERVICE: 'none',
      MUSTER_AGENT_NODE: 'served',
    },
  });
}

async function isHealthy(): Promise<boolean> {
  const { body } = await lab.muster.request<{ items: { health: string }[] }>('GET', '/api/v1/nodes');
  return body.items[0]?.health === 'healthy';
}

async function download(url: string): Promise<number> {
  return (await (await fetch(url)).arrayBuffer()).byteLength;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

/** `all` has the children that have ended in it. */
function cpuSeconds(pid: number): { own: number; all: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  const [user, system, childUser, childSystem] = fields.slice(11, 15).map((ticks) => Number(ticks) / TICKS_PER_SECOND);
  const own = (user as number) + (system as number);
  return { own, all: own + (childUser as number) + (childSystem as number) };
}
