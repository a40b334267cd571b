/**
 * What a person says of a pending create that nothing can tell: that it was made, and by which id, or that it was not. The engine's own words
 * for it are `--import-pending-creates` and `--clear-pending-creates`.
 */

export type PendingDecision = { kind: 'import'; id: string } | { kind: 'clear' };

/** A pending create that holds an update back. */
export interface UndecidedCreate {
  urn: string;
  name: string;
  type: string;
  why: string;
  /** Ids of what there is and may be it. */
  found: string[];
}

export interface PendingCreate extends UndecidedCreate {
  /** null: nobody has said. */
  decision: PendingDecision | null;
}

/** What is to be decided after a try: what held it back is open again, and what was said of the others still stands. */
export function mergePending(before: readonly PendingCreate[], undecided: readonly UndecidedCreate[]): PendingCreate[] {
  const open = undecided.map((one): PendingCreate => ({ ...one, decision: null }));
  const decided = before.filter(({ urn, decision }) => decision !== null && !open.some((one) => one.urn === urn));
  return [...open, ...decided];
}

export function decisionsOf(pending: readonly PendingCreate[]): Record<string, PendingDecision> {
  return Object.fromEntries(pending.flatMap(({ urn, decision }) => (decision === null ? [] : [[urn, decision]])));
}
