import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { judgeReaping, type SilentMachine } from '../../domain/reaping.ts';

const MACHINE: SilentMachine = {
  heardAt: 0,
  poweringOffAt: null,
  deadManMs: 3_600_000,
  observed: 'stopped',
  isInterrupted: false,
  now: 3_600_000,
};

describe('a machine is reaped', () => {
  it.each<[string, Partial<SilentMachine>, RegExp]>([
    ['when it was silent for the dead man’s time and is listed as stopped', {}, /silent for 60 min.*stopped/],
    ['when it is listed as failed, as where a vendor knows no stop', { observed: 'failed' }, /listed|lists/],
    ['at once when its agent said so', { now: 20_000, poweringOffAt: 10_000, deadManMs: null }, /its agent said/],
  ])('%s', (_name, change, reason) => {
    expect(judgeReaping({ ...MACHINE, ...change })).toMatch(reason);
  });

  it.each<[string, Partial<SilentMachine>]>([
    ['it runs, however silent', { observed: 'running', now: 1e12 }],
    ['it runs, though its agent said that it goes off', { observed: 'running', poweringOffAt: 10 }],
    ['it is not listed', { observed: null, poweringOffAt: 10 }],
    ['the vendor gave nothing usable', { observed: 'unknown', poweringOffAt: 10 }],
    ['it was not silent for long enough', { now: 3_599_999 }],
    ['agents switch nothing off and it said nothing', { deadManMs: null, now: 1e12 }],
    ['its vendor took it away', { isInterrupted: true }],
  ])('not where %s', (_name, change) => {
    expect(judgeReaping({ ...MACHINE, ...change })).toBeNull();
  });

  it('never by one source alone', () => {
    fc.assert(
      fc.property(fc.nat(1e12), fc.constantFrom('starting', 'running', 'unknown', null), (now, observed) => {
        expect(judgeReaping({ ...MACHINE, now, poweringOffAt: 1, observed })).toBeNull();
      }),
    );
    fc.assert(
      fc.property(fc.nat(3_599_999), (now) => {
        expect(judgeReaping({ ...MACHINE, now })).toBeNull();
      }),
    );
  });
});
