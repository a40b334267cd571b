/** All sniffing of the engine's text: errors of the Automation API always carry code -2, so the text decides. */
import type { ErrorCode } from '../../domain/error-table.ts';

export type EngineErrorKind =
  /** Somebody else's update runs on the stack, or a dead one's lock is left. */
  | 'locked'
  /** The update was interrupted on request. */
  | 'canceled'
  /** The stack is not there. */
  | 'no_stack'
  /** The binary is missing, cannot be run, or died. */
  | 'engine_gone'
  /** A resource could not be made, changed or deleted; per-resource outcomes say more. */
  | 'resource_failed'
  | 'unexpected';

export function classifyEngineError(text: string): EngineErrorKind {
  if (/ConcurrentUpdateError|the stack is currently locked|Another update is currently in progress/i.test(text))
    return 'locked';
  if (/no stack named|StackNotFoundError/i.test(text)) return 'no_stack';
  if (/ENOENT|EACCES|spawn .*pulumi|SIGKILL|killed|signal: |exited with code null|CLI was closed/i.test(text))
    return 'engine_gone';
  if (/cancel(l)?ed|interrupted|context canceled|update canceled/i.test(text) && !/update failed/i.test(text))
    return 'canceled';
  if (/update failed|resource .*failed|error: .*(creating|deleting|updating)|[1-9]\d* errored/i.test(text))
    return 'resource_failed';
  return 'unexpected';
}

/** The code that a person sees, and whether the step is worth repeating. */
export function engineErrorCode(kind: EngineErrorKind): { code: ErrorCode; isRetryable: boolean } {
  switch (kind) {
    case 'locked':
    case 'engine_gone':
      return { code: 'engine_unavailable', isRetryable: true };
    case 'resource_failed':
      return { code: 'provider_unavailable', isRetryable: true };
    case 'canceled':
      return { code: 'canceled', isRetryable: false };
    case 'no_stack':
    case 'unexpected':
      return { code: 'engine_failed', isRetryable: true };
  }
}

/** The lines a person can use: the engine's `error:` lines without colour, at most a few. */
export function summarizeEngineError(text: string): string {
  // eslint-disable-next-line no-control-regex
  const plain = text.replace(/\u001b\[[0-9;]*m/g, '');
  const lines = plain
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /error:/i.test(line) && !/^stderr:/i.test(line))
    .map((line) =>
      line.replace(/^.*?error:\s*/i, '').replace(/^Command was killed with (\w+).*$/, 'the engine was killed ($1)'),
    );
  const useful = [...new Set(lines)].filter(
    (line) => line !== '' && !/^(update failed|Command failed with exit code.*)$/i.test(line),
  );
  const first = plain.trim().split('\n')[0];
  return (useful.length > 0 ? useful.slice(0, 3).join('; ') : first || 'the engine gave no reason').slice(0, 1000);
}
