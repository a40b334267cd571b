/**
 * Kills in the middle of 200 creates as a program: `npm run test:killed-creates -- --seeds 6 [--first 1] [--creates 200] [--victim cli|api|worker]`.
 * The victims come in turn: the engine's CLI of a person, the API that it speaks to (which comes back), the worker of a stack of ours. Exits 1
 * when anything that was made is neither in the state nor pending, or was made twice by the next update.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { startSandbox } from '../../sandbox/server.ts';
import { killEngines, runKilledCreates, type KilledCreates } from '../support/killed-creates.ts';
import { runKilledWorker } from '../support/killed-worker.ts';
import { ADMIN_KEY, createMusterProcess, findFreePort, waitFor } from '../support/muster-process.ts';
import { openScratchDatabase } from '../support/scratch-database.ts';
import { createSeededRandom } from '../support/seeded-random.ts';

const VICTIMS = ['cli', 'api', 'worker'] as const;
/** Control, four vendors, four clouds, their clusters. */
const SANDBOX_PORTS = 10;
/** About as many as a bucket with a user of its own takes. */
const RESOURCES_PER_BUCKET = 10;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '6' },
    first: { type: 'string', default: '1' },
    creates: { type: 'string', default: '200' },
    victim: { type: 'string' },
  },
});
const creates = Number(values.creates);
const first = Number(values.first);
const seeds = Array.from({ length: Number(values.seeds) }, (_, index) => first + index);

const folder = await mkdtemp(join(tmpdir(), 'muster-killed-'));
const database = await openScratchDatabase({ isDurable: false });
const sandboxPort = await findFreePort(SANDBOX_PORTS);
const sandbox = await startSandbox({ port: sandboxPort, dir: join(folder, 'sandbox'), clouds: 'none' });
const clouds = sandbox.clouds as SimulatedClouds;
const secretsKey = randomBytes(32).toString('base64');
const openMuster = (name: string, roles: string) =>
  createMusterProcess({
    dataDir: join(folder, name),
    sandboxPort,
    env: { MUSTER_ROLES: roles, DATABASE_URL: database.url, MUSTER_SECRETS_KEY: secretsKey },
  });
const api = await openMuster('api', 'api');
const worker = await openMuster('worker', 'api,worker,cron');
let broken = 0;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void close().then(() => process.exit(1)));
try {
  await api.start();
  for (const seed of seeds) {
    const victim = (values.victim ?? VICTIMS[seed % VICTIMS.length]) as (typeof VICTIMS)[number];
    if (victim === 'worker' && !worker.isRunning()) {
      await worker.start();
      await waitFor(async () => (await worker.request('GET', '/ready')).status === 200, 60_000, '/ready');
    }
    const report = await run(victim, seed).catch((error: unknown) => ({
      problems: [error instanceof Error ? (error.stack ?? error.message) : String(error)],
      isDone: false,
      made: 0,
      known: 0,
      pending: 0,
    }));
    if (report.problems.length > 0) broken++;
    const { made, known, pending } = report;
    console.log(
      `seed ${seed} ${victim}: ${made} made = ${known} in the state + ${pending} pending at most; ${report.isDone ? 'went on; ' : ''}${report.problems.join('; ') || 'ok'}`,
    );
    for (const { type, id } of clouds.resources()) clouds.drift({ type, name: id, isDeleted: true });
  }
} finally {
  await close();
}
console.log(`${seeds.length} seeds, ${broken} broken`);
process.exit(broken > 0 ? 1 : 0);

async function close(): Promise<void> {
  await Promise.all([api.kill('SIGTERM'), worker.kill('SIGTERM')]);
  await sandbox.close();
  await database.close();
  await rm(folder, { recursive: true, force: true });
}

function run(victim: (typeof VICTIMS)[number], seed: number): Promise<KilledCreates> {
  const random = createSeededRandom(seed);
  const killAt = 5 + random.below(Math.floor(creates * 0.8));
  const name = `${victim}${seed}`;
  if (victim === 'worker')
    return runKilledWorker({
      api,
      worker,
      clouds,
      name,
      buckets: Math.min(20, Math.ceil(creates / RESOURCES_PER_BUCKET)),
      killAt,
    });
  const restartApi = async () => {
    await api.kill('SIGKILL');
    await api.start();
  };
  const kill = victim === 'cli' ? killEngines : restartApi;
  return runKilledCreates({ folder, url: api.url, key: ADMIN_KEY, clouds, name, creates, killAt, kill });
}
