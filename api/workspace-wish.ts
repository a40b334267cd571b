/** What a request says of a workspace, with its durations read. */
import { parseDuration } from '../domain/duration.ts';
import { DEFAULT_KEEP, type WorkspaceWish } from '../domain/snapshots/snapshot.ts';
import type { WorkspaceWishBody } from './contract/snapshots.ts';

export function readWorkspaceWish(body: WorkspaceWishBody): WorkspaceWish {
  const { path, snapshotEvery, keep, excludes, uploadLimitKib, downloadLimitKib } = body;
  return {
    ...(path === undefined ? {} : { path }),
    ...(snapshotEvery === undefined
      ? {}
      : { snapshotEveryMs: snapshotEvery === null ? null : parseDuration(snapshotEvery) }),
    ...(keep === undefined ? {} : { keep: { ...DEFAULT_KEEP, ...keep } }),
    ...(excludes === undefined ? {} : { excludes }),
    ...(uploadLimitKib === undefined ? {} : { uploadLimitKib }),
    ...(downloadLimitKib === undefined ? {} : { downloadLimitKib }),
  };
}
