import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BASELINE_MS,
  findMissing,
  judgeListing,
  judgeOfferListing,
  type InstanceListing,
} from '../../domain/listing.ts';
import { PROVIDER_ERROR_KINDS } from '../../domain/provider-error.ts';
import { NOW } from './provisioning/market.ts';

function listing(
  over: Partial<Omit<InstanceListing, 'seen' | 'confirmedGone'>> & { seen?: string[]; gone?: string[] } = {},
) {
  const { seen = ['1', '2'], gone = [], ...rest } = over;
  return {
    error: null,
    count: seen.length,
    previousCount: 2,
    lastGoodAt: NOW - 60_000,
    expectedOurs: ['1', '2'],
    seen: new Set(seen),
    confirmedGone: new Set(gone),
    now: NOW,
    ...rest,
  };
}

const quarantine = (words: string) => ({ quarantine: expect.stringContaining(words) as string });

describe('a listing of machines', () => {
  it('that shows all of ours is believed', () => expect(judgeListing(listing())).toBe('believable'));

  it.each(PROVIDER_ERROR_KINDS)('that failed as %s is not believed, whatever else it says', (error) => {
    expect(judgeListing(listing({ error }))).toEqual(quarantine(error));
  });

  it('that is empty where we have machines is not believed', () => {
    expect(judgeListing(listing({ seen: [] }))).toEqual(quarantine('2 of our 2 machines'));
  });

  it('that lacks one machine is believed once the machine was confirmed gone by itself', () => {
    const lacking = listing({ seen: ['1'] });
    expect(findMissing(lacking)).toEqual(['2']);
    expect(judgeListing(lacking)).toEqual(quarantine('1 of our 2'));
    expect(judgeListing(listing({ seen: ['1'], gone: ['2'] }))).toBe('believable');
    expect(judgeListing(listing({ seen: [], gone: ['1', '2'] }))).toBe('believable');
  });

  it('that fell is vouched for by our own machines in it', () => {
    expect(judgeListing(listing({ previousCount: 50 }))).toBe('believable');
  });

  it('that fell, with none of ours to vouch for it, is not believed until its baseline is old', () => {
    const fell = { expectedOurs: [], seen: ['9'], previousCount: 10 };
    expect(judgeListing(listing(fell))).toEqual(quarantine('fell from 10 to 1'));
    expect(judgeListing(listing({ ...fell, lastGoodAt: NOW - BASELINE_MS - 1 }))).toBe('believable');
    expect(judgeListing(listing({ ...fell, seen: ['5', '6', '7', '8', '9'] }))).toBe('believable');
  });

  it('of a small account may fall, and a first one may be empty', () => {
    expect(judgeListing(listing({ expectedOurs: [], seen: [], previousCount: 2 }))).toBe('believable');
    expect(judgeListing(listing({ expectedOurs: [], seen: [], previousCount: null, lastGoodAt: null }))).toBe(
      'believable',
    );
  });

  it('is never believed while it lacks a machine of ours that was not confirmed gone', () => {
    const ids = fc.uniqueArray(fc.integer({ min: 1, max: 30 }).map(String), { maxLength: 20 });
    fc.assert(
      fc.property(ids, ids, ids, fc.option(fc.nat({ max: 60 })), (expectedOurs, seen, gone, previousCount) => {
        const judged = listing({ expectedOurs, seen, gone, previousCount });
        if (findMissing(judged).length > 0) expect(judgeListing(judged)).not.toBe('believable');
      }),
    );
  });
});

describe('a listing of offers', () => {
  const offers = { error: null, count: 200, previousCount: 210, lastGoodAt: NOW - 60_000, now: NOW };

  it('near the last one is believed', () => expect(judgeOfferListing(offers)).toBe('believable'));

  it.each(PROVIDER_ERROR_KINDS)('that failed as %s is not', (error) => {
    expect(judgeOfferListing({ ...offers, error })).toEqual(quarantine(error));
  });

  it('that is empty is not, not even the first or after a day', () => {
    expect(judgeOfferListing({ ...offers, count: 0 })).toEqual(quarantine('empty'));
    expect(judgeOfferListing({ ...offers, count: 0, previousCount: null, lastGoodAt: null })).toEqual(
      quarantine('empty'),
    );
    expect(judgeOfferListing({ ...offers, count: 0, lastGoodAt: NOW - 24 * BASELINE_MS })).toEqual(quarantine('empty'));
  });

  it('that fell below half is not, while its baseline is fresh', () => {
    expect(judgeOfferListing({ ...offers, count: 104 })).toEqual(quarantine('fell from 210 to 104'));
    expect(judgeOfferListing({ ...offers, count: 105 })).toBe('believable');
    expect(judgeOfferListing({ ...offers, count: 104, lastGoodAt: NOW - BASELINE_MS - 1 })).toBe('believable');
  });

  it('of a handful may change by any share', () => {
    expect(judgeOfferListing({ ...offers, previousCount: 9, count: 1 })).toBe('believable');
  });
});
