/**
 * Sleeping and waking by real programs: an instance of the sandbox with a real agent and restic gets files, is hibernated and woken, again
 * and again. Is every file back, byte for byte, with its mode and time? How long did Muster take beyond the provider's boot and the restore?
 * Run: npm run bench:wake [-- --rounds 5 --files 2000 --megabytes 64]; a million files and 4 GiB: --rounds 1 --files 1000000 --megabytes 4096
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { mkdir, open, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Instance, InstanceAccepted } from '../api/contract/instances.ts';
import { createAgentRunner } from '../sandbox/agent/agent-runner.ts';
import { waitFor } from '../test/support/muster-process.ts';
import { median, openLab, percentile, waitUntilReady } from './lab.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    files: { type: 'string', default: '2000' },
    megabytes: { type: 'string', default: '64' },
  },
});
const BOUND_MS = 3 * 3_600_000;
const POLL_MS = 50;
/** Files at once. */
const BATCH = 64;

const dir = mkdtempSync(join(tmpdir(), 'muster-wake-'));
const agents = createAgentRunner(join(dir, 'agents'));
/** By the vendor's id: when the machine ran. */
const ranAt = new Map<string, number>();
const machineWatch: typeof agents = {
  ...agents,
  onRunning(machine) {
    ranAt.set(String(machine.instanceId), Date.now());
    agents.onRunning(machine);
  },
};
const lab = await openLab({
  sandbox: { machineWatch },
  env: { MUSTER_AGENT: 'on', MUSTER_PROVIDERS: 'vastai' },
});
const { muster, sandbox } = lab;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void close().then(() => process.exit(1)));
await muster.start();
await waitUntilReady(muster);
const measured: { sleepMs: number; wakeMs: number; bootMs: number; restoreMs: number; addedMs: number }[] = [];
let different = 0;
const id = await rent();
await fill(workspaceOf(await look()));
for (let round = 1; round <= Number(values.rounds); round++) await roundTrip(round);
report();
await muster.request('DELETE', `/api/v1/instances/${id}`);
await waitFor(async () => (await look()).status === 'destroyed', BOUND_MS, 'destroyed', POLL_MS);
await close();
process.exit(different > 0 ? 1 : 0);

async function close(): Promise<void> {
  agents.close();
  await lab.close();
  rmSync(dir, { recursive: true, force: true });
}

async function rent(): Promise<string> {
  const order = {
    gpu: 'RTX 4090',
    maxPriceUsdPerHour: '0.99',
    strategy: 'coldstart',
    hibernateWhenIdle: { for: '24 hours' },
  };
  const accepted = await muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
  if (accepted.status !== 202) throw new Error(JSON.stringify(accepted));
  const made = accepted.body.instances[0]?.id as string;
  await until(made, 'ready');
  return made;
}

async function look(instanceId = id): Promise<Instance> {
  return (await muster.request<Instance>('GET', `/api/v1/instances/${instanceId}`)).body;
}

/** Throws where it comes to rest elsewhere. */
async function until(
  instanceId: string,
  status: Instance['status'],
  otherwise?: Instance['status'],
): Promise<Instance> {
  let seen = await look(instanceId);
  await waitFor(
    async () => {
      // A connection that was kept too long is no news of the instance.
      seen = await look(instanceId).catch(() => seen);
      if (otherwise !== undefined && seen.status === otherwise) throw new Error(`it is ${otherwise}: ${seen.note}`);
      return seen.status === status;
    },
    BOUND_MS,
    status,
    POLL_MS,
  );
  return seen;
}

function workspaceOf(shown: Instance): string {
  return join(dir, 'agents', `vastai-${shown.providerInstanceId}`, 'workspace');
}

/** In batches, because vendor and agents answer from this process. */
async function fill(folder: string): Promise<void> {
  const files = Number(values.files);
  const startedAt = performance.now();
  for (let index = 0; index < files; index += 1_000)
    await mkdir(join(folder, 'small', String(index / 1_000)), { recursive: true });
  await inBatches(
    Array.from({ length: files }, (_, index) => index),
    async (index) => {
      const path = join(folder, 'small', String(Math.floor(index / 1_000)), `file-${index}`);
      await writeFile(path, `${index} ${'x'.repeat(index % 200)}`, { mode: index % 7 === 0 ? 0o755 : 0o640 });
      if (index % 11 === 0) await utimes(path, 1_700_000_000, 1_700_000_000 + index);
    },
  );
  await mkdir(join(folder, 'an empty folder'), { recursive: true });
  await writeFile(join(folder, 'ünïcode – and "quotes" $HOME'), 'x');
  const big = await open(join(folder, 'big.bin'), 'w');
  for (let megabyte = 0; megabyte < Number(values.megabytes); megabyte++) await big.write(randomBytes(1_048_576));
  await big.close();
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(0);
  console.log(`${files} small files and ${values.megabytes} MiB written in ${seconds} s`);
}

