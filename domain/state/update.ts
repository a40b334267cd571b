/**
 * An update as the state service knows it: one run of an engine on one stack, ours or of a person's CLI. One that changes anything holds the
 * stack from its start to its end, by a lease that its engine renews; whoever ends it (itself, a cancel, a lease that ran out, our runner
 * that knows its process to be dead) ends its right to write too.
 *
 *   not_started   made, holds nothing → running
 *   running       → succeeded | failed | canceled
 */
export const STATE_UPDATE_KINDS = ['update', 'preview', 'refresh', 'destroy', 'import'] as const;
export type StateUpdateKind = (typeof STATE_UPDATE_KINDS)[number];

export const STATE_UPDATE_STATUSES = ['not_started', 'running', 'succeeded', 'failed', 'canceled'] as const;
export type StateUpdateStatus = (typeof STATE_UPDATE_STATUSES)[number];

export interface StateUpdateRequest {
  message?: string;
  environment?: Record<string, string>;
  /** Secret values are encrypted by the CLI. */
  config?: Record<string, { string: string; secret: boolean; object: boolean }>;
}

/** The CLI takes every lease for five minutes and renews it at half of that (observed: at 150 and 187.5 s at the latest). */
export const STATE_LEASE_MS = 300_000;

/** Whether it may write the stack's state, and therefore holds the stack. */
export function holdsStack(update: { kind: StateUpdateKind; isDryRun: boolean }): boolean {
  return update.kind !== 'preview' && !update.isDryRun;
}
