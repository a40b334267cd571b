/**
 * Idle: whether an instance has done nothing for long enough to be put to sleep. Decided from what its node reported alone; putting it to
 * sleep is an operation's, and when it must sleep by the clock sleep-schedule.ts's.
 *
 *   idle      every reading of the window is known, below the threshold and without declared activity, and the window is full
 *   busy      it works, or it boots, is set up, is restored or is copied now
 *   unknown   a reading lacks, is old, or has no time that can be: never taken for idle
 *
 * The window begins at the last reading that was anything else, at a gap between two readings, or when the instance became ready.
 */
export interface IdleRule {
  /** A reading at this percentage is busy. */
  belowPercent: number;
  forMs: number;
}

export const DEFAULT_IDLE_RULE: IdleRule = { belowPercent: 5, forMs: 3 * 60_000 };

/** What a node said at one moment; null: not known. */
export interface IdleSample {
  at: number;
  /** The highest of all its GPUs since the sample before. */
  gpuPercent: number | null;
  isActivityDeclared: boolean | null;
}

export interface IdleInput {
  rule: IdleRule;
  /** Oldest first. */
  samples: readonly IdleSample[];
  /** Since when it may be used: when it became ready, or was woken. null: it is not ready. */
  readyAt: number | null;
  /** What runs on its node by our own order, such as a snapshot; null: nothing. */
  busyWith: string | null;
  /** By the clock that stamped the samples. */
  now: number;
}

export type IdleVerdict =
  { kind: 'idle'; since: number } | { kind: 'busy'; reason: string } | { kind: 'unknown'; reason: string };

/** A sample a minute is due: one may be lost and one be late. */
export const MAX_SAMPLE_GAP_MS = 150_000;
/** Of a clock that is set a little back between two readings. */
const CLOCK_SLACK_MS = 2_000;

export function judgeIdle(input: IdleInput): IdleVerdict {
  const { rule, samples, readyAt, busyWith, now } = input;
  if (readyAt === null) return { kind: 'busy', reason: 'it is not ready' };
  if (busyWith !== null) return { kind: 'busy', reason: busyWith };
  const newest = samples.at(-1);
  if (newest === undefined) return { kind: 'unknown', reason: 'its node has reported nothing yet' };
  if (samples.some((sample) => sample.at > now + CLOCK_SLACK_MS))
    return { kind: 'unknown', reason: 'a reading is from the future: the clock was set back' };
  if (now - newest.at > MAX_SAMPLE_GAP_MS)
    return { kind: 'unknown', reason: `its node has been silent for ${seconds(now - newest.at)}` };
  const reading = judgeSample(newest, rule);
  if (reading.kind !== 'idle') return reading;
  const since = Math.max(readyAt, findWindowStart(samples, rule));
  if (now - since >= rule.forMs) return { kind: 'idle', since };
  return { kind: 'busy', reason: `idle for ${seconds(now - since)} only; ${seconds(rule.forMs)} are asked for` };
}

/** The first of the readings that reach to the newest one idle and without a gap. */
function findWindowStart(samples: readonly IdleSample[], rule: IdleRule): number {
  let start = (samples.at(-1) as IdleSample).at;
  for (let index = samples.length - 2; index >= 0; index--) {
    const sample = samples[index] as IdleSample;
    // One that is not older than the next was stamped before the clock was set back.
    if (sample.at > start || start - sample.at > MAX_SAMPLE_GAP_MS || judgeSample(sample, rule).kind !== 'idle') break;
    start = sample.at;
  }
  return start;
}

function judgeSample(sample: IdleSample, rule: IdleRule): IdleVerdict {
  const { gpuPercent, isActivityDeclared } = sample;
  if (isActivityDeclared === true) return { kind: 'busy', reason: 'its workload declared activity' };
  if (gpuPercent !== null && gpuPercent >= rule.belowPercent)
    return { kind: 'busy', reason: `its GPUs are at ${Math.round(gpuPercent)} %` };
  if (gpuPercent === null || !Number.isFinite(gpuPercent) || gpuPercent < 0)
    return { kind: 'unknown', reason: 'how busy its GPUs are is not known' };
  if (isActivityDeclared === null)
    return { kind: 'unknown', reason: 'whether its workload declared activity is not known' };
  return { kind: 'idle', since: sample.at };
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
