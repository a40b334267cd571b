/**
 * Workspaces: the files of an instance that outlive its machine, and who may write their line of snapshots. Changing the writer raises the
 * epoch; whoever has an older one is fenced: its tokens open nothing, and what it reports is not recorded.
 */
import { sql, type Selectable } from 'kysely';
import { DEFAULT_KEEP, type WorkspaceWish } from '../domain/snapshots/snapshot.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

export type WorkspaceRow = Selectable<Schema['workspaces']>;

export type Writer = { attemptId: string } | { standbyId: string };

export async function findWorkspace(executor: Executor, instanceId: string): Promise<WorkspaceRow | undefined> {
  return executor.selectFrom('workspaces').selectAll().where('instance_id', '=', instanceId).executeTakeFirst();
}

/** By instance; those without one are missing. */
export async function listWorkspaces(executor: Executor, instanceIds: string[]): Promise<Map<string, WorkspaceRow>> {
  if (instanceIds.length === 0) return new Map();
  const rows = await executor.selectFrom('workspaces').selectAll().where('instance_id', 'in', instanceIds).execute();
  return new Map(rows.map((row) => [row.instance_id, row]));
}

/** The same, held until the transaction ends. Whoever also locks the instance locks that first. */
export async function lockWorkspace(tx: Tx, instanceId: string): Promise<WorkspaceRow | undefined> {
  return tx.selectFrom('workspaces').selectAll().where('instance_id', '=', instanceId).forUpdate().executeTakeFirst();
}

/**
 * Makes the workspace of an instance where it has none; one that is there stays as it is. Of an instance that is ready its machine is the
 * writer from now on, where there was none yet. Whoever may change the instance meanwhile holds its row.
 */
export async function ensureWorkspace(
  tx: Tx,
  { instanceId, orgId, wish = {} }: { instanceId: string; orgId: string; wish?: WorkspaceWish },
): Promise<WorkspaceRow> {
  await tx
    .insertInto('workspaces')
    .values({ instance_id: instanceId, org_id: orgId, ...columnsOf(wish) })
    .onConflict((conflict) => conflict.column('instance_id').doNothing())
    .execute();
  const instance = await tx
    .selectFrom('instances')
    .select('winner_attempt_id')
    .where('id', '=', instanceId)
    .where('status', '=', 'ready')
    .executeTakeFirst();
  if (instance?.winner_attempt_id != null) await claimFirstWriter(tx, instanceId, instance.winner_attempt_id);
  return (await findWorkspace(tx, instanceId)) as WorkspaceRow;
}

/** What is wished for from now on; what is left out stays. Its path stays too: snapshots were taken there. */
export async function changeWorkspace(tx: Tx, instanceId: string, wish: WorkspaceWish): Promise<void> {
  const { snapshotEveryMs, keep, excludes, uploadLimitKib, downloadLimitKib } = wish;
  await tx
    .updateTable('workspaces')
    .set({
      ...(snapshotEveryMs === undefined ? {} : { snapshot_every_ms: toBigint(snapshotEveryMs) }),
      ...(keep === undefined ? {} : { keep: JSON.stringify(keep) }),
      ...(excludes === undefined ? {} : { excludes: JSON.stringify(excludes) }),
      ...(uploadLimitKib === undefined ? {} : { upload_limit_kib: uploadLimitKib }),
      ...(downloadLimitKib === undefined ? {} : { download_limit_kib: downloadLimitKib }),
      // Another promise is judged anew by the cron.
      instance_id: instanceId,
    })
    .where('instance_id', '=', instanceId)
    .execute();
}

/**
 * From now on this one writes, or nobody (null). Raises the epoch and ends every token that was made for an older one; the same writer
 * again changes nothing. @returns the epoch. Throws where the instance has no workspace.
 */
export async function setWriter(tx: Tx, instanceId: string, writer: Writer | null): Promise<number> {
  const workspace = await lockWorkspace(tx, instanceId);
  if (!workspace) throw new Error(`${instanceId} has no workspace`);
  const attemptId = writer !== null && 'attemptId' in writer ? writer.attemptId : null;
  const standbyId = writer !== null && 'standbyId' in writer ? writer.standbyId : null;
  const isSame = workspace.writer_attempt_id === attemptId && workspace.writer_standby_id === standbyId;
  // Without a writer from the beginning there is nobody to fence; so the first one is known by its epoch.
  if (isSame) return workspace.epoch;
  const epoch = workspace.epoch + 1;
  await tx
    .updateTable('workspaces')
    .set({
      epoch,
      writer_attempt_id: attemptId,
      writer_standby_id: standbyId,
      writer_since: writer === null ? null : sql<string>`now()`,
    })
    .where('instance_id', '=', instanceId)
    .execute();
  await tx
    .updateTable('repository_tokens')
    .set({ revoked_at: sql<Date>`now()` })
    .where('instance_id', '=', instanceId)
    .where('access', '=', 'write')
    .where('epoch', '<', epoch)
    .where('revoked_at', 'is', null)
    .execute();
  return epoch;
}

