/** Rows of workspaces and snapshots as the API shows them. */
import { allowedSnapshotActions, DEFAULT_WORKSPACE_PATH } from '../../domain/snapshots/snapshot.ts';
import { parseStoreUrl, storageCostMicroUsd } from '../../domain/snapshots/store.ts';
import type { SnapshotRow } from '../../db/snapshots.ts';
import type { WorkspaceRow } from '../../db/workspaces.ts';
import type { Snapshot, Workspace } from '../contract/snapshots.ts';
import { iso, isoOrNull } from '../reply-values.ts';

export function snapshotReply(row: SnapshotRow): Snapshot {
  return {
    id: row.id,
    instanceId: row.instance_id,
    nodeId: row.node_id,
    status: row.status,
    allowedActions: [...allowedSnapshotActions(row.status)],
    cause: row.cause,
    epoch: row.epoch,
    operationId: row.operation_id,
    files: numberOrNull(row.file_count),
    bytes: numberOrNull(row.source_bytes),
    addedBytes: numberOrNull(row.added_bytes),
    verifiedFiles: numberOrNull(row.verified_files),
    verifiedBytes: numberOrNull(row.verified_bytes),
    dataAt: isoOrNull(row.data_at),
    takenAt: isoOrNull(row.taken_at),
    verifiedAt: isoOrNull(row.verified_at),
    deletedAt: isoOrNull(row.deleted_at),
    failureCode: row.failure_code,
    failureDetail: row.failure_detail,
    createdAt: iso(row.created_at),
  };
}

export function workspaceReply(row: WorkspaceRow, last: SnapshotRow | undefined): Workspace {
  const store = row.store_url === null ? undefined : parseStoreUrl(row.store_url);
  const { writer_attempt_id: attemptId, writer_standby_id: standbyId } = row;
  return {
    instanceId: row.instance_id,
    path: row.path ?? DEFAULT_WORKSPACE_PATH,
    epoch: row.epoch,
    writer: attemptId === null && standbyId === null ? null : { attemptId, standbyId },
    snapshotEveryMs: numberOrNull(row.snapshot_every_ms),
    behindSince: isoOrNull(row.behind_since),
    keep: row.keep,
    excludes: row.excludes,
    uploadLimitKib: row.upload_limit_kib,
    downloadLimitKib: row.download_limit_kib,
    store: store?.kind ?? null,
    storedBytes: numberOrNull(row.stored_bytes),
    storageMicroUsdPerMonth:
      store === undefined || row.stored_bytes === null
        ? null
        : Number(storageCostMicroUsd(store.kind, row.stored_bytes)),
    lastVerifiedSnapshotId: last?.id ?? null,
    recoveryPointAt: isoOrNull(last?.data_at ?? null),
    createdAt: iso(row.created_at),
  };
}

function numberOrNull(value: bigint | null): number | null {
  return value === null ? null : Number(value);
}
