/**
 * `npm run test:world -- [--seeds 200] [--seed 1] [--hours 168] [--jobs 2] [--trace]`: so many virtual weeks, from this seed on. Exits 1 when any
 * promise broke; the line of the week names its seed.
 */
import { homedir, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startEmbeddedPostgres } from '../../db/embedded-postgres.ts';
import { openVirtualServer } from '../support/virtual-database.ts';
import { runWorld } from './world.ts';
import { startWorldMachines } from './world-machines.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    hours: { type: 'string', default: '168' },
    deeds: { type: 'string', default: '60' },
    jobs: { type: 'string', default: '2' },
    trace: { type: 'boolean', default: false },
  },
});
const [first, seeds, hours, deeds, jobs] = [values.seed, values.seeds, values.hours, values.deeds, values.jobs].map(
  Number,
) as [number, number, number, number, number];
if (![first, seeds, hours, deeds, jobs].every((one) => Number.isInteger(one) && one > 0)) {
  console.error('--seeds, --seed, --hours, --deeds and --jobs are whole numbers above 0');
  process.exit(2);
}

const postgres = await startEmbeddedPostgres({
  dataDir: join(tmpdir(), `muster-tests-${userInfo().uid}`),
  cacheDir: join(homedir(), '.cache', 'muster'),
  log: () => {},
  isDurable: false,
  maxConnections: 300,
});
const server = await openVirtualServer(postgres.url);
const machines = await startWorldMachines();
let broken = 0;
const totals = { steps: 0, bought: 0, destroyed: 0, ready: 0, crashes: 0, findings: 0 };
const startedAt = performance.now();
let next = first;

async function runWeek(seed: number): Promise<void> {
  const began = performance.now();
  const trace = values.trace ? { trace: (line: string) => console.log(line) } : {};
  let line: string;
  try {
    const report = await runWorld({ seed, server, ssh: machines.places, keys: machines.keys, hours, deeds, ...trace });
    for (const name of Object.keys(totals) as (keyof typeof totals)[]) totals[name] += report[name];
    if (report.problems.length > 0) broken++;
    const { steps, bought, ready, crashes, findings } = report;
    line = `${steps} steps, ${bought} bought, ${ready} ready, ${crashes} crashes, ${findings} findings, ${report.problems.join('; ') || 'ok'}`;
    if (values.trace || report.problems.length > 0) line += report.errors.map((error) => `\n  ${error}`).join('');
  } catch (error) {
    broken++;
    line = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  console.log(`seed ${seed} ${((performance.now() - began) / 1000).toFixed(1)} s: ${line}`);
}

async function runWeeks(): Promise<void> {
  while (next < first + seeds) await runWeek(next++);
}

await Promise.all(Array.from({ length: jobs }, runWeeks));
await machines.close();
await server.close();
await postgres.stop();
const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
console.log(`${seeds} weeks of ${hours} h, ${broken} broken, in ${seconds} s: ${JSON.stringify(totals)}`);
process.exit(broken > 0 ? 1 : 0);
