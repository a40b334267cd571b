/** An operation's row as the API shows it. */
import { isCancelable, isFinished } from '../../domain/operation.ts';
import type { OperationRow } from '../../db/operations.ts';
import type { Operation, OperationRef } from '../contract/operations.ts';
import { iso, isoOrNull } from '../reply-values.ts';

export function operationReply(row: OperationRow): Operation {
  return {
    id: row.id,
    kind: row.kind,
    status: row.status,
    targetKind: row.target_kind,
    targetId: row.target_id,
    claim: row.claim,
    note: row.note,
    error: row.error_code === null ? null : { code: row.error_code, detail: row.error_detail ?? '' },
    allowedActions:
      isCancelable(row.kind) && !isFinished(row.status) && row.cancel_requested_at === null ? ['cancel'] : [],
    cancelRequestedAt: isoOrNull(row.cancel_requested_at),
    createdAt: iso(row.created_at),
    startedAt: isoOrNull(row.started_at),
    finishedAt: isoOrNull(row.finished_at),
    updates: row.updates as unknown[],
  };
}

export function operationRefReply(row: OperationRow): OperationRef {
  return { id: row.id, kind: row.kind, status: row.status };
}

export function operationLocation(row: OperationRow): string {
  return `/api/v1/operations/${row.id}`;
}
