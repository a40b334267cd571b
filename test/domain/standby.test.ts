import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  isCapacityRefusal,
  judgeRecovery,
  startConfig,
  withRunGuard,
  type RecoveryView,
} from '../../domain/standby.ts';

const RPO_MS = 60_000;
const view = (change: Partial<RecoveryView> = {}): RecoveryView => ({
  now: 1_000_000,
  rpoMs: RPO_MS,
  since: 900_000,
  writerSince: 900_000,
  newestVerifiedAt: 995_000,
  underWay: null,
  lastTookMs: 4_000,
  lastFailure: null,
  sourceTrouble: null,
  tickMs: 2_000,
  ...change,
});

describe('a recovery point', () => {
  it.each([
    ['is asked for where there is none', { newestVerifiedAt: null }, true],
    ['is left alone while it is young', {}, false],
    ['is asked for again at half of the RPO', { newestVerifiedAt: 1_000_000 - 30_000 }, true],
    ['is asked for earlier where one takes long', { newestVerifiedAt: 1_000_000 - 10_000, lastTookMs: 24_000 }, true],
    ['is asked for one at a time', { newestVerifiedAt: null, underWay: { startedAt: 999_000 } }, false],
    ['is not asked for where nobody can take it', { newestVerifiedAt: null, sourceTrouble: 'gone' }, false],
    [
      'is not asked for at once after a failure',
      { newestVerifiedAt: null, lastFailure: { at: 999_000, detail: 'x' } },
      false,
    ],
    [
      'is asked for again a moment after a failure',
      { newestVerifiedAt: null, lastFailure: { at: 990_000, detail: 'x' } },
      true,
    ],
  ])('%s', (_rule, change, isDue) => {
    expect(judgeRecovery(view(change)).isSnapshotDue).toBe(isDue);
  });

  it.each([
    ['an old one', { newestVerifiedAt: 900_000 }, /100 s old, 60 s declared; the next was not begun/],
    ['none within the RPO', { newestVerifiedAt: null }, /no verified snapshot yet/],
    ['a source that is silent', { newestVerifiedAt: 900_000, sourceTrouble: 'it is silent' }, /it is silent/],
    [
      'a failure',
      { newestVerifiedAt: 900_000, lastFailure: { at: 990_000, detail: 'disk full' } },
      /the last one failed: disk full/,
    ],
    ['snapshots that take too long', { newestVerifiedAt: 900_000, lastTookMs: 90_000 }, /one takes 90 s/],
  ])('is behind with %s, and says why', (_what, change, reason) => {
    const verdict = judgeRecovery(view(change));
    expect(verdict.isBehind).toBe(true);
    expect(verdict.reason).toMatch(reason);
  });

  it('is not behind before the standby has stood for as long as the RPO', () => {
    expect(judgeRecovery(view({ newestVerifiedAt: null, since: 980_000 })).isBehind).toBe(false);
  });

  it('is not behind while a writer that restored it has written for less than the RPO', () => {
    const restored = { newestVerifiedAt: 400_000, writerSince: 950_000 };
    expect(judgeRecovery(view(restored))).toMatchObject({ isBehind: false, isSnapshotDue: true, lagMs: 600_000 });
    expect(judgeRecovery(view({ ...restored, writerSince: 930_000 })).isBehind).toBe(true);
  });

  it('is kept within every RPO that snapshots are quick enough for, as long as they succeed', () => {
    const parts = {
      rpoMs: fc.integer({ min: 10_000, max: 300_000 }),
      tookShare: fc.double({ min: 0.01, max: 0.3, noNaN: true }),
      jitter: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 5, maxLength: 5 }),
    };
    fc.assert(
      fc.property(fc.record(parts), ({ rpoMs, tookShare, jitter }) => {
        const tickMs = 2_000;
        // A snapshot is proven between ticks, as quick as the last or up to a tenth slower.
        const tookMs = Math.min(rpoMs * tookShare, rpoMs * 0.45 - tickMs);
        if (tookMs <= 0) return;
        let newestVerifiedAt = 0;
        let underWay: { startedAt: number; endsAt: number } | null = null;
        let rounds = 0;
        for (let now = tickMs; rounds < jitter.length; now += tickMs) {
          if (underWay && now >= underWay.endsAt) {
            newestVerifiedAt = underWay.startedAt;
            underWay = null;
            rounds++;
          }
          const verdict = judgeRecovery(
            view({ now, since: 0, writerSince: 0, rpoMs, newestVerifiedAt, underWay, lastTookMs: tookMs, tickMs }),
          );
          if (verdict.isBehind) throw new Error(`behind at ${now} of ${rpoMs}: ${verdict.reason}`);
          const slower = 1 + (jitter[rounds] ?? 0) / 10;
          if (verdict.isSnapshotDue) underWay = { startedAt: now, endsAt: now + tookMs * slower };
        }
      }),
    );
  });
});

describe('the configuration of a start', () => {
  it('stays where it is, goes to the other zone where there is no room, and has none left after both', () => {
    const config = { state: 'stopped' as const, fallbackZone: 'b' };
    expect(startConfig(config, [])).toMatchObject({ state: 'warm', runIn: 'zone' });
    expect(startConfig(config, ['zone'])).toMatchObject({ state: 'warm', runIn: 'fallback_zone' });
    expect(startConfig({ ...config, runIn: 'fallback_zone' }, ['fallback_zone'])).toMatchObject({ runIn: 'zone' });
    expect(startConfig(config, ['zone', 'fallback_zone'])).toBeNull();
    expect(startConfig({ state: 'stopped' }, ['zone'])).toBeNull();
  });

  it('keeps the guard against a standby that is forgotten after its start', () => {
    expect(withRunGuard({ state: 'stopped' })).toMatchObject({ maxRunHours: 168 });
    expect(withRunGuard({ state: 'stopped', maxRunHours: 5 })).toMatchObject({ maxRunHours: 5 });
    expect(withRunGuard({ state: 'stopped', maxRunHours: null })).toMatchObject({ maxRunHours: null });
    expect(withRunGuard({ state: 'warm' })).not.toHaveProperty('maxRunHours');
    expect(startConfig(withRunGuard({ state: 'stopped' }), [])).toMatchObject({ maxRunHours: 168 });
  });

  it("knows a cloud's lack of room from other refusals", () => {
    expect(isCapacityRefusal('googleapi: Error: ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS')).toBe(true);
    expect(isCapacityRefusal("Quota 'CPUS' exceeded")).toBe(false);
  });
});
