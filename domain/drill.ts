/**
 * A drill: a failover run on purpose, timed and judged. Its course is a failover's own; here is what is measured of it and when it has
 * failed. What could not be measured is no success.
 */

/** `sandbox`: the simulated machine is killed. `consented`: a real one is fenced and stopped, because somebody agreed to it. */
export const DRILL_MODES = ['sandbox', 'consented'] as const;
export type DrillMode = (typeof DRILL_MODES)[number];

export const DRILL_STATUSES = ['running', 'passed', 'failed', 'canceled'] as const;
export type DrillStatus = (typeof DRILL_STATUSES)[number];

export const DRILL_PHASES = ['preparing', 'injecting', 'detecting', 'failing_over', 'ended'] as const;
export type DrillPhase = (typeof DRILL_PHASES)[number];

/** null: not judged. */
export interface DrillTargets {
  detectionMs: number | null;
  /** From the loss until the workload is served again. */
  rtoMs: number | null;
  /** How old the data may be that is served then. */
  rpoMs: number | null;
  /** Of the failover and the standby until all is as before. */
  costMicroUsd: number | null;
}

/** Moments as RFC 3339 text. */
export interface DrillMoments {
  begun?: string;
  /** That what is served shows. */
  recoveryPoint?: string;
  lost?: string;
  detected?: string;
  serving?: string;
  /** The replacement has the workload. */
  complete?: string;
}

/** null: could not be measured. */
export interface DrillMeasures {
  detectionMs: number | null;
  rtoMs: number | null;
  rpoMs: number | null;
  /** Until the replacement has the workload. */
  restoredMs: number | null;
  costMicroUsd: number | null;
}

/** A drill that runs by itself. */
export interface DrillPolicy {
  mode: DrillMode;
  targets: DrillTargets;
  /** Who agreed, for a real workload. */
  consentBy: string | null;
}

export const DEFAULT_DETECTION_MS = 20_000;
export const DEFAULT_WARM_RTO_MS = 30_000;
/** A stopped machine has to boot. */
export const DEFAULT_STOPPED_RTO_MS = 300_000;

export function measureDrill(moments: DrillMoments, costMicroUsd: number | null): DrillMeasures {
  const since = (from: string | undefined, to: string | undefined) =>
    from === undefined || to === undefined ? null : Math.max(0, Date.parse(to) - Date.parse(from));
  return {
    detectionMs: since(moments.lost, moments.detected),
    rtoMs: since(moments.lost, moments.serving),
    rpoMs: since(moments.recoveryPoint, moments.lost),
    restoredMs: since(moments.lost, moments.complete),
    costMicroUsd,
  };
}

const JUDGED = [
  { key: 'detectionMs', what: 'the loss was noticed', format: formatMs },
  { key: 'rtoMs', what: 'the workload was served again', format: formatMs },
  { key: 'rpoMs', what: 'the data was behind by', format: formatMs },
  { key: 'costMicroUsd', what: 'it cost', format: formatUsd },
] as const;

/** Each target that was missed, or whose figure is not known; empty: it passed. */
export function judgeDrill(measures: DrillMeasures, targets: DrillTargets): string[] {
  return JUDGED.flatMap(({ key, what, format }) => {
    const target = targets[key];
    if (target === null) return [];
    const measured = measures[key];
    if (measured === null) return [`${key}: not measured, ${format(target)} wanted`];
    if (measured <= target) return [];
    return [
      `${key}: ${what} ${key.endsWith('Ms') && key !== 'rpoMs' ? 'after ' : ''}${format(measured)}, ${format(target)} wanted`,
    ];
  });
}

function formatMs(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function formatUsd(microUsd: number): string {
  return `$${(microUsd / 1_000_000).toFixed(4)}`;
}
