/**
 * When a workspace is due for its next snapshot, and whether it is behind its promise: what could be lost is never of longer than its
 * recovery point objective.
 */
export interface ScheduleView {
  /** The promise; null: snapshots on request only. */
  everyMs: number | null;
  /** When the newest snapshot that did not fail began; null: there was none. */
  lastBegunAt: Date | null;
  /** How long the newest verified one took, from its beginning to its verification; null: not known. */
  lastTookMs: number | null;
  /** Of the newest verified one; null: there is none. */
  verifiedDataAt: Date | null;
  /** Of the trouble since the last success. */
  failuresInRow: number;
  lastFailureAt: Date | null;
  /** One is on its way. */
  isUnderWay: boolean;
  /** Since when its present writer writes: what is older it has restored, and can again. */
  writerSince: Date;
}

const FIRST_RETRY_MS = 15_000;
const MAX_RETRY_MS = 10 * 60_000;

/** It begins as early as it takes to be verified in time, at most half its interval. */
export function isSnapshotDue(view: ScheduleView, now: Date): boolean {
  if (view.everyMs === null || view.isUnderWay) return false;
  if (view.failuresInRow > 0 && view.lastFailureAt !== null) {
    const waitMs = Math.min(MAX_RETRY_MS, view.everyMs, FIRST_RETRY_MS * 2 ** Math.min(view.failuresInRow - 1, 10));
    return now.getTime() - view.lastFailureAt.getTime() >= waitMs;
  }
  if (view.lastBegunAt === null) return true;
  const early = Math.min(view.lastTookMs ?? 0, view.everyMs / 2);
  return now.getTime() - view.lastBegunAt.getTime() >= view.everyMs - early;
}

/**
 * Since when the promise has not been kept; null: it is. It counts from the newest verified snapshot, or from when its writer began, if that
 * was later: while nobody writes nothing grows old.
 */
export function behindSince(
  view: Pick<ScheduleView, 'everyMs' | 'verifiedDataAt' | 'writerSince'>,
  now: Date,
): Date | null {
  if (view.everyMs === null) return null;
  const from = Math.max(view.verifiedDataAt?.getTime() ?? 0, view.writerSince.getTime());
  const over = from + view.everyMs;
  return now.getTime() > over ? new Date(over) : null;
}
