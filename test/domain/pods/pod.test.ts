import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  allowedPodActions,
  applyPodReport,
  isHolding,
  POD_DESIRED_STATES,
  POD_REPORT_STATUSES,
  POD_STATUSES,
  type KnownPod,
} from '../../../domain/pods/pod.ts';
import { planDrain, planLoss, type PodOnNode } from '../../../domain/pods/leave.ts';

const known = (change: Partial<KnownPod> = {}): KnownPod => ({
  status: 'scheduled',
  desired: 'running',
  run: 2,
  nodeId: 'a',
  isLeaving: false,
  ...change,
});

describe('what an agent says', () => {
  it('counts only of the pod that its node has', () => {
    expect(applyPodReport(known(), 'a', { run: 2, status: 'running' })).toBe('running');
    expect(applyPodReport(known(), 'b', { run: 2, status: 'running' })).toBeNull();
    expect(applyPodReport(known({ nodeId: null }), 'a', { run: 2, status: 'running' })).toBeNull();
  });

  it('counts only of its present run', () => {
    expect(applyPodReport(known(), 'a', { run: 1, status: 'exited' })).toBeNull();
  });

  it('never brings an ended run back', () => {
    expect(applyPodReport(known({ status: 'exited' }), 'a', { run: 2, status: 'running' })).toBeNull();
    expect(applyPodReport(known({ status: 'failed' }), 'a', { run: 2, status: 'restarting' })).toBeNull();
  });

  it('ends a deletion only when nothing is left, whichever run that was', () => {
    const deleted = known({ desired: 'removed', status: 'removing' });
    expect(applyPodReport(deleted, 'a', { run: 2, status: 'running' })).toBe('removing');
    expect(applyPodReport(deleted, 'a', { run: 1, status: 'removed' })).toBe('removed');
    expect(
      applyPodReport(known({ status: 'removed', desired: 'removed' }), 'a', { run: 2, status: 'running' }),
    ).toBeNull();
  });

  it('lets a pod that is to leave go only when nothing is left', () => {
    const leaving = known({ isLeaving: true, status: 'running' });
    expect(applyPodReport(leaving, 'a', { run: 2, status: 'stopping' })).toBe('running');
    expect(applyPodReport(leaving, 'a', { run: 2, status: 'removed' })).toBe('leave');
    expect(applyPodReport(known({ status: 'running' }), 'a', { run: 2, status: 'removed' })).toBeNull();
  });

  it('is stopped when it was to be stopped, however it ended', () => {
    const stopping = known({ desired: 'stopped', status: 'stopping' });
    expect(applyPodReport(stopping, 'a', { run: 2, status: 'running' })).toBe('stopping');
    for (const status of ['stopped', 'exited', 'failed'] as const)
      expect(applyPodReport(stopping, 'a', { run: 2, status })).toBe('stopped');
  });

  it('always leads to a status that there is', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...POD_STATUSES),
        fc.constantFrom(...POD_DESIRED_STATES),
        fc.boolean(),
        fc.constantFrom(...POD_REPORT_STATUSES),
        fc.integer({ min: 1, max: 3 }),
        (status, desired, isLeaving, said, run) => {
          const outcome = applyPodReport(known({ status, desired, isLeaving }), 'a', { run, status: said });
          expect([null, 'leave', ...POD_STATUSES]).toContain(outcome);
          if (outcome === 'removed') expect(desired).toBe('removed');
        },
      ),
    );
  });
});

describe('what a person may ask', () => {
  it('is nothing of what is being deleted, and deletion of all else', () => {
    for (const status of POD_STATUSES) {
      expect(allowedPodActions({ status, desired: 'removed' })).toEqual([]);
      for (const desired of ['running', 'stopped'] as const)
        expect(allowedPodActions({ status, desired })).toContain('delete');
    }
  });

  it('is a start of what is at rest and a stop of what is not', () => {
    expect(allowedPodActions({ status: 'running', desired: 'running' })).toEqual(['stop', 'restart', 'delete']);
    expect(allowedPodActions({ status: 'exited', desired: 'running' })).toContain('start');
    expect(allowedPodActions({ status: 'stopped', desired: 'stopped' })).toEqual(['start', 'delete']);
  });
});

describe('a lost node', () => {
  const on = (change: Partial<PodOnNode> = {}): PodOnNode => ({
    id: 'p',
    status: 'running',
    desired: 'running',
    onNodeLost: 'reschedule',
    isPinned: false,
    ...change,
  });
  const loss = (change: Partial<PodOnNode>) => planLoss([on(change)])[0]?.outcome;
  const drain = (change: Partial<PodOnNode>) => planDrain([on(change)])[0]?.action;

  it('gives up its pods by their policies', () => {
    expect(loss({})).toBe('pending');
    expect(loss({ onNodeLost: 'stop' })).toBe('lost');
    expect(loss({ isPinned: true })).toBe('lost');
    expect(loss({ desired: 'removed', status: 'removing' })).toBe('removed');
    expect(loss({ desired: 'stopped', status: 'stopping' })).toBe('stopped');
    expect(loss({ status: 'exited' })).toBe('kept');
  });

  it('holds none of them any more', () => {
    for (const status of POD_STATUSES) expect(isHolding({ status, nodeId: null })).toBe(false);
    expect(isHolding({ status: 'lost', nodeId: 'a' })).toBe(false);
    expect(isHolding({ status: 'stopping', nodeId: 'a' })).toBe(true);
  });

  it('that is drained moves what runs, stops what may not move, and leaves the rest alone', () => {
    expect(drain({})).toBe('move');
    expect(drain({ onNodeLost: 'stop' })).toBe('stop');
    expect(drain({ isPinned: true })).toBe('stop');
    expect(drain({ status: 'failed' })).toBe('none');
    expect(drain({ desired: 'removed', status: 'removing' })).toBe('none');
  });
});
