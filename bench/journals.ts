/**
 * Journal writes of the state service: 50 journals of the engine's CLI, recorded from ups and destroys against simulated clouds, are sent again by
 * 50 clients at once, each with its pauses and, like a CLI, one connection that it keeps. What the stacks hold before is imported before the
 * clock starts. Run: node scripts/bootstrap.mjs bench/journals.ts [--journals 50] [--clients 50]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import type { OutputMap } from '@pulumi/pulumi/automation/index.js';
import { secret } from '@pulumi/pulumi/output.js';
import { startSimulatedClouds } from '../sandbox/pulumi/clouds.ts';
import { openEngineStack, PROJECT_NAME } from '../test/support/engine-stack.ts';
import { ADMIN_KEY, createMusterProcess, findFreePort } from '../test/support/muster-process.ts';
import { startJournalRecorder, type RecordedJournal } from './journal-recorder.ts';
import { childrenOf, median, percentile, startDatabase } from './lab.ts';
import { readProcessorMs } from './processor-time.ts';

const { values } = parseArgs({
  options: { journals: { type: 'string', default: '50' }, clients: { type: 'string', default: '50' } },
});
const [JOURNALS, CLIENTS] = [Number(values.journals), Number(values.clients)];
/** Of a create or delete at the cloud. */
const STEP_MS = 150;
/** Clients do not begin in the same millisecond. */
const SPREAD_MS = 500;

const dir = mkdtempSync(join(tmpdir(), 'muster-bench-'));
const postgres = await startDatabase(dir);
const muster = await createMusterProcess({
  dataDir: join(dir, 'data'),
  sandboxPort: await findFreePort(10),
  env: { MUSTER_ROLES: 'api', DATABASE_URL: postgres.url, MUSTER_LOG_LEVEL: 'warn' },
});
try {
  await muster.start();
  const journals = await record();
  const batches = journals.flatMap((journal) => journal.batches);
  const entries = batches.reduce((sum, { body }) => sum + countEntries(body), 0);
  console.log(`recorded ${journals.length} journals: ${entries} entries in ${batches.length} batches`);
  await replay(journals);
} finally {
  await muster.kill('SIGTERM');
  await postgres.stop();
  rmSync(dir, { recursive: true, force: true });
}

/** Stacks of 10 to 58 resources with secrets, one after the other, each made and destroyed. */
async function record(): Promise<RecordedJournal[]> {
  const clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
  for (const operation of ['create', 'delete'] as const) clouds.fault({ kind: 'slow', operation, delayMs: STEP_MS });
  const recorder = await startJournalRecorder(muster.url, async (path) => (await send('GET', `${path}/export`)).text);
  const journals: RecordedJournal[] = [];
  for (let stack = 0; journals.length < JOURNALS; stack++) {
    const name = `recorded-${stack}`;
    const engine = await openEngineStack({
      folder: dir,
      name,
      program: () => makeNetwork(name, 8 + (stack % 25) * 2),
      // The CLI's own pause between batches, as with a person.
      backend: {
        PULUMI_BACKEND_URL: recorder.url,
        PULUMI_ACCESS_TOKEN: ADMIN_KEY,
        PULUMI_JOURNALING_BATCH_PERIOD: '50',
      },
      cloudPorts: clouds.ports,
    });
    engine.workspace.selectStack = async () => {};
    const slim = engine as unknown as { outputs(): Promise<OutputMap>; info(): Promise<undefined> };
    slim.outputs = async () => ({});
    slim.info = async () => undefined;
    await engine.up({ parallel: 16 });
    await engine.destroy({ parallel: 16 });
    journals.push(...recorder.take().filter(({ batches }) => batches.length > 0));
  }
  recorder.close();
  clouds.close();
  return journals.slice(0, JOURNALS);
}

function makeNetwork(name: string, subnets: number): Promise<Record<string, unknown>> {
  const vpc = new Vpc(`${name}-vpc`, { cidrBlock: '10.0.0.0/16' });
  for (let index = 0; index < subnets; index++)
    new Subnet(`${name}-${index}`, {
      vpcId: vpc.id,
      cidrBlock: `10.0.${index}.0/24`,
      availabilityZone: 'us-east-1a',
      tags: { token: secret(`${name}-${index}`) },
    });
  return Promise.resolve({ password: secret('swordfish') });
}

