import { describe, expect, it } from 'vitest';
import { accrueFinding, allowedFindingActions, type FindingCost } from '../../domain/finding.ts';
import type { UsageInterval } from '../../domain/usage.ts';

const HOUR = 3_600_000;
const NOW = 1_800_000_000_000;

describe('what may be done about a finding', () => {
  const actions = (change: Partial<Parameters<typeof allowedFindingActions>[0]>) =>
    allowedFindingActions({ class: 'orphan', status: 'open', hasMachine: true, priceMicroUsdPerHour: 1n, ...change });

  it('is everything for an orphan', () => expect(actions({})).toEqual(['destroy', 'adopt', 'ignore']));

  it('is not an adoption where the label is a wanted machine’s, or where the price is not known', () => {
    expect(actions({ class: 'duplicate' })).toEqual(['destroy', 'ignore']);
    expect(actions({ priceMicroUsdPerHour: null })).toEqual(['destroy', 'ignore']);
  });

  it('never destroys what has a row of its own, or names no machine', () => {
    for (const kind of ['ghost', 'stuck', 'mismatch']) expect(actions({ class: kind })).toEqual(['ignore']);
    expect(actions({ hasMachine: false })).toEqual(['ignore']);
  });

  it('is a repair for drift, also where it was ignored, and nothing but knowing it for a price', () => {
    const ofStack = { class: 'drift', hasMachine: false, priceMicroUsdPerHour: null };
    expect(actions(ofStack)).toEqual(['repair', 'ignore']);
    expect(actions({ ...ofStack, status: 'ignored' })).toEqual(['repair']);
    expect(actions({ ...ofStack, status: 'resolving' })).toEqual([]);
    expect(actions({ ...ofStack, class: 'price_drift', priceMicroUsdPerHour: 1n })).toEqual(['ignore']);
  });

  it('still ends what is ignored, and nothing that is over or under way', () => {
    expect(actions({ status: 'ignored' })).toEqual(['destroy', 'adopt']);
    expect(actions({ status: 'resolving' })).toEqual([]);
    expect(actions({ status: 'resolved' })).toEqual([]);
  });
});

describe('what the machine of a finding has cost', () => {
  const cost = (change: Partial<FindingCost>) =>
    accrueFinding({
      class: 'orphan',
      priceMicroUsdPerHour: 600_000n,
      firstSeenAt: NOW - 2 * HOUR,
      endedAt: null,
      usage: [],
      now: NOW,
      ...change,
    });

  it('runs from the first sight while it is there, and stands still when it is over', () => {
    expect(cost({})).toBe(1_200_000n);
    expect(cost({ endedAt: NOW - HOUR })).toBe(600_000n);
  });

  const usage = (price: bigint, from: number, to: number | null): UsageInterval => ({
    from,
    to: to ?? from,
    provenUntil: from,
    priceMicroUsdPerHour: price,
    isOpen: to === null,
  });

  it('adds what the attempt behind an orphan had cost before it was called gone', () => {
    expect(cost({ usage: [usage(600_000n, NOW - 5 * HOUR, NOW - 4 * HOUR)] })).toBe(1_800_000n);
  });

  it('is the attempt’s where a row accounts for the machine, at each price for as long as it held', () => {
    const live = [usage(500_000n, NOW - 3 * HOUR, NOW - HOUR), usage(700_000n, NOW - HOUR, null)];
    for (const kind of ['ghost', 'stuck', 'mismatch']) expect(cost({ class: kind, usage: live })).toBe(1_700_000n);
  });

  it('of a duplicate leaves out the machine that is wanted', () => {
    expect(cost({ class: 'duplicate', usage: [usage(500_000n, NOW - 3 * HOUR, null)] })).toBe(1_200_000n);
  });
});
