/** Warm start to /ready, and what the idle control plane and its Postgres weigh. Run: node scripts/bootstrap.mjs bench/start.ts */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { childrenOf, median, openLab, readPssMb, readRssMb, waitUntilReady } from './lab.ts';

const ROUNDS = 5;
const IDLE_MS = 15_000;

const lab = await openLab();
await lab.muster.start(); // the first start makes the database
await waitUntilReady(lab.muster);
await lab.muster.kill('SIGTERM');
const starts: number[] = [];
const stops: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const startedAt = performance.now();
  await lab.muster.start();
  await waitUntilReady(lab.muster);
  starts.push(performance.now() - startedAt);
  if (round === ROUNDS - 1) break;
  const stoppedAt = performance.now();
  await lab.muster.kill('SIGTERM');
  stops.push(performance.now() - stoppedAt);
}
await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
const postmaster = Number(
  readFileSync(join(lab.dir, 'data', 'postgres', 'cluster', 'postmaster.pid'), 'utf8').split('\n')[0],
);
const postgresMb = [postmaster, ...childrenOf(postmaster)].reduce((sum, pid) => sum + readPssMb(pid), 0);
console.log(`warm start to /ready: median ${Math.round(median(starts))} ms (${starts.map(Math.round).join(', ')})`);
console.log(`stop: median ${Math.round(median(stops))} ms`);
console.log(
  `idle control plane (api+worker+cron): RSS ${Math.round(readRssMb(lab.muster.pid))} MB, PSS ${Math.round(readPssMb(lab.muster.pid))} MB`,
);
console.log(`idle Postgres (all processes): PSS ${Math.round(postgresMb)} MB`);
await lab.close();
