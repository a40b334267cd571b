import { describe, expect, it } from 'vitest';
import {
  classifyEngineError,
  engineErrorCode,
  summarizeEngineError,
  type EngineErrorKind,
} from '../../../automation/engine/classify-error.ts';

const TEXTS: [EngineErrorKind, string][] = [
  [
    'locked',
    'code: -2\nstderr: error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end',
  ],
  ['locked', 'ConcurrentUpdateError: code: -2'],
  ['locked', 'error: [409] Conflict: Another update is currently in progress.'],
  ['no_stack', "error: no stack named 'instance-op-x' found"],
  ['no_stack', 'StackNotFoundError: code: -2'],
  ['engine_gone', 'Command failed with ENOENT: pulumi up --yes\nspawn /opt/pulumi ENOENT'],
  ['engine_gone', 'spawn /opt/pulumi/bin/pulumi EACCES'],
  ['engine_gone', 'CLI was closed: the operation child was killed'],
  ['engine_gone', 'Command was killed with SIGKILL (Forced termination): pulumi up'],
  ['canceled', 'error: update canceled'],
  ['canceled', 'the operation was cancelled'],
  ['resource_failed', 'error: update failed'],
  [
    'resource_failed',
    'Diagnostics:\n  vastai:VastaiInstance (att_x):\n    error: creating att_x: no offer left\nerror: update failed',
  ],
  ['resource_failed', 'error: update failed: 2 errored, 1 canceled'],
  ['resource_failed', 'error: preview of resource att_x failed'],
  ['unexpected', 'error: could not decrypt configuration value'],
  ['unexpected', ''],
];

describe('an error of the engine', () => {
  it.each(TEXTS)('is %s: %j', (kind, text) => {
    expect(classifyEngineError(text)).toBe(kind);
  });

  it('that only tells of a failed resource is not taken for a cancel', () => {
    expect(classifyEngineError('error: update failed\nerror: context canceled')).toBe('resource_failed');
  });

  it('is worth a retry for every kind but a cancel', () => {
    for (const kind of new Set(TEXTS.map(([one]) => one))) {
      expect(engineErrorCode(kind).isRetryable, kind).toBe(kind !== 'canceled');
    }
  });
});

describe('the summary for a person', () => {
  it("is the engine's error lines, once each, without colour and without the useless last one", () => {
    const text = [
      'Updating (instance-op-x):',
      '\u001b[31merror: \u001b[0mcreating att_x: no offer left',
      '    error: creating att_x: no offer left',
      'stderr: error: hidden twin',
      'error: update failed',
    ].join('\n');
    expect(summarizeEngineError(text)).toBe('creating att_x: no offer left');
  });

  it('is the first line where no line says error, and never empty', () => {
    expect(summarizeEngineError('CLI was closed: killed\nat foo.ts:1')).toBe('CLI was closed: killed');
    expect(summarizeEngineError('')).toBe('the engine gave no reason');
    expect(summarizeEngineError('error: update failed')).not.toBe('');
  });

  it('is bounded', () => {
    expect(summarizeEngineError(`error: ${'x'.repeat(5_000)}`)).toHaveLength(1_000);
  });
});
