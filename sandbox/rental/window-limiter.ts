/** Quotas over sliding windows, for rate limits of any vendor; what the refusal says is the vendor's own. */

export interface Quota {
  calls: number;
  windowMs: number;
}

export interface QuotaState extends Quota {
  /** Calls left now. */
  left: number;
  /** Until the oldest counted call leaves the window, when none is left; else the whole window. */
  resetMs: number;
}

export interface WindowLimiter {
  /** Counts this call under `key` when every quota allows it; says whether it may pass. */
  take(key: string, quotas: readonly Quota[]): boolean;
  /** How the quotas stand, without counting. */
  look(key: string, quotas: readonly Quota[]): QuotaState[];
}

export function createWindowLimiter(now: () => number): WindowLimiter {
  const calls = new Map<string, number[]>();

  function look(key: string, quotas: readonly Quota[]): QuotaState[] {
    const nowMs = now();
    const longestMs = Math.max(0, ...quotas.map(({ windowMs }) => windowMs));
    const recent = (calls.get(key) ?? []).filter((atMs) => atMs > nowMs - longestMs);
    calls.set(key, recent);
    return quotas.map((quota) => {
      const counted = recent.filter((atMs) => atMs > nowMs - quota.windowMs);
      const left = Math.max(0, quota.calls - counted.length);
      return { ...quota, left, resetMs: (counted[0] ?? nowMs) + quota.windowMs - nowMs };
    });
  }

  return {
    look,
    take(key, quotas) {
      if (look(key, quotas).some(({ left }) => left === 0)) return false;
      calls.get(key)?.push(now());
      return true;
    },
  };
}
