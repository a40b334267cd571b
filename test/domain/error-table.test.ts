import { describe, expect, it } from 'vitest';
import { ERROR_CODES, ERROR_TABLE, MusterError } from '../../domain/error-table.ts';
import { isRetryable, PROVIDER_ERROR_KINDS } from '../../domain/provider-error.ts';

describe('the error table', () => {
  it.each(ERROR_CODES)('%s has a snake_case code, an error status and a title', (code) => {
    expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
    expect(ERROR_TABLE[code].status).toBeGreaterThanOrEqual(400);
    expect(ERROR_TABLE[code].status).toBeLessThan(600);
    expect(ERROR_TABLE[code].title).toMatch(/^[A-Z].*[^.]$/);
  });

  it('has no two codes with one title', () => {
    expect(new Set(ERROR_CODES.map((code) => ERROR_TABLE[code].title)).size).toBe(ERROR_CODES.length);
  });

  it('keeps the cause beside what the caller reads', () => {
    const cause = new Error('select * from secrets');
    const error = new MusterError('internal', 'Something broke.', { cause });
    expect(error.message).toBe('Something broke.');
    expect(error.cause).toBe(cause);
  });
});

describe('provider errors', () => {
  it('that may pass by themselves are retryable, and what a person or another offer must cure is not', () => {
    expect(PROVIDER_ERROR_KINDS.filter(isRetryable)).toEqual(['rate_limited', 'retryable', 'unknown', 'unbelievable']);
  });
});
