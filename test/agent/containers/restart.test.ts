import { describe, expect, it } from 'vitest';
import { nextHealth, NOT_ASKED, type HealthCheck } from '../../../agent/containers/probe.ts';
import { isStartedAgain, restartDelayMs } from '../../../agent/containers/restart.ts';

describe('a container that has ended', () => {
  it.each([
    ['never', true, false],
    ['on_failure', false, false],
    ['on_failure', true, true],
    ['always', false, true],
  ] as const)('with the policy %s, failed %s: started again %s', (restartPolicy, hasFailed, isAgain) => {
    expect(isStartedAgain({ restartPolicy, maxRestarts: null }, hasFailed, 99)).toBe(isAgain);
  });

  it('is not started again beyond its maximum', () => {
    expect(isStartedAgain({ restartPolicy: 'always', maxRestarts: 2 }, true, 1)).toBe(true);
    expect(isStartedAgain({ restartPolicy: 'always', maxRestarts: 2 }, true, 2)).toBe(false);
  });

  it('waits longer each time, up to five minutes', () => {
    expect([0, 1, 2, 8, 500].map(restartDelayMs)).toEqual([1_000, 2_000, 4_000, 256_000, 300_000]);
  });
});

describe('health', () => {
  const check: HealthCheck = {
    probe: { kind: 'tcp', port: 80 },
    intervalSeconds: 10,
    timeoutSeconds: 1,
    retries: 2,
    startPeriodSeconds: 30,
  };
  const after = (answers: (string | null)[], runsForMs: number) =>
    answers.reduce((state, answer) => nextHealth(state, check, answer, { now: 0, runsForMs }), NOT_ASKED);

  it('is lost by failures in a row, and won by one success', () => {
    expect(after([null, 'no'], 60_000)).toMatchObject({ health: 'healthy', failures: 1 });
    expect(after([null, 'no', 'no'], 60_000)).toMatchObject({ health: 'unhealthy', reason: 'no' });
    expect(after([null, 'no', null, 'no'], 60_000).health).toBe('healthy');
    expect(after(['no', 'no', null], 60_000)).toMatchObject({ health: 'healthy', reason: null });
  });

  it('is not lost while it starts', () => {
    expect(after(['no', 'no', 'no'], 10_000)).toMatchObject({ health: 'starting', failures: 0 });
    expect(after(['no', 'no'], 30_000).health).toBe('unhealthy');
  });

  it('is asked again after the interval', () => {
    expect(nextHealth(NOT_ASKED, check, null, { now: 5_000, runsForMs: 0 }).nextAt).toBe(15_000);
  });
});
