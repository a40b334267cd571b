/**
 * Seeded randomness: the same seed and the same stream name always give the same numbers.
 * Streams are named after what they decide (a slot, a machine, a fault), never shared, so that the order in
 * which concurrent requests arrive does not change what any one of them gets.
 */

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [min, max]. */
  int(min: number, max: number): number;
  pick<T>(list: readonly T[]): T;
}

/** A stream of its own for `name` under `seed`. */
export function createRandom(seed: number, name: string): Random {
  let state = hashName(seed, name);
  // mulberry32: 32 bits of state are enough for a simulator, and it is fast and well spread.
  function next(): number {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }
  return {
    next,
    int: (min, max) => min + Math.floor(next() * (max - min + 1)),
    pick: (list) => list[Math.floor(next() * list.length)]!,
  };
}

function hashName(seed: number, name: string): number {
  let hash = (2_166_136_261 ^ seed) >>> 0;
  for (let i = 0; i < name.length; i++) {
    hash = Math.imul(hash ^ name.charCodeAt(i), 16_777_619) >>> 0;
  }
  return hash;
}