async function inBatches<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  for (let from = 0; from < all.length; from += BATCH) await Promise.all(all.slice(from, from + BATCH).map(work));
}

async function roundTrip(round: number): Promise<void> {
  const before = await look();
  await writeFile(join(workspaceOf(before), 'round.txt'), `round ${round}`);
  const digest = await digestOf(workspaceOf(before));
  const sleepAt = performance.now();
  await post('hibernate');
  const asleep = await until(id, 'hibernated', 'ready');
  const sleepMs = performance.now() - sleepAt;
  await rm(workspaceOf(before), { recursive: true, force: true });
  const wakeAt = performance.now();
  await post('wake');
  const awake = await until(id, 'ready', 'hibernated');
  const wakeMs = performance.now() - wakeAt;
  const bootMs = bootOf(awake);
  const restoreMs = await restoreOf(awake);
  measured.push({ sleepMs, wakeMs, bootMs, restoreMs, addedMs: wakeMs - bootMs - restoreMs });
  const isSame = (await digestOf(workspaceOf(awake))) === digest;
  if (!isSame) different++;
  const moments: [string, number][] = [
    ...Object.entries(awake.phaseAt).map(([phase, at]): [string, number] => [phase, Date.parse(at)]),
    ['(bought)', machineOf(awake).createdAtMs],
    ['(running)', ranAt.get(awake.providerInstanceId ?? '') ?? NaN],
  ];
  const phases = moments
    .toSorted(([, a], [, b]) => a - b)
    .map(([phase, at]) => `${phase} ${((at - Date.parse(awake.phaseAt.queued ?? '')) / 1_000).toFixed(1)}`)
    .join(' · ');
  console.log(
    `  round ${round}: asleep after ${(sleepMs / 1_000).toFixed(1)} s (${asleep.hibernation?.snapshotId}), awake after ${(wakeMs / 1_000).toFixed(1)} s: ${phases}${isSame ? '' : ' · THE FILES ARE NOT THE SAME'}`,
  );
}

async function post(verb: 'hibernate' | 'wake'): Promise<void> {
  const answer = await muster.request<InstanceAccepted>('POST', `/api/v1/instances/${id}/${verb}`, {});
  if (answer.status !== 202) throw new Error(JSON.stringify(answer));
}

/** As the vendor has it: from the purchase to running. */
function bootOf(awake: Instance): number {
  return (ranAt.get(awake.providerInstanceId ?? '') as number) - machineOf(awake).createdAtMs;
}

function machineOf(awake: Instance): { createdAtMs: number } {
  const machine = sandbox.state().vastai.machines.find((one) => String(one.id) === awake.providerInstanceId);
  if (!machine) throw new Error('the vendor does not know the machine');
  return machine;
}

/** As long as the agent worked on it. */
async function restoreOf(awake: Instance): Promise<number> {
  const { body } = await muster.request<{ items: { kind: string; startedAt: string; finishedAt: string }[] }>(
    'GET',
    '/api/v1/operations?kind=restore_workspace&limit=1',
  );
  const [operation] = body.items;
  if (!operation) throw new Error(`no restore of ${awake.id}`);
  return Date.parse(operation.finishedAt) - Date.parse(operation.startedAt);
}

/** Of all paths, kinds, modes, sizes, times and contents. */
async function digestOf(root: string): Promise<string> {
  const lines: string[] = [];
  await inBatches(await readdir(root, { recursive: true }), async (path) => {
    const about = await stat(join(root, path));
    const kind = about.isDirectory() ? 'd' : `${about.size} ${Math.floor(about.mtimeMs)}`;
    const content = about.isDirectory() ? '' : await contentOf(join(root, path));
    lines.push(`${path}\0${about.mode} ${kind} ${content}`);
  });
  return createHash('sha256').update(lines.sort().join('\n')).digest('hex');
}

async function contentOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function report(): void {
  const line = (name: string, all: number[]) =>
    `${name}: median ${(median(all) / 1_000).toFixed(1)} s, p95 ${(percentile(all, 0.95) / 1_000).toFixed(1)} s, worst ${(percentile(all, 1) / 1_000).toFixed(1)} s`;
  console.log(
    [
      `${measured.length} round trips, ${different === 0 ? 'every file byte for byte' : `${different} WITH OTHER FILES`}`,
      line(
        'asleep after',
        measured.map((one) => one.sleepMs),
      ),
      line(
        'awake after',
        measured.map((one) => one.wakeMs),
      ),
      line(
        "of it the provider's boot",
        measured.map((one) => one.bootMs),
      ),
      line(
        'the restore',
        measured.map((one) => one.restoreMs),
      ),
      line(
        'and Muster beyond both',
        measured.map((one) => one.addedMs),
      ),
    ].join('\n  '),
  );
}
