/**
 * The crash matrix as a program: `npm run test:crash -- --seeds 400 [--first 1] [--point NAME] [--victim NAME] [--provider NAME]`. Each seed is
 * one cell: a kill point and victim (all pairs in turn), a provider (each pair at each in four rounds), a strategy and faults drawn from
 * the seed. Exits 1 when any invariant broke.
 */
import { parseArgs } from 'node:util';
import { CRASH_POINTS, type CrashPointName } from '../../domain/crash-points.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import { startCrashFleet, VICTIMS, type CrashCell, type Victim } from '../support/crash-fleet.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '300' },
    first: { type: 'string', default: '1' },
    point: { type: 'string' },
    victim: { type: 'string' },
    provider: { type: 'string' },
  },
});

/**
 * Of sleeping, waking and failing over: no machine of the matrix carries an agent, so none is reached here. Workers are killed at each of
 * them in test/automation/operations/hibernate-crash.test.ts and beside it.
 */
const WITH_AGENTS = /^(hibernate|snapshot|restore|failover)_/;
const POINTS = CRASH_POINTS.filter((point) => !WITH_AGENTS.test(point));

const first = Number(values.first);
const last = first + Number(values.seeds) - 1;
let broken = 0;
let fired = 0;
let bought = 0;
const fleet = await startCrashFleet();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => void fleet.close().then(() => process.exit(1)));
for (let seed = first; seed <= last; seed++) {
  const cell = drawCell(seed);
  const startedAt = performance.now();
  try {
    const report = await fleet.run(cell);
    if (report.fired) fired++;
    bought += report.machinesBought;
    if (report.problems.length > 0) broken++;
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(
      `seed ${seed} ${cell.point} ${cell.victim} ${cell.provider} ${cell.strategy}×${cell.count} ${report.fired ? 'killed' : 'not reached'} ${seconds} s ${report.problems.join('; ') || 'ok'}`,
    );
  } catch (error) {
    broken++;
    console.log(
      `seed ${seed} ${cell.point} ${cell.victim} ${cell.provider} ${cell.strategy}×${cell.count} FAILED ${String(error)}`,
    );
  }
}
await fleet.close();
console.log(`${last - first + 1} seeds, ${fired} kills, ${bought} machines bought, ${broken} broken`);
process.exit(broken > 0 ? 1 : 0);

export function drawCell(seed: number): CrashCell {
  const pairs = POINTS.length * VICTIMS.length;
  const pair = seed % pairs;
  const turn = PROVIDER_NAMES[(seed + Math.floor(seed / pairs)) % PROVIDER_NAMES.length];
  const point = (values.point ?? POINTS[pair % POINTS.length]) as CrashPointName;
  // Points that only a race or only a claim reaches are drawn with one. warm_given_up needs a dead machine besides, and stays unreached here:
  // test/automation/operations/serverless-crash.test.ts kills a worker there.
  const needsRace = point === 'losers_marked';
  const needsPool = point.startsWith('warm_');
  const victim = (values.victim ?? VICTIMS[Math.floor(pair / POINTS.length)]) as Victim;
  return {
    seed,
    point,
    victim,
    provider: (values.provider ?? turn) as ProviderName,
    strategy: needsPool ? 'serverless' : needsRace || seed % 3 === 0 ? 'race' : 'coldstart',
    count: seed % 5 === 0 ? 3 : 1,
    lostResponses: seed % 2 === 0 ? 0.3 : 0,
    staleOffers: 0.1,
  };
}
