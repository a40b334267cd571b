/** A slice of `npm run test:interleavings`; see there for how to run a seed again. */
import { describe, expect, it } from 'vitest';
import { runInterleaving } from './interleaving.ts';

const FIRST_SEED = 1;
const RUNS = 400;

describe('reconcile among creates, destroys, adoptions and foreign machines', () => {
  it(`loses nothing of ours, touches nothing foreign, buys nothing twice and finds every orphan, in ${RUNS} orders`, async () => {
    const reached = { orphans: 0, adopted: 0, foreign: 0, kills: 0 };
    for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
      const { problems, counts } = await runInterleaving(seed);
      expect(problems, `again: npm run test:interleavings -- --seed ${seed} --runs 1`).toEqual([]);
      reached.orphans += counts.orphans;
      reached.adopted += counts.adopted;
      reached.foreign += counts.foreign;
      reached.kills += counts.kills;
    }
    for (const count of Object.values(reached)) expect(count, JSON.stringify(reached)).toBeGreaterThan(RUNS / 10);
  });
});
