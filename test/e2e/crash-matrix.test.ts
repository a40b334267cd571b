/** A slice of the crash matrix (`npm run test:crash` runs all of it): each victim where most can be lost, several kills on one way. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CrashCell } from '../support/crash-cells.ts';
import { startCrashFleet, type CrashFleet } from '../support/crash-fleet.ts';
import { resticMissing } from '../support/restic.ts';

const SLICE: Pick<CrashCell, 'scenario' | 'provider' | 'kills'>[] = [
  {
    scenario: 'coldstart',
    provider: 'lambda',
    kills: [
      { point: 'purchase_sending', victim: 'child' },
      { point: 'purchase_answered', victim: 'control' },
      { point: 'delete_answered', victim: 'engine' },
      { point: 'destroy_applied', victim: 'postgres' },
    ],
  },
  {
    scenario: 'race',
    provider: 'vastai',
    kills: [
      { point: 'purchase_answered', victim: 'engine' },
      { point: 'losers_marked', victim: 'control' },
    ],
  },
  {
    scenario: 'serverless',
    provider: 'runpod',
    kills: [
      { point: 'warm_claimed', victim: 'postgres' },
      { point: 'warm_entered', victim: 'control' },
    ],
  },
];

const SLICE_WITH_FILES: typeof SLICE = [
  {
    scenario: 'sleep',
    provider: 'tensordock',
    kills: [
      { point: 'snapshot_taken', victim: 'postgres' },
      { point: 'hibernate_released', victim: 'control' },
      { point: 'purchase_read_back', victim: 'engine' },
    ],
  },
  {
    scenario: 'failover',
    provider: 'vastai',
    kills: [
      { point: 'failover_fenced', victim: 'control' },
      { point: 'purchase_answered', victim: 'child' },
      { point: 'failover_switched', victim: 'postgres' },
    ],
  },
];

describe('processes killed at named places', () => {
  let fleet: CrashFleet;
  beforeAll(async () => {
    fleet = await startCrashFleet();
  }, 300_000);
  afterAll(() => fleet?.close());

  const expectNothingBroken = async (part: (typeof SLICE)[number], seed: number) => {
    const { problems, missed } = await fleet.run({ ...part, seed, count: 1, lostResponses: 0.2, staleOffers: 0.1 });
    expect({ problems, missed }).toEqual({ problems: [], missed: [] });
  };

  it.each(SLICE)(
    '$scenario, $provider: no duplicate, no orphan, nothing foreign touched',
    (part) => expectNothingBroken(part, 2),
    300_000,
  );

  it.skipIf(resticMissing !== null).each(SLICE_WITH_FILES)(
    '$scenario, $provider: besides, nothing destroyed before its files are safe, one writer, every file back',
    (part) => expectNothingBroken(part, 2),
    300_000,
  );
});
