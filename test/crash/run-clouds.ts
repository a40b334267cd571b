/**
 * Kills of stacks of cloud resources as a program: `npm run test:cloud-crash -- --seeds 40 [--first 1] [--kind eks]`. Each seed is one stack's
 * life, the kinds in turn. Exits 1 when anything was left or doubled.
 */
import { parseArgs } from 'node:util';
import { CRASH_KINDS, openCloudCrashLab, type CrashKind } from '../support/cloud-crash.ts';
import { openScratchDatabase } from '../support/scratch-database.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '40' },
    first: { type: 'string', default: '1' },
    kind: { type: 'string' },
  },
});

const first = Number(values.first);
const last = first + Number(values.seeds) - 1;
const total = { kills: 0, found: 0, absent: 0, broken: 0 };
const database = await openScratchDatabase({ isDurable: false });
const lab = await openCloudCrashLab(database.url);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void close().then(() => process.exit(1)));
for (let seed = first; seed <= last; seed++) {
  const kind = (values.kind ?? CRASH_KINDS[seed % CRASH_KINDS.length]) as CrashKind;
  const startedAt = performance.now();
  const report = await lab.run(kind, seed).catch((error: unknown) => ({
    problems: [error instanceof Error ? (error.stack ?? error.message) : String(error)],
    kills: 0,
    found: 0,
    absent: 0,
  }));
  total.kills += report.kills;
  total.found += report.found;
  total.absent += report.absent;
  if (report.problems.length > 0) total.broken++;
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(
    `seed ${seed} ${kind}: ${report.kills} kills, ${report.found} found, ${report.absent} absent, ${seconds} s ${report.problems.join('; ') || 'ok'}`,
  );
}
await close();
console.log(
  `${last - first + 1} seeds, ${total.kills} kills, ${total.found} pending creates found and ${total.absent} absent at the clouds, ${total.broken} broken`,
);
process.exit(total.broken > 0 ? 1 : 0);

async function close(): Promise<void> {
  await lab.close();
  await database.close();
}
