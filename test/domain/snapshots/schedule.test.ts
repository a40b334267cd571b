import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { behindSince, isSnapshotDue, type ScheduleView } from '../../../domain/snapshots/schedule.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const ago = (ms: number) => new Date(NOW.getTime() - ms);
const VIEW: ScheduleView = {
  everyMs: 60_000,
  lastBegunAt: null,
  lastTookMs: null,
  verifiedDataAt: null,
  failuresInRow: 0,
  lastFailureAt: null,
  isUnderWay: false,
  writerSince: ago(3_600_000),
};

describe('the schedule of snapshots', () => {
  it.each<[string, Partial<ScheduleView>, boolean]>([
    ['the first one at once', {}, true],
    ['none on request only', { everyMs: null }, false],
    ['none while one is under way', { isUnderWay: true }, false],
    ['not before its interval', { lastBegunAt: ago(50_000) }, false],
    ['after its interval', { lastBegunAt: ago(60_000) }, true],
    ['earlier by what the last one took', { lastBegunAt: ago(50_000), lastTookMs: 10_000 }, true],
    ['at most half its interval earlier', { lastBegunAt: ago(29_000), lastTookMs: 600_000 }, false],
    ['after a failure soon again', { lastBegunAt: ago(50_000), failuresInRow: 1, lastFailureAt: ago(15_000) }, true],
    ['after more of them later', { failuresInRow: 3, lastFailureAt: ago(30_000) }, false],
    ['but not later than its interval', { failuresInRow: 9, lastFailureAt: ago(60_000) }, true],
  ])('takes %s', (_, change, expected) => {
    expect(isSnapshotDue({ ...VIEW, ...change }, NOW)).toBe(expected);
  });

  it('keeps its promise where each snapshot takes less than half of it', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 30_000, max: 3_600_000 }),
        fc.double({ min: 0, max: 0.49, noNaN: true }),
        (everyMs, share) => {
          const tookMs = Math.floor(everyMs * share);
          // The next one begins when the rule first says so; its data is then as old as it took.
          const gap = everyMs - tookMs;
          const view = { ...VIEW, everyMs, lastTookMs: tookMs, lastBegunAt: ago(gap) };
          expect(isSnapshotDue(view, NOW)).toBe(true);
          expect(gap + tookMs).toBeLessThanOrEqual(everyMs + 1);
        },
      ),
    );
  });

  it('says since when it is behind, counted from the data that is safe and from when its writer began', () => {
    expect(behindSince({ ...VIEW, verifiedDataAt: ago(59_000) }, NOW)).toBeNull();
    expect(behindSince({ ...VIEW, verifiedDataAt: ago(90_000) }, NOW)).toEqual(ago(30_000));
    expect(behindSince({ ...VIEW, verifiedDataAt: ago(900_000), writerSince: ago(10_000) }, NOW)).toBeNull();
    expect(behindSince({ ...VIEW, verifiedDataAt: ago(900_000), writerSince: ago(70_000) }, NOW)).toEqual(ago(10_000));
    expect(behindSince({ ...VIEW, everyMs: null }, NOW)).toBeNull();
  });
});
