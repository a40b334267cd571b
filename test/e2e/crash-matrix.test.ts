/** A slice of the crash matrix (`npm run test:crash` runs all of it): each victim at the places where most can be lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPointName } from '../../domain/crash-points.ts';
import { startCrashFleet, type CrashFleet, type Victim } from '../support/crash-fleet.ts';

const SLICE: [point: CrashPointName, victim: Victim, strategy: 'coldstart' | 'race'][] = [
  ['attempts_committed', 'control', 'coldstart'],
  ['purchase_sending', 'child', 'coldstart'],
  ['purchase_answered', 'control', 'coldstart'],
  ['purchase_answered', 'engine', 'race'],
  ['purchase_read_back', 'postgres', 'coldstart'],
  ['losers_marked', 'control', 'race'],
  ['delete_sending', 'engine', 'coldstart'],
  ['delete_answered', 'control', 'coldstart'],
  ['destroy_applied', 'postgres', 'coldstart'],
];

describe('a process killed at a named place', () => {
  let fleet: CrashFleet;
  beforeAll(async () => {
    fleet = await startCrashFleet();
  }, 120_000);
  afterAll(() => fleet.close());

  it.each(SLICE)(
    '%s, %s, %s: no duplicate, no orphan, nothing foreign touched',
    async (point, victim, strategy) => {
      const seed = CRASH_POINTS.indexOf(point) + 1;
      const report = await fleet.run({ seed, point, victim, strategy, count: 1, lostResponses: 0.2, staleOffers: 0.1 });
      expect(report.problems).toEqual([]);
      expect(report.fired).toBe(true);
    },
    200_000,
  );
});
