/**
 * The crash matrix as a program: `npm run test:crash -- --seeds 400 [--first 1] [--points NAME,NAME] [--victim NAME] [--provider NAME] [--scenario NAME]`.
 * Each seed is one cell (test/support/crash-cells.ts): all pairs of a kill point and a victim in turn, in each round at another provider and
 * in another scenario. Exits 1 when any promise broke, or a place was not reached that its scenario is to pass.
 */
import { parseArgs } from 'node:util';
import { drawCell, type CellWish, type Kill } from '../support/crash-cells.ts';
import { startCrashFleet } from '../support/crash-fleet.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '300' },
    first: { type: 'string', default: '1' },
    points: { type: 'string' },
    victim: { type: 'string' },
    provider: { type: 'string' },
    scenario: { type: 'string' },
  },
});
const { seeds, first: from, points: places, ...others } = values;
const points = places === undefined ? {} : { points: places.split(',') };
const first = Number(from);
const last = first + Number(seeds) - 1;
let broken = 0;
let bought = 0;
const missed = new Map<string, boolean>();
let fleet = await startCrashFleet();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => void fleet.close().then(() => process.exit(1)));
for (let seed = first; seed <= last; seed++) {
  const cell = drawCell(seed, { ...others, ...points } as CellWish);
  const startedAt = performance.now();
  const { point, victim } = cell.kills[0] as Kill;
  const about = `seed ${seed} ${point} ${victim} ${cell.provider} ${cell.scenario}×${cell.count}`;
  const place = `${point} in ${cell.scenario}`;
  try {
    const { missed: places, machinesBought, problems } = await fleet.run(cell);
    const isKilled = places.length === 0;
    missed.set(place, (missed.get(place) ?? true) && !isKilled);
    bought += machinesBought;
    if (problems.length > 0) broken++;
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(`${about} ${isKilled ? 'killed' : 'not reached'} ${seconds} s ${problems.join('; ') || 'ok'}`);
  } catch (error) {
    broken++;
    console.log(`${about} FAILED ${error instanceof Error ? error.stack : String(error)}`);
    // What it left behind would be held against the next cell.
    await fleet.close();
    fleet = await startCrashFleet();
  }
}
await fleet.close();
const never = [...missed].flatMap(([place, isMissed]) => (isMissed ? [place] : []));
if (never.length > 0) console.log(`never reached: ${never.join(', ')}`);
console.log(`${last - first + 1} seeds, ${bought} machines bought, ${broken} broken`);
process.exit(broken > 0 || never.length > 0 ? 1 : 0);
