/** How long to wait after a call that failed: exponential with full jitter, so that many agents do not come back in step. */
const BASE_MS = 1_000;
/** Twice the usual interval: a control plane that returns knows within it which nodes live. */
const CAP_MS = 20_000;
/** Where our credential is refused, only a person can help: no use in asking often. */
const REFUSED_CAP_MS = 300_000;
const MIN_MS = 250;

/**
 * @param failures in a row before this one; 0 for the first
 * @param random a draw from [0, 1)
 */
export function backoffMs(failures: number, random: number, options: { isRefused: boolean; askedMs: number }): number {
  const cap = options.isRefused ? REFUSED_CAP_MS : CAP_MS;
  const bound = Math.min(cap, BASE_MS * 2 ** Math.min(failures, 20));
  return Math.max(MIN_MS, options.askedMs, Math.round(random * bound));
}
