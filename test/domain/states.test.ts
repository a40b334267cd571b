import { describe, expect, it } from 'vitest';
import { ATTEMPT_NEXT, ATTEMPT_STATUSES, isWanted, mayExist, type AttemptStatus } from '../../domain/attempt.ts';
import {
  allowedActions,
  INSTANCE_NEXT,
  INSTANCE_STATUSES,
  isLive,
  type InstanceAction,
  type InstanceStatus,
} from '../../domain/instance.ts';
import { isCancelable, isFinished, OPERATION_KINDS, OPERATION_STATUSES } from '../../domain/operation.ts';

/** Statuses that can be reached from `start` by the table. */
function reach<S extends string>(start: S, next: Record<S, readonly S[]>): Set<S> {
  const seen = new Set<S>([start]);
  for (const status of seen) for (const one of next[status]) seen.add(one);
  return seen;
}

describe('the table of instance statuses', () => {
  it('is closed: every status has an entry, every target is a status, and all are reached from requested', () => {
    expect(Object.keys(INSTANCE_NEXT).sort()).toEqual([...INSTANCE_STATUSES].sort());
    expect([...reach('requested', INSTANCE_NEXT)].sort()).toEqual([...INSTANCE_STATUSES].sort());
  });

  it.each(INSTANCE_STATUSES.filter((one) => one !== 'destroyed'))('lets %s be destroyed in the end', (status) => {
    expect(reach<InstanceStatus>(status, INSTANCE_NEXT).has('destroyed')).toBe(true);
  });

  it('reaches destroyed only by way of destroying, and never leaves it', () => {
    expect(INSTANCE_STATUSES.filter((one) => INSTANCE_NEXT[one].includes('destroyed'))).toEqual(['destroying']);
    expect(INSTANCE_NEXT.destroyed).toEqual([]);
    expect(INSTANCE_NEXT.destroying).toEqual(['destroyed']);
  });

  it('leads from lost to destroying only, because lost hardware may still bill', () => {
    expect(INSTANCE_NEXT.lost).toEqual(['destroying']);
  });

  it('counts everything as live until it is proven gone', () => {
    expect(INSTANCE_STATUSES.filter((one) => !isLive(one))).toEqual(['destroyed']);
  });

  it('allows destroy exactly where the table leads to destroying, and ssh only where it works', () => {
    for (const status of INSTANCE_STATUSES) {
      expect(allowedActions(status).includes('destroy')).toBe(INSTANCE_NEXT[status].includes('destroying'));
      expect(allowedActions(status).includes('ssh')).toBe(status === 'ready');
    }
  });

  it('offers to sleep, wake and fail over where that would be accepted', () => {
    const known = { hasWorkspace: true, isWarmInPool: false, hasRestorePoint: true, isFailingOver: false };
    const statusesOf = (action: InstanceAction, change: Partial<typeof known> = {}) =>
      INSTANCE_STATUSES.filter((status) => allowedActions(status, { ...known, ...change }).includes(action));
    expect(statusesOf('hibernate')).toEqual(['ready']);
    expect(statusesOf('hibernate', { hasWorkspace: false })).toEqual([]);
    expect(statusesOf('hibernate', { isWarmInPool: true })).toEqual([]);
    expect(statusesOf('hibernate', { isFailingOver: true })).toEqual([]);
    expect(statusesOf('wake')).toEqual(['hibernated']);
    expect(statusesOf('wake', { hasRestorePoint: false })).toEqual([]);
    expect(statusesOf('failover')).toEqual(['ready']);
    expect(statusesOf('failover', { hasWorkspace: false })).toEqual(['ready']);
    expect(statusesOf('failover', { isFailingOver: true })).toEqual([]);
  });
});

describe('the table of attempt statuses', () => {
  it('is closed and every attempt can come to be gone', () => {
    expect(Object.keys(ATTEMPT_NEXT).sort()).toEqual([...ATTEMPT_STATUSES].sort());
    expect([...reach('reserved', ATTEMPT_NEXT)].sort()).toEqual([...ATTEMPT_STATUSES].sort());
    for (const status of ATTEMPT_STATUSES) expect(reach<AttemptStatus>(status, ATTEMPT_NEXT).has('gone')).toBe(true);
  });

  it('says of no machine that was bought that it is gone before it was destroyed', () => {
    for (const status of ['bought', 'ready', 'lost'] as const) expect(ATTEMPT_NEXT[status]).not.toContain('gone');
  });

  it('wants no machine that is being destroyed, and expects none before one was ordered', () => {
    expect(ATTEMPT_STATUSES.filter(isWanted)).toEqual(['reserved', 'buying', 'bought', 'ready']);
    expect(ATTEMPT_STATUSES.filter((one) => !mayExist(one))).toEqual(['reserved', 'gone']);
  });
});

describe('operations', () => {
  it('end in three statuses', () => {
    expect(OPERATION_STATUSES.filter(isFinished)).toEqual(['succeeded', 'failed', 'canceled']);
  });

  it('that destroy machines cannot be canceled; a stack says what is left of it', () => {
    expect(OPERATION_KINDS.filter((kind) => kind.startsWith('destroy')).filter(isCancelable)).toEqual([
      'destroy_stack',
    ]);
  });
});