/**
 * The first machine of an instance becomes its writer when it is ready. A later one does not by that: its workspace is empty until
 * somebody has restored it and calls setWriter.
 */
export async function claimFirstWriter(tx: Tx, instanceId: string, attemptId: string): Promise<void> {
  const workspace = await lockWorkspace(tx, instanceId);
  if (workspace && workspace.epoch === 0) await setWriter(tx, instanceId, { attemptId });
}

/** Whether the node is the one that writes; its node row says what it is of. */
export async function isWriterNode(executor: Executor, workspace: WorkspaceRow, nodeId: string): Promise<boolean> {
  const node = await executor
    .selectFrom('nodes')
    .select(['attempt_id', sql<string | null>`to_jsonb(nodes)->>'standby_id'`.as('standby_id')])
    .where('id', '=', nodeId)
    .executeTakeFirst();
  if (!node) return false;
  const { writer_attempt_id: attemptId, writer_standby_id: standbyId } = workspace;
  return (attemptId !== null && node.attempt_id === attemptId) || (standbyId !== null && node.standby_id === standbyId);
}

/** The node that writes; undefined: there is no writer, or its agent has not registered. */
export async function findWriterNode(executor: Executor, workspace: WorkspaceRow): Promise<string | undefined> {
  const { writer_attempt_id: attemptId, writer_standby_id: standbyId } = workspace;
  if (attemptId === null && standbyId === null) return undefined;
  const row = await executor
    .selectFrom('nodes')
    .select('id')
    .where(
      attemptId !== null
        ? sql<boolean>`attempt_id = ${attemptId}`
        : sql<boolean>`to_jsonb(nodes)->>'standby_id' = ${standbyId}`,
    )
    .executeTakeFirst();
  return row?.id;
}

/** Its repository was made: from now on this is its place and its password. Whoever comes second finds what the first one recorded. */
export async function recordRepository(
  tx: Tx,
  instanceId: string,
  repository: { passwordSealed: string; storeUrl: string },
): Promise<void> {
  await tx
    .updateTable('workspaces')
    .set({ password_sealed: repository.passwordSealed, store_url: repository.storeUrl })
    .where('instance_id', '=', instanceId)
    .where('password_sealed', 'is', null)
    .execute();
}

export async function recordInitialized(tx: Executor, instanceId: string): Promise<void> {
  await tx
    .updateTable('workspaces')
    .set({ initialized_at: sql<Date>`coalesce(initialized_at, now())` })
    .where('instance_id', '=', instanceId)
    .execute();
}

/** @param isMeasured false: reckoned from what was added since */
export async function recordStoredBytes(
  tx: Executor,
  instanceId: string,
  bytes: bigint,
  { isMeasured }: { isMeasured: boolean },
): Promise<void> {
  await tx
    .updateTable('workspaces')
    .set({ stored_bytes: bytes, ...(isMeasured ? { measured_at: sql<Date>`now()` } : {}) })
    .where('instance_id', '=', instanceId)
    .execute();
}

function columnsOf(wish: WorkspaceWish) {
  return {
    path: wish.path ?? null,
    snapshot_every_ms: toBigint(wish.snapshotEveryMs ?? null),
    keep: JSON.stringify(wish.keep ?? DEFAULT_KEEP),
    excludes: JSON.stringify(wish.excludes ?? []),
    upload_limit_kib: wish.uploadLimitKib ?? null,
    download_limit_kib: wish.downloadLimitKib ?? null,
  };
}

function toBigint(value: number | null): bigint | null {
  return value === null ? null : BigInt(value);
}

/** The repository `damaged` is written no more. Harmless where that was done already. */
export async function beginGeneration(tx: Tx, instanceId: string, damaged: number): Promise<void> {
  await tx
    .updateTable('workspaces')
    .set({ generation: damaged + 1, initialized_at: null, stored_bytes: null })
    .where('instance_id', '=', instanceId)
    .where('generation', '=', damaged)
    .execute();
}
