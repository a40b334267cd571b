/** Retention: which snapshots of a workspace need not be kept any longer. */
import type { KeepPolicy, SnapshotStatus } from './snapshot.ts';

export interface RetainedSnapshot {
  id: string;
  status: SnapshotStatus;
  /** null: it was never taken. */
  dataAt: Date | null;
  createdAt: Date;
  /** Something restores from it, or is to. */
  isInUse: boolean;
}

const DAY_MS = 86_400_000;
/** 1970-01-01 was a Thursday; weeks begin on Monday. */
const WEEK_OFFSET_MS = 3 * DAY_MS;
/** What failed is of interest for a while, to see why. */
const FAILED_KEPT_MS = 3 * DAY_MS;

/**
 * Ids to delete. Never one in use, never the newest verified one, never one on its way. Days and weeks are UTC, counted where there are
 * snapshots: after a month without any, the last days of before are still there.
 */
export function chooseExpired(snapshots: readonly RetainedSnapshot[], keep: KeepPolicy, now: Date): string[] {
  const verified = snapshots
    .filter((snapshot) => snapshot.status === 'verified')
    .sort((a, b) => timeOf(b) - timeOf(a) || (a.id < b.id ? 1 : -1));
  const kept = new Set<string>();
  for (const snapshot of verified.slice(0, Math.max(1, keep.last))) kept.add(snapshot.id);
  keepNewestOfEach(verified, keep.daily, (time) => Math.floor(time / DAY_MS), kept);
  keepNewestOfEach(verified, keep.weekly, (time) => Math.floor((time + WEEK_OFFSET_MS) / (7 * DAY_MS)), kept);
  const expired = verified.filter((snapshot) => !kept.has(snapshot.id));
  const failed = snapshots.filter(
    (snapshot) => snapshot.status === 'failed' && now.getTime() - snapshot.createdAt.getTime() > FAILED_KEPT_MS,
  );
  return [...expired, ...failed].filter((snapshot) => !snapshot.isInUse).map((snapshot) => snapshot.id);
}

/** @param verified newest first */
function keepNewestOfEach(
  verified: readonly RetainedSnapshot[],
  count: number,
  periodOf: (time: number) => number,
  kept: Set<string>,
): void {
  const seen = new Set<number>();
  for (const snapshot of verified) {
    const period = periodOf(timeOf(snapshot));
    if (seen.has(period)) continue;
    if (seen.size >= count) return;
    seen.add(period);
    kept.add(snapshot.id);
  }
}

function timeOf(snapshot: RetainedSnapshot): number {
  return (snapshot.dataAt ?? snapshot.createdAt).getTime();
}
