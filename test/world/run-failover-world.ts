/**
 * `npm run test:failover-world -- [--seeds 200] [--seed 1] [--hours 2] [--deeds 5] [--together 6] [--only rot,host_loss] [--trace]`: so many times some hours of the failover
 * world, from this seed on. Exits 1 when any promise broke; the line of the run names its seed, and what is known of it follows.
 */
import { homedir, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startEmbeddedPostgres } from '../../db/embedded-postgres.ts';
import { openVirtualServer } from '../support/virtual-database.ts';
import { DEED_NAMES, type Deed } from './failover-script.ts';
import { runFailoverWorld, type FailoverWorldReport } from './failover-world.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    hours: { type: 'string', default: '2' },
    deeds: { type: 'string', default: '5' },
    /** At once: each waits for its database most of the time. */
    together: { type: 'string', default: '6' },
    /** Deeds of these kinds, between commas. */
    only: { type: 'string' },
    trace: { type: 'boolean', default: false },
  },
});
const numbers = {
  seed: Number(values.seed),
  seeds: Number(values.seeds),
  hours: Number(values.hours),
  deeds: Number(values.deeds),
  together: Number(values.together),
};
for (const [name, number] of Object.entries(numbers)) {
  if (Number.isInteger(number) && number > 0) continue;
  console.error(`--${name} is a whole number above 0, got ${number}`);
  process.exit(2);
}

const only = values.only?.split(',').map((name): Deed => {
  const found = DEED_NAMES.find((one) => one === name);
  if (found) return found;
  console.error(`--only takes ${DEED_NAMES.join(', ')}, got ${name}`);
  process.exit(2);
});

const SUMS = [
  'steps',
  'failovers',
  'takeovers',
  'sleeps',
  'snapshots',
  'failedSnapshots',
  'fenced',
  'alarms',
  'refusals',
] as const;
const totals = Object.fromEntries(SUMS.map((name) => [name, 0])) as Record<(typeof SUMS)[number], number>;
let broken = 0;
let virtualHours = 0;
const startedAt = performance.now();
// A server of its own: that of the tests ends with them.
const postgres = await startEmbeddedPostgres({
  dataDir: join(tmpdir(), `muster-failover-world-${userInfo().uid}`),
  cacheDir: join(homedir(), '.cache', 'muster'),
  log: () => {},
  isDurable: false,
  maxConnections: 300,
});
const server = await openVirtualServer(postgres.url);
let next = numbers.seed;
await Promise.all(
  Array.from({ length: Math.min(numbers.together, numbers.seeds) }, async () => {
    while (next < numbers.seed + numbers.seeds) await runOne(next++);
  }),
);
await server.close();
await postgres.stop();
const minutes = ((performance.now() - startedAt) / 60_000).toFixed(1);
console.log(
  `seeds ${numbers.seed} to ${next - 1}, ${virtualHours.toFixed(0)} virtual hours: ${broken} broken, in ${minutes} min: ${JSON.stringify(totals)}`,
);
process.exit(broken > 0 ? 1 : 0);

async function runOne(seed: number): Promise<void> {
  const began = performance.now();
  const trace = values.trace ? { trace: (line: string) => console.log(`seed ${seed}: ${line}`) } : {};
  const { hours, deeds } = numbers;
  const line = await runFailoverWorld({ seed, server, hours, deeds, only, ...trace }).then(
    describe,
    (error: unknown) => {
      broken++;
      return error instanceof Error ? (error.stack ?? error.message) : String(error);
    },
  );
  console.log(`seed ${seed} ${((performance.now() - began) / 1000).toFixed(1)} s: ${line}`);
}

function describe(report: FailoverWorldReport): string {
  for (const name of SUMS) totals[name] += report[name];
  virtualHours += report.virtualHours;
  const { problems, evidence } = report;
  const line = SUMS.map((name) => `${report[name]} ${name}`).join(', ');
  if (problems.length === 0) return `${line}, ok`;
  broken++;
  return [`${line}, BROKEN`, ...problems, ...evidence].join('\n  ');
}
