import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chooseExpired, type RetainedSnapshot } from '../../../domain/snapshots/retention.ts';
import { SNAPSHOT_STATUSES, type KeepPolicy } from '../../../domain/snapshots/snapshot.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function verified(id: string, ageMs: number, change: Partial<RetainedSnapshot> = {}): RetainedSnapshot {
  const at = new Date(NOW.getTime() - ageMs);
  return { id, status: 'verified', dataAt: at, createdAt: at, isInUse: false, ...change };
}

const snapshots = fc
  .array(
    fc.record({
      status: fc.constantFrom(...SNAPSHOT_STATUSES),
      ageMs: fc.integer({ min: 0, max: 60 * DAY }),
      isInUse: fc.boolean(),
    }),
    { maxLength: 60 },
  )
  .map((all) => all.map(({ status, ageMs, isInUse }, index) => verified(`s${index}`, ageMs, { status, isInUse })));
const policy: fc.Arbitrary<KeepPolicy> = fc.record({
  last: fc.integer({ min: 0, max: 5 }),
  daily: fc.integer({ min: 0, max: 8 }),
  weekly: fc.integer({ min: 0, max: 5 }),
});

describe('retention', () => {
  it('never gives up the newest verified one, one in use, or one that is on its way', () => {
    fc.assert(
      fc.property(snapshots, policy, (all, keep) => {
        const expired = new Set(chooseExpired(all, keep, NOW));
        const newest = all
          .filter(({ status }) => status === 'verified')
          .reduce<RetainedSnapshot | null>(
            (a, b) => (a === null || (b.dataAt as Date) > (a.dataAt as Date) ? b : a),
            null,
          );
        if (newest)
          expect(all.some((one) => +(one.dataAt as Date) === +(newest.dataAt as Date) && !expired.has(one.id))).toBe(
            true,
          );
        for (const one of all.filter(({ id }) => expired.has(id))) {
          expect(one.isInUse).toBe(false);
          expect(['verified', 'failed']).toContain(one.status);
        }
      }),
    );
  });

  it('is at rest after one go, and keeps no more verified ones than the policy names', () => {
    fc.assert(
      fc.property(snapshots, policy, (all, keep) => {
        const free = all.map((one) => ({ ...one, isInUse: false }));
        const expired = new Set(chooseExpired(free, keep, NOW));
        const left = free.filter(({ id }) => !expired.has(id));
        expect(chooseExpired(left, keep, NOW)).toEqual([]);
        const kept = left.filter(({ status }) => status === 'verified').length;
        expect(kept).toBeLessThanOrEqual(Math.max(1, keep.last) + keep.daily + keep.weekly);
      }),
    );
  });

  it('keeps the newest of each day and week', () => {
    const hourly = Array.from({ length: 24 * 30 }, (_, hour) => verified(`h${hour}`, hour * HOUR));
    const expired = new Set(chooseExpired(hourly, { last: 2, daily: 3, weekly: 3 }, NOW));
    const left = hourly.filter(({ id }) => !expired.has(id)).map(({ dataAt }) => dataAt?.toISOString());
    expect(left).toEqual([
      '2026-11-21T12:00:00.000Z',
      '2026-11-21T11:00:00.000Z',
      '2026-11-20T23:00:00.000Z',
      '2026-11-19T23:00:00.000Z',
      '2026-11-15T23:00:00.000Z',
      '2026-11-08T23:00:00.000Z',
    ]);
  });

  it('keeps what failed for three days', () => {
    const all = [verified('young', DAY, { status: 'failed' }), verified('old', 4 * DAY, { status: 'failed' })];
    expect(chooseExpired(all, { last: 1, daily: 0, weekly: 0 }, NOW)).toEqual(['old']);
  });
});
