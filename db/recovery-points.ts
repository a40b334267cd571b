/** How old what could be restored of a workspace is, and what stands in the way of the next: the view that domain/standby.ts judges. */
import type { Executor } from './database.ts';
import { latestVerified, type SnapshotRow } from './snapshots.ts';
import { findWorkspace, findWriterNode } from './workspaces.ts';

export interface RecoveryPoints {
  newest: SnapshotRow | undefined;
  underWay: { startedAt: number } | null;
  lastTookMs: number | null;
  lastFailure: { at: number; detail: string } | null;
  /** null: nobody writes, so that nothing new can be lost. */
  source: { nodeId: string | null; heardAt: number | null; since: number } | null;
}

/** null: the instance has no workspace. */
export async function readRecoveryPoints(executor: Executor, instanceId: string): Promise<RecoveryPoints | null> {
  const workspace = await findWorkspace(executor, instanceId);
  if (!workspace) return null;
  const [newest, last] = await Promise.all([latestVerified(executor, instanceId), findLast(executor, instanceId)]);
  const since = workspace.writer_since;
  const nodeId = since !== null ? ((await findWriterNode(executor, workspace)) ?? null) : null;
  const node =
    nodeId === null
      ? undefined
      : await executor.selectFrom('nodes').select('heartbeat_at').where('id', '=', nodeId).executeTakeFirst();
  const isUnderWay = last !== undefined && ['taking', 'taken', 'verifying'].includes(last.status);
  return {
    newest,
    underWay: isUnderWay ? { startedAt: last.created_at.getTime() } : null,
    lastTookMs: newest?.verified_at && newest.data_at ? newest.verified_at.getTime() - newest.data_at.getTime() : null,
    lastFailure:
      last?.status === 'failed'
        ? { at: (last.ended_at ?? last.created_at).getTime(), detail: last.failure_detail ?? 'for no known reason' }
        : null,
    source: since === null ? null : { nodeId, heardAt: node?.heartbeat_at?.getTime() ?? null, since: since.getTime() },
  };
}

function findLast(executor: Executor, instanceId: string) {
  return executor
    .selectFrom('snapshots')
    .leftJoin('operations', 'operations.id', 'snapshots.operation_id')
    .select([
      'snapshots.status',
      'snapshots.created_at',
      'snapshots.failure_detail',
      'operations.finished_at as ended_at',
    ])
    .where('snapshots.instance_id', '=', instanceId)
    .where('snapshots.status', 'not in', ['deleting', 'deleted'])
    .orderBy('snapshots.created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
}
