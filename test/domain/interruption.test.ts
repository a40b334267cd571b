import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decideInterruption,
  INTERRUPTION_POLICIES,
  MAX_REBIDS,
  MAX_REPLACEMENTS_PER_DAY,
  REBID_PATIENCE_MS,
  type Interruption,
} from '../../domain/interruption.ts';

const NOW = 1_000_000_000;
const one = (over: Partial<Interruption> = {}): Interruption => ({
  policy: 'rebid',
  bidMicroUsdPerHour: 100_000n,
  diskMicroUsdPerHour: 4_000n,
  maxPriceMicroUsdPerHour: 300_000n,
  rebids: 0,
  rebidAt: null,
  replacements: 0,
  now: NOW,
  ...over,
});
const decide = (over: Partial<Interruption> = {}) => decideInterruption(one(over));

describe('an interruption', () => {
  it('is met by the policy of the request', () => {
    expect(decide({ policy: 'give_up' })).toMatchObject({ kind: 'give_up' });
    expect(decide({ policy: 'replace' })).toMatchObject({ kind: 'replace' });
    expect(decide()).toMatchObject({ kind: 'rebid', bidMicroUsdPerHour: 125_000n });
  });

  it('gives a raised bid its time, then raises again, and replaces the machine when no bid is left', () => {
    const raised = { rebids: 1, rebidAt: NOW - REBID_PATIENCE_MS + 1, bidMicroUsdPerHour: 125_000n };
    expect(decide(raised)).toMatchObject({ kind: 'wait' });
    expect(decide({ ...raised, now: NOW + 1 })).toMatchObject({ kind: 'rebid', bidMicroUsdPerHour: 156_250n });
    expect(decide({ rebids: MAX_REBIDS, rebidAt: 0 })).toMatchObject({ kind: 'replace' });
    expect(decide({ bidMicroUsdPerHour: 296_000n })).toMatchObject({ kind: 'replace' });
  });

  it('ends the instance after so many replacements in a day', () => {
    expect(decide({ policy: 'replace', replacements: MAX_REPLACEMENTS_PER_DAY })).toMatchObject({
      kind: 'give_up',
      reason: `interrupted by the provider, and replaced ${MAX_REPLACEMENTS_PER_DAY} times in a day`,
    });
  });

  it('comes to an end whatever the policy, with bounded rebids, none above the highest price', () => {
    const price = fc.bigInt({ min: 1_000n, max: 1_000_000n });
    fc.assert(
      fc.property(
        fc.record({ policy: fc.constantFrom(...INTERRUPTION_POLICIES), bid: price, disk: price, most: price }),
        ({ policy, bid, disk, most }) => {
          let state = one({
            policy,
            bidMicroUsdPerHour: bid,
            diskMicroUsdPerHour: disk,
            maxPriceMicroUsdPerHour: most,
          });
          let rebids = 0;
          for (let look = 0; look < 100; look += 1) {
            const action = decideInterruption(state);
            if (action.kind === 'replace' || action.kind === 'give_up') {
              expect(rebids).toBeLessThanOrEqual(MAX_REBIDS);
              return;
            }
            state = { ...state, now: state.now + 60_000 };
            if (action.kind !== 'rebid') continue;
            rebids += 1;
            expect(policy).toBe('rebid');
            expect(action.bidMicroUsdPerHour > state.bidMicroUsdPerHour).toBe(true);
            expect(action.bidMicroUsdPerHour + disk <= most).toBe(true);
            state = { ...state, bidMicroUsdPerHour: action.bidMicroUsdPerHour, rebids, rebidAt: state.now };
          }
          expect.unreachable('the interruption never ended');
        },
      ),
    );
  });
});
