/**
 * Many agents on one control plane with its embedded Postgres: how long a heartbeat takes, and what the control plane and Postgres spend
 * on them. Run: node scripts/bootstrap.mjs bench/nodes.ts [agents] [seconds]. The agents are a load of their own process.
 */
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../db/embedded-postgres.ts';
import { newId } from '../db/new-id.ts';
import { openLab, childrenOf, readRssMb, waitUntilReady } from './lab.ts';
import type { LoadOrder, LoadReport } from './nodes-load.ts';

const AGENTS = Number(process.argv[2] ?? 1_000);
const SECONDS = Number(process.argv[3] ?? 60);
const INTERVAL_MS = 10_000;
/** Of /proc/PID/stat, everywhere on Linux. */
const TICKS_PER_SECOND = 100;

const lab = await openLab({
  env: { MUSTER_AGENT: 'on', MUSTER_PROVIDERS: 'vastai', MUSTER_AGENT_INTERVAL: '10 seconds' },
});
const load = fork(join(import.meta.dirname, 'nodes-load.ts'), [], {
  execArgv: ['--disable-warning=ExperimentalWarning'],
});
try {
  await lab.muster.start();
  await waitUntilReady(lab.muster);
  const postgres = await startEmbeddedPostgres({
    dataDir: join(lab.dir, 'data'),
    cacheDir: join(lab.dir, 'cache'),
    log: () => {},
  });
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  const postmaster = postgres.pid;
  await new Promise((resolve) => setTimeout(resolve, 15_000));
  const rest = { rss: readRssMb(lab.muster.pid), cpu: await spend(postmaster, 10) };
  console.log(
    `at rest, without a node: control plane ${rest.cpu.muster.toFixed(1)} % of a core, Postgres ${rest.cpu.postgres.toFixed(1)} %, ${rest.rss.toFixed(0)} MB RSS`,
  );
  let known = 0;
  for (const agents of [Math.round(AGENTS / 4), AGENTS]) {
    const keys = await addNodes(client, agents - known);
    known = agents;
    load.send({ url: lab.muster.url, keys, intervalMs: INTERVAL_MS } satisfies LoadOrder);
    await new Promise((resolve) => setTimeout(resolve, 2 * INTERVAL_MS + 5_000));
    await report();
    const cpu = await spend(postmaster, SECONDS);
    const beats = await report();
    const rss = readRssMb(lab.muster.pid);
    console.log(
      `${agents} agents over ${SECONDS} s: ${beats.beats} heartbeats (failed: ${JSON.stringify(beats.failures)}), p50 ${beats.p50.toFixed(1)} ms, p95 ${beats.p95.toFixed(1)} ms, p99 ${beats.p99.toFixed(1)} ms; ${beats.waiting} waits open`,
    );
    console.log(
      `  control plane ${cpu.muster.toFixed(1)} % of a core, Postgres ${cpu.postgres.toFixed(1)} %; ${rss.toFixed(0)} MB RSS: ${(((rss - rest.rss) * 1024) / agents).toFixed(0)} KB per node`,
    );
  }
  const order = await orderLatency(client);
  console.log(`from the commit of something new to the agent's answer: median ${order.toFixed(1)} ms`);
  await client.end();
  await postgres.stop();
} finally {
  load.kill('SIGKILL');
  await lab.close();
}

function report(): Promise<LoadReport> {
  return new Promise((resolve) => {
    load.once('message', (message) => resolve(message as LoadReport));
    load.send('report');
  });
}

/** Percent of a core over so many seconds. */
async function spend(postmaster: number, seconds: number): Promise<{ muster: number; postgres: number }> {
  const read = () => ({
    muster: ticksOf(lab.muster.pid),
    // Also of those that have ended.
    postgres: ticksOf(postmaster, true) + childrenOf(postmaster).reduce((sum, pid) => sum + ticksOf(pid), 0),
  });
  const startedAt = performance.now();
  const before = read();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const after = read();
  const share = 100 / TICKS_PER_SECOND / ((performance.now() - startedAt) / 1_000);
  return { muster: (after.muster - before.muster) * share, postgres: (after.postgres - before.postgres) * share };
}

function ticksOf(pid: number, withEnded = false): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ').map(Number) ?? [];
    const own = (fields[11] ?? 0) + (fields[12] ?? 0);
    return withEnded ? own + (fields[13] ?? 0) + (fields[14] ?? 0) : own;
  } catch {
    return 0;
  }
}

/** Nodes as registered agents have them. @returns their keys */
async function addNodes(client: pg.Client, count: number): Promise<string[]> {
  const org = (await client.query('select id from orgs limit 1')).rows[0].id as string;
  const keys = Array.from({ length: count }, () => `ma_${randomBytes(24).toString('base64url')}`);
  const hashes = keys.map((key) => createHash('sha256').update(key).digest());
  await client.query(
    `insert into nodes (id, org_id, key_hash, agent_version, hostname)
     select id, $1, key_hash, '0', 'bench' from unnest($2::text[], $3::bytea[]) as given(id, key_hash)`,
    [org, keys.map(() => newId('node')), hashes],
  );
  return keys;
}

async function orderLatency(client: pg.Client): Promise<number> {
  const took: number[] = [];
  for (const key of await addNodes(client, 15)) {
    const hash = createHash('sha256').update(key).digest();
    const answered = fetch(`${lab.muster.url}/api/v1/nodes/desired?after=0&waitMs=20000`, {
      headers: { 'x-agent-api-key': key },
    }).then((reply) => reply.text());
    await new Promise((resolve) => setTimeout(resolve, 300));
    const startedAt = performance.now();
    await client.query(
      `with raised as (update nodes set desired_revision = desired_revision + 1 where key_hash = $1 returning id)
       select pg_notify('node_desired', id) from raised`,
      [hash],
    );
    await answered;
    took.push(performance.now() - startedAt);
  }
  return took.sort((a, b) => a - b)[Math.floor(took.length / 2)] ?? NaN;
}
