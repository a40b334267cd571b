/**
 * Backoff: how long to wait before something that failed is tried again. Exponential with full jitter (a uniform draw below the
 * exponential bound), so that many who failed together do not come back together. The draw is the caller's.
 */
export interface RetryPolicy {
  baseMs: number;
  capMs: number;
}

export const RETRY_POLICIES = {
  operation: { baseMs: 1_000, capMs: 60_000 },
  /** Retried for ever, because what is not destroyed bills. The cap leaves 10 s of the 30 s within which it must be confirmed gone after an outage has healed. */
  destroy: { baseMs: 1_000, capMs: 20_000 },
  /** Deliveries to others' servers. */
  webhook: { baseMs: 10_000, capMs: 6 * 3_600_000 },
} as const satisfies Record<string, RetryPolicy>;
export type RetryPolicyName = keyof typeof RETRY_POLICIES;

/** No draw is so lucky as to retry at once. */
export const MIN_RETRY_MS = 100;

/**
 * Milliseconds to wait.
 * @param failures failures in a row before this one; 0 for the first
 * @param random a draw from [0, 1)
 * @param askedMs what the other side asked us to wait at least
 */
export function retryDelayMs(policy: RetryPolicyName, failures: number, random: number, askedMs = 0): number {
  const { baseMs, capMs } = RETRY_POLICIES[policy];
  // 2^30 s is far above any cap; larger exponents only invite overflow.
  const bound = Math.min(capMs, baseMs * 2 ** Math.min(30, Math.max(0, failures)));
  return Math.max(MIN_RETRY_MS, askedMs, Math.floor(random * bound));
}
