/** A slice of `npm run test:state`: some generated programs through the real engine; see there for how to run a seed again. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateProgram } from '../state/generate-program.ts';
import { runKilled } from '../state/killed-stacks.ts';
import { openLaboratory, type Laboratory } from '../state/laboratory.ts';
import { runTwins } from '../state/twin-stacks.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createSeededRandom } from '../support/seeded-random.ts';

const BOUND_MS = 180_000;
/** The engine's replayer is built once. */
const BUILD_MS = 15 * 60_000;
const UPDATES = 3;

let database: TestDatabase;
let laboratory: Laboratory;
beforeAll(async () => {
  database = await createTestDatabase();
  laboratory = await openLaboratory(database.url);
}, BUILD_MS);
afterAll(async () => {
  await laboratory.close();
  await database.drop();
});

describe('generated programs through the real engine', () => {
  it.each([1, 2])(
    'seed %i: journals give the states that the engine itself writes, and what its own replayer makes of them',
    async (seed) => {
      const program = generateProgram(createSeededRandom(seed), { updates: UPDATES });
      const { updates, entries, problems } = await runTwins(laboratory, seed, program);
      expect(problems).toEqual([]);
      expect(updates).toBe(UPDATES);
      expect(entries).toBeGreaterThan(0);
    },
    BOUND_MS,
  );

  it(
    'seed 4: an engine that is killed leaves nothing at the cloud that is not known, and the next one makes nothing twice',
    async () => {
      const random = createSeededRandom(4);
      const program = generateProgram(random, { updates: 2, isPlain: true });
      const { kills, problems } = await runKilled(laboratory, 4, program, random);
      expect(problems).toEqual([]);
      expect(kills).toBeGreaterThan(0);
    },
    BOUND_MS,
  );
});
