/**
 * `npm run test:world -- [--seeds 200] [--seed 1] [--hours 168] [--deeds 60] [--processes 2] [--trace]`: so many virtual weeks, from this seed
 * on. Exits 1 when any promise broke; the line of the week names its seed, and what is known of the broken promise follows.
 */
import { fork } from 'node:child_process';
import { homedir, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startEmbeddedPostgres } from '../../db/embedded-postgres.ts';
import { openVirtualServer } from '../support/virtual-database.ts';
import { runWorld, type WorldReport } from './world.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    hours: { type: 'string', default: '168' },
    deeds: { type: 'string', default: '60' },
    processes: { type: 'string', default: '2' },
    trace: { type: 'boolean', default: false },
    /** Given to a child: which share of the seeds is its own. */
    share: { type: 'string' },
  },
});
const numbers = {
  seed: Number(values.seed),
  seeds: Number(values.seeds),
  hours: Number(values.hours),
  deeds: Number(values.deeds),
  processes: Number(values.processes),
};
for (const [name, number] of Object.entries(numbers)) {
  if (Number.isInteger(number) && number > 0) continue;
  console.error(`--${name} is a whole number above 0, got ${number}`);
  process.exit(2);
}

const SUMS = ['steps', 'bought', 'destroyed', 'ready', 'crashes', 'orphans', 'findings'] as const;
type Totals = Record<(typeof SUMS)[number] | 'broken', number>;
const totals: Totals = { broken: 0, steps: 0, bought: 0, destroyed: 0, ready: 0, crashes: 0, orphans: 0, findings: 0 };
/** A process runs two weeks side by side: each waits for its database half of the time. */
const AT_ONCE = 2;

if (values.share === undefined) await runAll();
else await runShare(Number(values.share));

async function runAll(): Promise<void> {
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: numbers.processes }, (_, share) => runChild(share)));
  const minutes = ((performance.now() - startedAt) / 60_000).toFixed(1);
  const { broken, ...sums } = totals;
  console.log(
    `seeds ${numbers.seed} to ${numbers.seed + numbers.seeds - 1}, ${numbers.hours} h each: ${broken} broken, in ${minutes} min: ${JSON.stringify(sums)}`,
  );
  process.exit(broken > 0 ? 1 : 0);
}

function runChild(share: number): Promise<void> {
  return new Promise((resolve) => {
    let isDone = false;
    const child = fork(import.meta.filename, [...process.argv.slice(2), '--share', String(share)]);
    child.on('message', (sums: Totals) => {
      isDone = true;
      for (const name of Object.keys(totals) as (keyof Totals)[]) totals[name] += sums[name];
    });
    child.on('exit', (code) => {
      if (!isDone) {
        totals.broken++;
        console.log(`process ${share} ended early (${code})`);
      }
      resolve();
    });
  });
}

async function runShare(share: number): Promise<void> {
  // A server of its own: that of the tests ends with them.
  const postgres = await startEmbeddedPostgres({
    dataDir: join(tmpdir(), `muster-world-${userInfo().uid}`),
    cacheDir: join(homedir(), '.cache', 'muster'),
    log: () => {},
    isDurable: false,
    maxConnections: 300,
  });
  const server = await openVirtualServer(postgres.url);
  let next = numbers.seed + share;
  const runNext = async (): Promise<void> => {
    for (let seed = next; seed < numbers.seed + numbers.seeds; seed = next) {
      next += numbers.processes;
      await runWeek(seed);
    }
  };
  async function runWeek(seed: number): Promise<void> {
    const began = performance.now();
    const trace = values.trace ? { trace: (line: string) => console.log(line) } : {};
    const { hours, deeds } = numbers;
    const line = await runWorld({ seed, server, hours, deeds, ...trace }).then(describe, (error: unknown) => {
      totals.broken++;
      return error instanceof Error ? (error.stack ?? error.message) : String(error);
    });
    console.log(`seed ${seed} ${((performance.now() - began) / 1000).toFixed(1)} s: ${line}`);
  }
  await Promise.all(Array.from({ length: AT_ONCE }, runNext));
  await server.close();
  await postgres.stop();
  process.send?.(totals, () => process.exit(0));
}

function describe(report: WorldReport): string {
  for (const name of SUMS) totals[name] += report[name];
  const { steps, bought, ready, crashes, orphans, findings, problems, evidence } = report;
  const line = `${steps} steps, ${bought} bought, ${ready} ready, ${crashes} crashes, ${orphans} orphans, ${findings} findings`;
  if (problems.length === 0) return `${line}, ok`;
  totals.broken++;
  return [`${line}, BROKEN`, ...problems, ...evidence].join('\n  ');
}
