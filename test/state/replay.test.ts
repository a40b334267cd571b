/** Our replay of journals held against the engine's own, over generated journals. `npm run test:state -- --seeds N` runs more. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { replayJournal } from '../../domain/state/journal.ts';
import { createSeededRandom } from '../support/seeded-random.ts';
import { comparable } from './compare.ts';
import { generateJournal } from './generate-journal.ts';
import { startGoReplayer, type GoReplayer } from './go-replayer.ts';

const SEEDS = 500;
const BUILD_MS = 15 * 60_000;
const STAMP = { time: '2026-01-01T00:00:00Z', version: 'v3.259.0', magic: '' };

let go: GoReplayer | null;
beforeAll(async () => {
  go = await startGoReplayer();
}, BUILD_MS);
afterAll(() => go?.close());

describe('a replayed journal', () => {
  it(`is what the engine's own replayer makes of it, in ${SEEDS} generated ones`, async ({ skip }) => {
    if (go === null) return skip('the replayer of the engine cannot be built here');
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { base, entries } = generateJournal(createSeededRandom(seed));
      const theirs = await go.replay(base, entries);
      const replay = () => replayJournal({ version: 3, deployment: base }, entries, STAMP);
      if ('error' in theirs) {
        expect(replay, `seed ${seed}: theirs says ${theirs.error}`).toThrow();
        continue;
      }
      expect(comparable(replay()), `seed ${seed}`).toEqual(comparable(theirs));
    }
  }, 60_000);
});
