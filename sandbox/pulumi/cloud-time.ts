/** How long the simulated clouds take, and waiting for it so that a canceled update need not. */
import type { SandboxClock } from '../clock.ts';
import type { Random } from '../random.ts';

/** `none`: at once. `short`: what takes long takes 1 to 3 s, the rest no time. `real`: as the clouds do. */
export const CLOUD_TIMINGS = ['none', 'short', 'real'] as const;
export type CloudTimings = (typeof CLOUD_TIMINGS)[number];

const LONG_SECONDS = 10;
const SHORT_MS = [1_000, 3_000] as const;

/** `seconds`: from and to, of the real cloud; undefined: no time worth telling. */
export function durationMs(
  timings: CloudTimings,
  seconds: readonly [number, number] | undefined,
  random: Random,
): number {
  if (timings === 'none' || seconds === undefined) return 0;
  if (timings === 'real') return random.int(seconds[0] * 1000, seconds[1] * 1000);
  return seconds[1] < LONG_SECONDS ? 0 : random.int(...SHORT_MS);
}

/** Whoever waits for clouds, by the engine's connection that asked. */
export interface CloudWaits {
  /** Resolves true at that time; false as soon as the connection's update is canceled. */
  until(peer: string, atMs: number): Promise<boolean>;
  cancel(peer: string): void;
  /** Nobody waits any more: the world ends. */
  cancelAll(): void;
}

export function createCloudWaits(clock: SandboxClock): CloudWaits {
  const waiting = new Map<string, Set<() => void>>();
  const cancel = (peer: string): void => {
    for (const end of waiting.get(peer) ?? []) end();
  };
  return {
    until(peer, atMs) {
      if (atMs <= clock.now()) return Promise.resolve(true);
      return new Promise((resolve) => {
        const ends = waiting.get(peer) ?? new Set<() => void>();
        waiting.set(peer, ends);
        const unschedule = Number.isFinite(atMs) ? clock.schedule(atMs, () => finish(true)) : () => {};
        const finish = (isOver: boolean): void => {
          unschedule();
          ends.delete(end);
          if (ends.size === 0) waiting.delete(peer);
          resolve(isOver);
        };
        const end = (): void => finish(false);
        ends.add(end);
      });
    },
    cancel,
    cancelAll() {
      for (const peer of waiting.keys()) cancel(peer);
    },
  };
}