async function replay(journals: RecordedJournal[]): Promise<void> {
  const clients: Client[] = [];
  for (let index = 0; index < CLIENTS; index++)
    clients.push(await prepareClient(`client-${index}`, journals[index % journals.length] as RecordedJournal));
  const writes: number[] = [];
  const ends: number[] = [];
  const before = readProcessors();
  const startedAt = performance.now();
  await Promise.all(
    clients.map(async ({ journal, update, connection }, index) => {
      await delay((index / CLIENTS) * SPREAD_MS);
      const started = await send('POST', update, { body: '{"journalVersion":1}', connection });
      const { token: lease } = JSON.parse(started.text) as { token: string };
      for (const { pauseMs, body } of journal.batches) {
        await delay(pauseMs);
        writes.push((await send('PATCH', `${update}/journalentries`, { body, lease, connection })).ms);
      }
      const body = '{"status":"succeeded"}';
      ends.push((await send('POST', `${update}/complete`, { body, lease, connection })).ms);
      connection.destroy();
    }),
  );
  const seconds = (performance.now() - startedAt) / 1000;
  const after = readProcessors();
  report(`journal writes (${writes.length} in ${seconds.toFixed(1)} s)`, writes);
  report('ends of updates, each with a replay', ends);
  const perWrite = (who: keyof typeof after) => ((after[who] - before[who]) / writes.length).toFixed(2);
  console.log(
    `processor per write, starts and ends included: API ${perWrite('api')} ms, Postgres ${perWrite('postgres')} ms, all clients ${perWrite('clients')} ms`,
  );
  console.log(`load before and now: ${loadavg()[1]?.toFixed(1)}, ${loadavg()[0]?.toFixed(1)}`);
}

interface Client {
  journal: RecordedJournal;
  /** Made and not started: the path of its calls. */
  update: string;
  connection: Agent;
}

async function prepareClient(name: string, journal: RecordedJournal): Promise<Client> {
  const connection = new Agent({ keepAlive: true, maxSockets: 1 });
  const stack = `stacks/organization/${PROJECT_NAME}/${name}`;
  const stackName = JSON.stringify({ stackName: name });
  await send('POST', `stacks/organization/${PROJECT_NAME}`, { body: stackName, connection });
  await send('POST', `${stack}/import`, { body: journal.base, connection });
  const made = await send('POST', `${stack}/update`, { body: '{}', connection });
  const { updateID: id } = JSON.parse(made.text) as { updateID: string };
  return { journal, update: `${stack}/update/${id}`, connection };
}

/** In milliseconds of processor. The clients and the rest of this process are one. */
function readProcessors() {
  const servers = [postgres.pid, ...childrenOf(postgres.pid)].map((pid) => readProcessorMs(pid).own);
  return {
    api: readProcessorMs(muster.pid).own,
    postgres: servers.reduce((sum, ms) => sum + ms, 0),
    clients: readProcessorMs('self').own,
  };
}

interface Sent {
  /** A buffer is gzip. */
  body?: string | Buffer;
  /** Of an update; else as the admin. */
  lease?: string;
  /** @default one of its own */
  connection?: Agent;
}

/** By node:http: fetch takes more than twice the processor, for which the service would wait on two cores. Throws on anything but a 2xx. */
function send(
  method: string,
  path: string,
  { body = '', lease, connection }: Sent = {},
): Promise<{ text: string; ms: number }> {
  const startedAt = performance.now();
  const headers = {
    authorization: lease === undefined ? `token ${ADMIN_KEY}` : `update-token ${lease}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...(body instanceof Buffer ? { 'content-encoding': 'gzip' } : {}),
  };
  return new Promise((resolve, reject) => {
    const sent = request(`${muster.url}/api/${path}`, {
      method,
      headers,
      ...(connection ? { agent: connection } : {}),
    });
    sent.on('error', reject);
    sent.on('response', (reply) => {
      const chunks: Buffer[] = [];
      reply.on('data', (chunk: Buffer) => chunks.push(chunk));
      reply.on('error', reject);
      reply.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if (reply.statusCode === 200) resolve({ text, ms: performance.now() - startedAt });
        else reject(new Error(`${method} ${path}: ${reply.statusCode} ${text}`));
      });
    });
    sent.end(body);
  });
}

function countEntries(body: Buffer): number {
  return (JSON.parse(gunzipSync(body).toString('utf8')) as { entries: unknown[] }).entries.length;
}

function report(name: string, latencies: number[]): void {
  const show = (value: number) => value.toFixed(1).padStart(6);
  console.log(
    `${name.padEnd(40)} p50 ${show(median(latencies))} ms  p95 ${show(percentile(latencies, 0.95))} ms  p99 ${show(percentile(latencies, 0.99))} ms`,
  );
}
