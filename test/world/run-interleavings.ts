/**
 * `npm run test:interleavings -- [--runs 10000] [--seed 1]`: so many interleavings, from this seed on. Exits 1 when any promise broke; the
 * line of the run names its seed.
 */
import { parseArgs } from 'node:util';
import { runInterleaving, type InterleavingReport } from './interleaving.ts';

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '10000' }, seed: { type: 'string', default: '1' } },
});
const first = Number(values.seed);
const runs = Number(values.runs);
if (!Number.isInteger(first) || !Number.isInteger(runs) || runs < 1) {
  console.error(`--runs and --seed are whole numbers, got ${values.runs} and ${values.seed}`);
  process.exit(2);
}

const totals: Partial<InterleavingReport['counts']> = {};
let stretches = 0;
let broken = 0;
const startedAt = performance.now();
for (let seed = first; seed < first + runs; seed++) {
  try {
    const report = await runInterleaving(seed);
    stretches += report.stretches;
    for (const [name, count] of Object.entries(report.counts) as [keyof InterleavingReport['counts'], number][]) {
      totals[name] = (totals[name] ?? 0) + count;
    }
    if (report.problems.length > 0) {
      broken++;
      console.log(`seed ${seed}: ${report.problems.join('; ')}`);
    }
  } catch (error) {
    broken++;
    console.log(`seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
}
const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
console.log(`seeds ${first}–${first + runs - 1}: ${broken} broken, ${stretches} stretches in ${seconds} s`);
console.log(
  Object.entries(totals)
    .map(([name, count]) => `${count} ${name}`)
    .join(', '),
);
process.exit(broken > 0 ? 1 : 0);
