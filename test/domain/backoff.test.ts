import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MIN_RETRY_MS, RETRY_POLICIES, retryDelayMs, type RetryPolicyName } from '../../domain/backoff.ts';

const policies = fc.constantFrom(...(Object.keys(RETRY_POLICIES) as RetryPolicyName[]));
const failures = fc.integer({ min: 0, max: 100_000 });
const draws = fc.integer({ min: 0, max: 999_999 }).map((n) => n / 1_000_000);

describe('retry delays', () => {
  it('stay between the minimum and the cap, however often it failed', () => {
    fc.assert(
      fc.property(policies, failures, draws, (policy, failed, draw) => {
        const delay = retryDelayMs(policy, failed, draw);
        expect(delay).toBeGreaterThanOrEqual(MIN_RETRY_MS);
        expect(delay).toBeLessThanOrEqual(RETRY_POLICIES[policy].capMs);
      }),
    );
  });

  it('double their bound until the cap', () => {
    const bounds = [0, 1, 2, 3, 4, 5, 6, 7].map((failed) => retryDelayMs('operation', failed, 0.999_999));
    expect(bounds.map((ms) => Math.round(ms / 1000))).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
  });

  it('of a destroy leave time to confirm within 30 s that an outage is over', () => {
    expect(retryDelayMs('destroy', 1_000, 0.999_999)).toBeLessThanOrEqual(20_000);
  });

  it('are never shorter than what the other side asked for', () => {
    fc.assert(
      fc.property(policies, failures, draws, fc.nat({ max: 300_000 }), (policy, failed, draw, asked) => {
        expect(retryDelayMs(policy, failed, draw, asked)).toBeGreaterThanOrEqual(asked);
      }),
    );
  });
});
