import { describe, expect, it } from 'vitest';
import { MusterError } from '../../domain/error-table.ts';
import { extendedLifetimeMs, isExpired, resolveLifetime, type LifetimeRules } from '../../domain/lifetime.ts';

const HOUR = 3_600_000;
const rules: LifetimeRules = { maxLifetimeMs: 12 * HOUR, role: 'operator', overrideReason: undefined };

function refusal(requestedMs: number | null, over: Partial<LifetimeRules>): MusterError {
  try {
    resolveLifetime(requestedMs, { ...rules, ...over });
  } catch (error) {
    if (error instanceof MusterError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

describe('a lifetime', () => {
  it("is the deployment's maximum by default", () => {
    expect(resolveLifetime(undefined, rules)).toEqual({ lifetimeMs: 12 * HOUR, overrideReason: null });
  });

  it('up to the maximum needs no reason and keeps none', () => {
    expect(resolveLifetime(12 * HOUR, { ...rules, overrideReason: 'because' })).toEqual({
      lifetimeMs: 12 * HOUR,
      overrideReason: null,
    });
  });

  it.each([12 * HOUR + 1, null])('of %s ms needs a reason', (requested) => {
    expect(refusal(requested, {})).toMatchObject({ code: 'invalid_request', errors: [{ path: 'overrideReason' }] });
    expect(refusal(requested, { overrideReason: '  ' }).code).toBe('invalid_request');
    expect(resolveLifetime(requested, { ...rules, overrideReason: ' long run ' })).toEqual({
      lifetimeMs: requested,
      overrideReason: 'long run',
    });
  });

  it.each(['viewer', 'billing'] as const)('beyond the maximum is not for a %s, whatever the reason', (role) => {
    expect(refusal(null, { role, overrideReason: 'please' }).code).toBe('forbidden');
  });

  it.each([0, -1, Number.NaN])('of %s is none', (requested) => {
    expect(refusal(requested, { path: 'by' })).toMatchObject({ code: 'invalid_request', errors: [{ path: 'by' }] });
  });

  it('is over from its last moment on, and one without an end never is', () => {
    expect(isExpired(HOUR, HOUR - 1)).toBe(false);
    expect(isExpired(HOUR, HOUR)).toBe(true);
    expect(isExpired(null, Infinity)).toBe(false);
  });

  it('that is extended is judged as a whole', () => {
    expect(extendedLifetimeMs(1_000, 1_000 + HOUR, 2 * HOUR)).toBe(3 * HOUR);
    expect(extendedLifetimeMs(1_000, null, HOUR)).toBeNull();
  });
});
