import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatDuration, parseDuration } from '../../domain/duration.ts';

describe('a duration', () => {
  it.each([
    ['12 hours', 43_200_000],
    ['1 hour', 3_600_000],
    ['3 minutes', 180_000],
    ['90s', 90_000],
    ['15m', 900_000],
    ['1.5 hours', 5_400_000],
    [' 2 Days ', 172_800_000],
    ['250 ms', 250],
  ])('%j is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each(['', '12', 'hours', '-1 hour', '1 fortnight', '1 hour 5 minutes', '1e3 s', 'Infinity s', '1 constructor'])(
    '%j is none',
    (text) => expect(parseDuration(text)).toBeNull(),
  );

  it('comes back from what people are shown', () => {
    fc.assert(
      fc.property(fc.nat({ max: 999_999_999 }), (ms) => {
        expect(parseDuration(formatDuration(ms))).toBe(ms);
      }),
    );
  });
});
