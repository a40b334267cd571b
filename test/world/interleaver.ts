/**
 * The interleaver: runs actors (async functions) one stretch at a time between their points, in an order drawn from the seed, on a
 * clock that moves only between stretches. A crash ends an actor at a point as a kill ends a process: what was done stays done.
 */
import type { SeededRandom } from '../support/seeded-random.ts';

export class Killed extends Error {}

export interface Interleaver {
  readonly now: number;
  spawn(name: string, actor: () => Promise<void>): void;
  /** Everybody else may go on here. Throws Killed where the actor is killed. */
  point(): Promise<void>;
  /** Runs until no actor is left. Throws what an actor threw that is no kill. */
  run(options: { crashChance: number; maxStretches: number; afterEach: () => void }): Promise<number>;
  passTime(ms: number): void;
}

interface Parked {
  release(): void;
  kill(): void;
}

export function createInterleaver(random: SeededRandom, startAt: number): Interleaver {
  let now = startAt;
  let awake = 0;
  const parked: Parked[] = [];
  let failure: unknown;

  async function run(options: Parameters<Interleaver['run']>[0]): Promise<number> {
    let stretches = 0;
    for (;;) {
      while (awake > 0) await new Promise((resolve) => setImmediate(resolve));
      if (failure !== undefined) throw failure as Error;
      options.afterEach();
      if (parked.length === 0) return stretches;
      if (++stretches > options.maxStretches) throw new Error(`not at rest after ${options.maxStretches} stretches`);
      now += random.below(20_000);
      const [next] = parked.splice(random.below(parked.length), 1);
      awake++;
      if (random.chance(options.crashChance)) next?.kill();
      else next?.release();
      // Most stretches end within microtasks: no turn of the event loop is needed for them.
      for (let turn = 0; turn < 12 && awake > 0; turn++) await Promise.resolve();
    }
  }

  return {
    get now() {
      return now;
    },
    spawn(_name, actor) {
      awake++;
      actor()
        .catch((error: unknown) => {
          if (!(error instanceof Killed)) failure ??= error;
        })
        .finally(() => awake--);
    },
    point() {
      awake--;
      return new Promise<void>((resolve, reject) => {
        parked.push({ release: resolve, kill: () => reject(new Killed('killed')) });
      });
    },
    run,
    passTime: (ms) => void (now += ms),
  };
}
