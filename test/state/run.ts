/**
 * `npm run test:state -- [--seeds 100] [--from 1] [--updates 6] [--at-once 2] [--only twins|killed]`: so many generated programs through the real engine, from this
 * seed on. Exits 1 where two states disagree; the seed's line says on what.
 */
import { parseArgs } from 'node:util';
import { openScratchDatabase } from '../support/scratch-database.ts';
import { createSeededRandom } from '../support/seeded-random.ts';
import { generateProgram } from './generate-program.ts';
import { runKilled } from './killed-stacks.ts';
import { openLaboratory } from './laboratory.ts';
import { runTwins } from './twin-stacks.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    updates: { type: 'string', default: '6' },
    'at-once': { type: 'string', default: '2' },
    /** `twins` or `killed`; else of four seeds one is killed. */
    only: { type: 'string' },
  },
});
const numbers = {
  seeds: Number(values.seeds),
  from: Number(values.from),
  updates: Number(values.updates),
  'at-once': Number(values['at-once']),
};
for (const [name, number] of Object.entries(numbers)) {
  if (Number.isInteger(number) && number > 0) continue;
  console.error(`--${name} is a whole number above 0, got ${number}`);
  process.exit(2);
}

const database = await openScratchDatabase({ isDurable: false });
const laboratory = await openLaboratory(database.url);
if (laboratory.go === null) console.log("without the engine's own replayer");
const totals = {
  programs: 0,
  engineRuns: 0,
  compared: 0,
  failed: 0,
  endedEarly: 0,
  kills: 0,
  adopted: 0,
  entries: 0,
  broken: 0,
};
const startedAt = performance.now();
/** Of so many seeds one is a program whose engine is killed. */
const EVERY_KILLED = 4;
let next = numbers.from;
// What has begun is ended and summed up.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void (next = Infinity));

async function runNext(): Promise<void> {
  for (let seed = next; seed < numbers.from + numbers.seeds; seed = next) {
    next++;
    const began = performance.now();
    totals.programs++;
    try {
      const { line, problems } = await (isKilled(seed) ? killProgram(seed) : twinProgram(seed));
      if (problems.length > 0) totals.broken++;
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      console.log(
        [`seed ${seed} ${seconds} s: ${line}, ${problems.length > 0 ? 'BROKEN' : 'ok'}`, ...problems].join('\n  '),
      );
    } catch (error) {
      totals.broken++;
      console.log(`seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
  }
}

function isKilled(seed: number): boolean {
  return values.only === undefined ? seed % EVERY_KILLED === 0 : values.only === 'killed';
}

async function twinProgram(seed: number) {
  const program = generateProgram(createSeededRandom(seed), { updates: numbers.updates });
  const { updates, failed, entries, isEndedEarly, problems } = await runTwins(laboratory, seed, program);
  totals.engineRuns += 2 * updates;
  totals.compared += updates;
  totals.failed += failed;
  if (isEndedEarly) totals.endedEarly++;
  totals.entries += entries;
  const end = isEndedEarly ? ', ended by a state that the engine itself broke' : '';
  return { line: `${updates} updates, ${failed} failed, ${entries} entries${end}`, problems };
}

async function killProgram(seed: number) {
  const random = createSeededRandom(seed);
  const program = generateProgram(random, { updates: numbers.updates, isPlain: true });
  const { updates, kills, adopted, entries, problems } = await runKilled(laboratory, seed, program, random);
  totals.engineRuns += updates;
  totals.kills += kills;
  totals.adopted += adopted;
  totals.entries += entries;
  return { line: `${updates} updates, ${kills} killed, ${adopted} adopted, ${entries} entries`, problems };
}

await Promise.all(Array.from({ length: numbers['at-once'] }, runNext));
console.log(`journals: ${JSON.stringify(laboratory.counts)}`);
await laboratory.close();
await database.close();
console.log(`${JSON.stringify(totals)} in ${((performance.now() - startedAt) / 60_000).toFixed(1)} min`);
process.exit(totals.broken > 0 ? 1 : 0);
