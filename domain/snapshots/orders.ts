/** What the orders `take_snapshot` and `restore_snapshot` say to an agent, and what it answers. */

/** How the agent reaches the repository. */
export type RepositoryRoute =
  /** Through us, at this path of the API. */
  | { kind: 'gateway'; path: string }
  /** At the store itself, as restic names it. */
  | { kind: 'direct'; url: string };

/** Joined with the input for the agent alone. */
export interface SnapshotSecrets {
  password: string;
  /** Of the gateway. */
  token?: string;
  /** Of the store, as restic reads it from its environment. */
  environment?: Record<string, string>;
}

interface SnapshotOrderInput {
  snapshotId: string;
  instanceId: string;
  /** Of the workspace; null: the agent's own setting. */
  path: string | null;
  repository: RepositoryRoute;
  /** SHA-256 of the restic that we hand out, by platform. */
  resticDigests: Record<string, string>;
}

export interface TakeSnapshotInput extends SnapshotOrderInput {
  excludes: string[];
  /** KiB a second; null: no limit. */
  uploadLimitKib: number | null;
  /** None was taken before: a folder that is not there is an empty workspace, and no loss. */
  isFirst: boolean;
}

export interface TakeSnapshotResult {
  /** As restic names it, at least its first eight characters. */
  resticId: string;
  /** Regular files. */
  files: number;
  bytes: number;
  addedBytes: number;
  tookMs: number;
  resticVersion: string;
}

export interface RestoreSnapshotInput extends SnapshotOrderInput {
  resticId: string;
  /** What must be there afterwards: regular files and their bytes. */
  files: number;
  bytes: number;
  downloadLimitKib: number | null;
}

export interface RestoreSnapshotResult {
  files: number;
  bytes: number;
  tookMs: number;
  resticVersion: string;
}
