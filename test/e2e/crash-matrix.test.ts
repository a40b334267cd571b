/** A slice of the crash matrix (`npm run test:crash` runs all of it): each victim at the places where most can be lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPointName } from '../../domain/crash-points.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { startCrashFleet, type CrashCell, type CrashFleet, type Victim } from '../support/crash-fleet.ts';

const SLICE: [point: CrashPointName, victim: Victim, strategy: CrashCell['strategy'], provider: ProviderName][] = [
  ['attempts_committed', 'control', 'coldstart', 'vastai'],
  ['purchase_sending', 'child', 'coldstart', 'lambda'],
  ['purchase_answered', 'control', 'coldstart', 'runpod'],
  ['purchase_answered', 'engine', 'race', 'vastai'],
  ['purchase_read_back', 'postgres', 'coldstart', 'tensordock'],
  ['losers_marked', 'control', 'race', 'runpod'],
  ['warm_claimed', 'postgres', 'serverless', 'vastai'],
  ['warm_entered', 'control', 'serverless', 'runpod'],
  ['warm_handed_over', 'control', 'serverless', 'vastai'],
  ['delete_sending', 'engine', 'coldstart', 'tensordock'],
  ['delete_answered', 'control', 'coldstart', 'lambda'],
  ['destroy_applied', 'postgres', 'coldstart', 'vastai'],
];

describe('a process killed at a named place', () => {
  let fleet: CrashFleet;
  beforeAll(async () => {
    fleet = await startCrashFleet();
  }, 120_000);
  afterAll(() => fleet.close());

  it.each(SLICE)(
    '%s, %s, %s, %s: no duplicate, no orphan, nothing foreign touched',
    async (point, victim, strategy, provider) => {
      const seed = CRASH_POINTS.indexOf(point) + 1;
      const report = await fleet.run({
        seed,
        point,
        victim,
        provider,
        strategy,
        count: 1,
        lostResponses: 0.2,
        staleOffers: 0.1,
      });
      expect(report.problems).toEqual([]);
      expect(report.fired).toBe(true);
    },
    200_000,
  );
});
