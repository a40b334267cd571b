/** The busiest moment of the GPUs within the last minute, so that work between two samples is seen. What was not known makes it unknown. */
import type { GpuReading } from '../../api/contract/nodes.ts';

export interface GpuPeak {
  add(reading: GpuReading): void;
  /** null: of some GPU or moment nothing is known. */
  percent(): number | null;
}

/** A little more than the minute of a sample. */
const WINDOW_MS = 65_000;

export function createGpuPeak(monotonicMs: () => number): GpuPeak {
  let seen: { atMs: number; percent: number | null }[] = [];
  const recent = () => seen.filter(({ atMs }) => monotonicMs() - atMs <= WINDOW_MS);
  return {
    add({ gpus }) {
      const percents = (gpus ?? []).map(({ utilizationPercent }) => utilizationPercent);
      const known = percents.filter((percent) => percent !== null);
      const isKnown = known.length > 0 && known.length === percents.length;
      seen = [...recent(), { atMs: monotonicMs(), percent: isKnown ? Math.max(...known) : null }];
    },
    percent() {
      const known = recent().map(({ percent }) => percent);
      if (known.length === 0 || known.includes(null)) return null;
      return Math.max(...known.filter((percent) => percent !== null));
    },
  };
}
