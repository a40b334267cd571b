/** Snapshots of workspaces: rows, their states, and which one may be relied upon. The states are domain/snapshots/snapshot.ts's. */
import { sql, type Selectable } from 'kysely';
import type { SnapshotStatus } from '../domain/snapshots/snapshot.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

export type SnapshotRow = Selectable<Schema['snapshots']>;

/** @param orgId null: any */
export function findSnapshot(
  executor: Executor,
  orgId: string | null,
  snapshotId: string,
): Promise<SnapshotRow | undefined> {
  let query = executor.selectFrom('snapshots').selectAll().where('id', '=', snapshotId);
  if (orgId !== null) query = query.where('org_id', '=', orgId);
  return query.executeTakeFirst();
}

export function lockSnapshot(tx: Tx, snapshotId: string): Promise<SnapshotRow | undefined> {
  return tx.selectFrom('snapshots').selectAll().where('id', '=', snapshotId).forUpdate().executeTakeFirst();
}

/** The newest that was read back: what may be restored, and relied upon before something is destroyed. By when its data is of. */
export function latestVerified(executor: Executor, instanceId: string): Promise<SnapshotRow | undefined> {
  return executor
    .selectFrom('snapshots')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .where('status', '=', 'verified')
    .orderBy('data_at', 'desc')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
}

export interface SnapshotFilter {
  orgId: string;
  instanceId?: string;
  status?: SnapshotStatus[];
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export function listSnapshots(executor: Executor, filter: SnapshotFilter): Promise<SnapshotRow[]> {
  let query = executor.selectFrom('snapshots').selectAll().where('org_id', '=', filter.orgId);
  if (filter.instanceId !== undefined) query = query.where('instance_id', '=', filter.instanceId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.before) {
    query = query.where(sql<boolean>`(created_at, id) < (${filter.before.createdAt}, ${filter.before.id})`);
  }
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

/** Changes it only where it is in one of the states `from`; returns whether it was. */
export async function moveSnapshot(
  tx: Tx,
  snapshotId: string,
  from: readonly SnapshotStatus[],
  change: Partial<SnapshotChange> & { status: SnapshotStatus },
): Promise<boolean> {
  const moved = await tx
    .updateTable('snapshots')
    .set(change)
    .where('id', '=', snapshotId)
    .where('status', 'in', [...from])
    .returning('id')
    .executeTakeFirst();
  return moved !== undefined;
}

export type SnapshotChange = Pick<
  SnapshotRow,
  | 'restic_id'
  | 'file_count'
  | 'source_bytes'
  | 'added_bytes'
  | 'verified_files'
  | 'verified_bytes'
  | 'data_at'
  | 'taken_at'
  | 'verified_at'
  | 'deleted_at'
  | 'failure_code'
  | 'failure_detail'
>;

/** Those that a restore under way reads, that something waits for, or that an instance is to be restored from. */
export async function listSnapshotsInUse(executor: Executor, instanceId: string): Promise<Set<string>> {
  const { rows } = await sql<{ id: string }>`
    select operations.input->>'snapshotId' as id
    from operations
    where operations.kind in ('restore_workspace', 'verify_snapshot') and operations.status in ('queued', 'running')
      and operations.input->>'instanceId' = ${instanceId}
    union
    select to_jsonb(instances)->>'restore_snapshot_id' from instances
    where id = ${instanceId} and to_jsonb(instances)->>'restore_snapshot_id' is not null
    union
    select snapshots.id from snapshots join operations on operations.id = snapshots.waiting_operation_id
    where snapshots.instance_id = ${instanceId} and operations.status in ('queued', 'running')`.execute(executor);
  return new Set(rows.map((row) => row.id));
}
