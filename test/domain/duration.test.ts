import { describe, expect, it } from 'vitest';
import { formatDuration, parseDuration } from '../../domain/duration.ts';

describe('a duration', () => {
  it.each([
    ['12 hours', 43_200_000],
    ['1 hour', 3_600_000],
    ['15m', 900_000],
    ['90 seconds', 90_000],
    ['0.5 s', 500],
    ['250ms', 250],
    ['2 Days', 172_800_000],
  ])('%s is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each(['', '12', 'hours', '-1 hour', '1 fortnight', '1e3 s', '1 hour 5 minutes'])('%j is none', (text) => {
    expect(parseDuration(text)).toBeNull();
  });

  it('is written in the largest unit that divides it', () => {
    expect([43_200_000, 86_400_000, 60_000, 1500, 5000].map(formatDuration)).toEqual([
      '12 hours',
      '1 day',
      '1 minute',
      '1500 ms',
      '5 seconds',
    ]);
  });
});
