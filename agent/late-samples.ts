/** What the agent measured while nobody answered: a sample a minute, a day of them at most, told once somebody does. */
import { sampleOf } from '../api/contract/node-sample.ts';
import type { HeartbeatBody, LateSample } from '../api/contract/nodes.ts';

export interface LateSamples {
  /** A heartbeat that did not arrive. */
  keep(body: HeartbeatBody): void;
  /** The oldest ones, as many as fit one heartbeat. */
  next(): LateSample[];
  /** As many as were told. */
  drop(count: number): void;
}

const EVERY_MS = 60_000;
const MAX_KEPT = 1_400;
const MAX_AGO_MS = 86_000_000;
const PER_HEARTBEAT = 60;

export function createLateSamples(monotonicMs: () => number): LateSamples {
  let kept: { atMs: number; sample: Omit<LateSample, 'agoMs'> }[] = [];
  return {
    keep(body) {
      const atMs = monotonicMs();
      if (atMs - (kept.at(-1)?.atMs ?? -Infinity) < EVERY_MS) return;
      kept.push({ atMs, sample: sampleOf(body) });
      if (kept.length > MAX_KEPT) kept.shift();
    },
    next() {
      const now = monotonicMs();
      kept = kept.filter(({ atMs }) => now - atMs < MAX_AGO_MS);
      return kept
        .slice(0, PER_HEARTBEAT)
        .map(({ atMs, sample }) => ({ agoMs: Math.max(0, Math.round(now - atMs)), ...sample }));
    },
    drop: (count) => void kept.splice(0, count),
  };
}
