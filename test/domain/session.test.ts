import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INSTANCE_NEXT, INSTANCE_STATUSES, type InstanceStatus } from '../../domain/instance.ts';
import {
  allowedSessionActions,
  dueWarning,
  followInstance,
  isOver,
  reachedWarning,
  SESSION_NEXT,
  SESSION_STATUSES,
  sessionStatusOf,
  type SessionStatus,
} from '../../domain/session.ts';

const MINUTE = 60_000;

describe('a session', () => {
  it('can only be left on the ways of the table, ends in every way, and allows nothing once it ends', () => {
    for (const status of SESSION_STATUSES) {
      expect(isOver(status)).toBe(['done', 'expired', 'failed'].includes(status));
      if (!['opening', 'open'].includes(status)) expect(allowedSessionActions(status)).toEqual([]);
    }
    expect(allowedSessionActions('opening')).toEqual(['done', 'extend']);
    expect(allowedSessionActions('open')).toEqual(['done', 'extend', 'ssh']);
  });

  it('is always where its instance is, whatever way that takes, and never goes back', () => {
    const walk = fc.infiniteStream(fc.nat(10));
    fc.assert(
      fc.property(walk, fc.constantFrom(null, 'expired', 'lost', 'canceled', 'no_capacity'), (draws, failure) => {
        let instance: InstanceStatus = 'requested';
        let session: SessionStatus = 'opening';
        for (const draw of draws) {
          const next: readonly InstanceStatus[] = INSTANCE_NEXT[instance];
          if (next.length === 0) break;
          instance = next[draw % next.length] as InstanceStatus;
          for (const status of followInstance(session, instance, failure)) {
            expect(SESSION_NEXT[session]).toContain(status);
            session = status;
          }
          expect(session).toBe(sessionStatusOf(instance, failure));
        }
      }),
    );
  });

  it.each([
    [null, 'done'],
    ['canceled', 'done'],
    ['expired', 'expired'],
    ['lost', 'failed'],
    ['no_capacity', 'failed'],
  ])('whose instance ended by %s is %s', (failureCode, status) => {
    expect(sessionStatusOf('destroyed', failureCode)).toBe(status);
  });

  it('has a status for every status of an instance', () => {
    for (const status of INSTANCE_STATUSES) expect(SESSION_STATUSES).toContain(sessionStatusOf(status, null));
  });

  it('passes through its end though its instance was gone at once', () => {
    expect(followInstance('opening', 'destroyed', null)).toEqual(['ending', 'done']);
    expect(followInstance('done', 'destroyed', 'expired')).toEqual([]);
  });
});

describe('a warning', () => {
  it('comes once fifteen and once five minutes before the end', () => {
    const end = 100 * MINUTE;
    const given: number[] = [];
    let warned: number | null = null;
    for (let now = 0; now < end + 5 * MINUTE; now += MINUTE / 2) {
      const due = dueWarning(end, warned, now);
      if (due === null) continue;
      given.push((end - now) / MINUTE);
      warned = due;
    }
    expect(given).toEqual([15, 5]);
  });

  it('that was missed is not made up for, and there is none without an end or after it', () => {
    expect(dueWarning(4 * MINUTE, null, 0)).toBe(5);
    expect(dueWarning(4 * MINUTE, 5, 0)).toBeNull();
    expect(dueWarning(null, null, 0)).toBeNull();
    expect(dueWarning(0, null, 0)).toBeNull();
  });

  it('is taken for given when the end was set closer than it', () => {
    expect(reachedWarning(60 * MINUTE)).toBeNull();
    expect(reachedWarning(15 * MINUTE)).toBe(15);
    expect(reachedWarning(10 * MINUTE)).toBe(15);
    expect(reachedWarning(3 * MINUTE)).toBe(5);
  });
});
