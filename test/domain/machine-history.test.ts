import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  applyOutcome,
  chanceOfSuccess,
  DENYLIST_MS,
  isDenylisted,
  liftDenylisting,
  type MachineOutcome,
  type MachineRecord,
} from '../../domain/machine-history.ts';
import { newMachineRecord } from '../support/machine-record.ts';
import { NOW } from './provisioning/market.ts';

const ready = (readyMs: number): MachineOutcome => ({ kind: 'ready', readyMs });
const failed: MachineOutcome = { kind: 'failed' };
const fresh = newMachineRecord('vastai', 'm1');
const after = (...outcomes: MachineOutcome[]) =>
  outcomes.reduce((record, one) => applyOutcome(record, one, NOW), fresh);

describe('machine history', () => {
  it('denylists below 30 % success over at least 3 attempts, for a day', () => {
    expect(isDenylisted(after(failed, failed), NOW)).toBe(false);
    const poor = after(failed, failed, failed);
    expect(poor.denylistedUntil).toBe(NOW + DENYLIST_MS);
    expect(isDenylisted(poor, NOW + DENYLIST_MS - 1)).toBe(true);
    expect(isDenylisted(poor, NOW + DENYLIST_MS)).toBe(false);
  });

  it('keeps a machine at exactly 30 %, and one of three', () => {
    expect(after(ready(1), failed, failed).denylistedUntil).toBeNull();
    const threeOfTen = after(ready(1), ready(1), ready(1), ...Array<MachineOutcome>(7).fill(failed));
    expect(threeOfTen).toMatchObject({ attempts: 10, successes: 3, denylistedUntil: null });
    expect(applyOutcome(threeOfTen, failed, NOW).denylistedUntil).toBe(NOW + DENYLIST_MS);
  });

  it('has a denylisting lifted by time or a person, never by a success', () => {
    const poor = after(failed, failed, failed, failed);
    expect(applyOutcome(poor, ready(1), NOW).denylistedUntil).toBe(poor.denylistedUntil);
  });

  it('never shortens a denylisting by a failure', () => {
    const banned: MachineRecord = { ...fresh, denylistedUntil: NOW + 30 * DENYLIST_MS };
    const failing = [failed, failed, failed].reduce((record, one) => applyOutcome(record, one, NOW), banned);
    expect(failing.denylistedUntil).toBe(NOW + 30 * DENYLIST_MS);
  });

  it('forgives at a lift what was counted before: only new attempts can denylist again', () => {
    const lifted = liftDenylisting(after(failed, failed, failed, failed));
    expect(lifted).toMatchObject({ attempts: 4, denylistedUntil: null });
    const twice = [failed, failed].reduce((record, one) => applyOutcome(record, one, NOW), lifted);
    expect(isDenylisted(twice, NOW)).toBe(false);
    expect(isDenylisted(applyOutcome(twice, failed, NOW), NOW)).toBe(true);
    expect(isDenylisted(applyOutcome(applyOutcome(twice, ready(1), NOW), failed, NOW), NOW)).toBe(true);
    expect(applyOutcome(lifted, ready(1), NOW)).toMatchObject({ attempts: 5, successes: 1, denylistedUntil: null });
  });

  it('tells the mean time to ready', () => {
    expect(after(ready(10_000), ready(20_000), failed, ready(30_000)).meanReadyMs).toBe(20_000);
    expect(after(failed).meanReadyMs).toBeNull();
  });

  it('counts a loss once: a machine that was ready has its success already', () => {
    expect(after(ready(1), { kind: 'lost', wasReady: true })).toMatchObject({ attempts: 1, successes: 1, losses: 1 });
    expect(after({ kind: 'lost', wasReady: false })).toMatchObject({ attempts: 1, successes: 0, losses: 1 });
  });

  it('gives a chance between 0 and 1 that grows with success, and none without history', () => {
    expect(chanceOfSuccess(fresh)).toBeNull();
    expect(chanceOfSuccess(undefined)).toBeNull();
    const outcomes = fc.array(fc.constantFrom(failed, ready(5_000)), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(outcomes, (many) => {
        const chance = chanceOfSuccess(after(...many)) as number;
        expect(chance).toBeGreaterThan(0);
        expect(chance).toBeLessThan(1);
        expect(chanceOfSuccess(after(...many, ready(1)))).toBeGreaterThan(chance);
        expect(chanceOfSuccess(after(...many, failed))).toBeLessThan(chance);
      }),
    );
  });
});
