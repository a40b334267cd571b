/**
 * A snapshot: what a workspace's files were at one moment, kept in its repository. A node takes it; only what the control plane itself has
 * read back counts as verified.
 *
 * States, how each is entered and left:
 *   taking     accepted; the node uploads → taken | failed
 *   taken      the node says it is there → verifying | failed
 *   verifying  a worker reads every byte back → verified | failed
 *   verified   may be restored, and what depends on it destroyed → verifying (asked again) | deleting
 *   failed     never relied upon → deleting
 *   deleting   its data is being removed → deleted
 *   deleted    the end
 */
export const SNAPSHOT_STATUSES = ['taking', 'taken', 'verifying', 'verified', 'failed', 'deleting', 'deleted'] as const;
export type SnapshotStatus = (typeof SNAPSHOT_STATUSES)[number];

export const SNAPSHOT_CAUSES = ['schedule', 'request', 'hibernate', 'failover', 'standby'] as const;
export type SnapshotCause = (typeof SNAPSHOT_CAUSES)[number];

/** What a person may do with one. */
export const SNAPSHOT_ACTIONS = ['verify', 'restore', 'delete'] as const;
export type SnapshotAction = (typeof SNAPSHOT_ACTIONS)[number];

const ALLOWED: Record<SnapshotStatus, readonly SnapshotAction[]> = {
  taking: [],
  taken: [],
  verifying: [],
  verified: ['verify', 'restore', 'delete'],
  failed: ['delete'],
  deleting: [],
  deleted: [],
};

export function allowedSnapshotActions(status: SnapshotStatus): readonly SnapshotAction[] {
  return ALLOWED[status];
}

/** Whether its operation has come to its end. */
export function isSettled(status: SnapshotStatus): boolean {
  return status !== 'taking' && status !== 'taken' && status !== 'verifying';
}

/** Where a workspace lies on a node whose request names no place. */
export const DEFAULT_WORKSPACE_PATH = '/workspace';

/** How many snapshots stay. The last verified one always does. */
export interface KeepPolicy {
  /** The newest so many. */
  last: number;
  /** The newest of each of so many days. */
  daily: number;
  /** The newest of each of so many weeks. */
  weekly: number;
}

export const DEFAULT_KEEP: KeepPolicy = { last: 3, daily: 7, weekly: 4 };

/** What an instance asked for; kept in its request. */
export interface WorkspaceWish {
  /** On the node. @default the agent's own setting (`/workspace`) */
  path?: string | null;
  /** The promised age of the newest verified snapshot. null or absent: on request only. */
  snapshotEveryMs?: number | null;
  keep?: KeepPolicy;
  /** As restic's --exclude takes them. */
  excludes?: string[];
  /** KiB a second; null: no limit. */
  uploadLimitKib?: number | null;
  downloadLimitKib?: number | null;
}
