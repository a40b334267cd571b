/** Clusters: what is known of them, what was last read from them, and, apart from that and sealed, how they are reached. */
import { sql, type Selectable } from 'kysely';
import type { ClusterHealth, ClusterKind, ClusterStatus, HealthStreak } from '../domain/clusters/cluster.ts';
import type { NodeFacts, sumNodes } from '../domain/clusters/node-facts.ts';
import type { Platform } from '../domain/clusters/platform.ts';
import { endClusterNodes } from './cluster-enrolments.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type ClusterRow = Selectable<Schema['clusters']>;
export type ClusterAccessRow = Selectable<Schema['cluster_access']>;
export type ClusterFactsRow = Selectable<Schema['cluster_facts']>;

export type ClusterSummary = ReturnType<typeof sumNodes>;

export interface StorageClassFacts {
  name: string;
  provisioner: string;
  isDefault: boolean;
  reclaimPolicy: string | null;
  volumeBindingMode: string | null;
  allowsExpansion: boolean;
}

/** A warning that Kubernetes itself recorded; recurrences are counted by it. */
export interface WarningFacts {
  reason: string;
  message: string;
  objectKind: string;
  objectName: string;
  namespace: string | null;
  count: number;
  lastSeenAt: string | null;
}

export interface NewCluster {
  id: string;
  orgId: string;
  kind: ClusterKind;
  name: string;
  stackId: string | null;
  region: string | null;
  createdBy: string;
}

export function newClusterId(): string {
  return newId('cluster');
}

/** @returns null where a cluster of the org that is still there has the name */
export async function insertCluster(tx: Tx, cluster: NewCluster): Promise<ClusterRow | null> {
  const row = await tx
    .insertInto('clusters')
    .values({
      id: cluster.id,
      org_id: cluster.orgId,
      kind: cluster.kind,
      name: cluster.name,
      stack_id: cluster.stackId,
      region: cluster.region,
      created_by: cluster.createdBy,
    })
    .onConflict((conflict) => conflict.columns(['org_id', 'name']).where('removed_at', 'is', null).doNothing())
    .returningAll()
    .executeTakeFirst();
  return row ?? null;
}

export async function isClusterNameTaken(executor: Executor, orgId: string, name: string): Promise<boolean> {
  const row = await executor
    .selectFrom('clusters')
    .select('id')
    .where('org_id', '=', orgId)
    .where('name', '=', name)
    .where('removed_at', 'is', null)
    .executeTakeFirst();
  return row !== undefined;
}

/** Of a registration that was refused: nothing was made. */
export async function deleteCluster(tx: Tx, id: string): Promise<void> {
  await tx.deleteFrom('clusters').where('id', '=', id).execute();
}

/** @param orgId null: any org */
export async function findCluster(
  executor: Executor,
  orgId: string | null,
  id: string,
): Promise<ClusterRow | undefined> {
  return executor
    .selectFrom('clusters')
    .selectAll()
    .where('id', '=', id)
    .$if(orgId !== null, (query) => query.where('org_id', '=', orgId as string))
    .executeTakeFirst();
}

export async function lockCluster(tx: Tx, id: string): Promise<ClusterRow | undefined> {
  return tx.selectFrom('clusters').selectAll().where('id', '=', id).forUpdate().executeTakeFirst();
}

export async function findClusterOfStack(executor: Executor, stackId: string): Promise<ClusterRow | undefined> {
  return executor.selectFrom('clusters').selectAll().where('stack_id', '=', stackId).executeTakeFirst();
}

/** Another live cluster of the org that is the same one. */
export async function findSameCluster(
  executor: Executor,
  orgId: string,
  namespaceUid: string,
  exceptId: string,
): Promise<ClusterRow | undefined> {
  return executor
    .selectFrom('clusters')
    .selectAll()
    .where('org_id', '=', orgId)
    .where('namespace_uid', '=', namespaceUid)
    .where('removed_at', 'is', null)
    .where('id', '<>', exceptId)
    .executeTakeFirst();
}

export interface ClusterFilter {
  orgId: string;
  kind?: ClusterKind;
  status?: ClusterStatus[];
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first; without those that are gone unless their status is asked for. */
export async function listClusters(executor: Executor, filter: ClusterFilter): Promise<ClusterRow[]> {
  const { orgId, kind, status, before } = filter;
  return executor
    .selectFrom('clusters')
    .selectAll()
    .where('org_id', '=', orgId)
    .$if(kind !== undefined, (query) => query.where('kind', '=', kind as ClusterKind))
    .$if(status !== undefined, (query) => query.where('status', 'in', status as ClusterStatus[]))
    .$if(status === undefined, (query) => query.where('removed_at', 'is', null))
    .$if(before !== undefined, (query) =>
      query.where(sql<boolean>`(created_at, id) < (${before?.createdAt ?? null}::timestamptz, ${before?.id ?? null})`),
    )
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(filter.limit)
    .execute();
}

/** The end of a cluster is also the end of what we knew of it; one that comes up (again) is looked at next, not a minute after the last look. */
export async function setClusterStatus(
  tx: Tx,
  id: string,
  status: ClusterStatus,
  failure: { code: string; detail: string } | null = null,
): Promise<void> {
  const isEnd = status === 'destroyed';
  await tx
    .updateTable('clusters')
    .set({
      status,
      failure_code: failure?.code ?? null,
      failure_detail: failure?.detail ?? null,
      ...(status === 'stopped' || status === 'creating' ? { reason: null, streak: null } : {}),
      ...(status === 'creating' ? { checked_at: null } : {}),
      ...(isEnd ? { removed_at: sql<Date>`coalesce(removed_at, now())`, reason: null, streak: null } : {}),
    })
    .where('id', '=', id)
    .execute();
  if (!isEnd) return;
  await tx.deleteFrom('cluster_access').where('cluster_id', '=', id).execute();
  await tx.deleteFrom('cluster_facts').where('cluster_id', '=', id).execute();
  await endClusterNodes(tx, id);
}

/** Also takes the token of the access before away. */
export async function saveClusterAccess(
  executor: Executor,
  id: string,
  access: { sealed: string; endpoint: string; cloudName?: string | null },
): Promise<void> {
  const content = {
    access_sealed: access.sealed,
    sealed_at: sql<Date>`now()`,
    token_sealed: null,
    token_expires_at: null,
  };
  await executor
    .insertInto('cluster_access')
    .values({ cluster_id: id, ...content })
    .onConflict((conflict) => conflict.column('cluster_id').doUpdateSet(content))
    .execute();
  await executor
    .updateTable('clusters')
    .set({
      endpoint: access.endpoint,
      ...(access.cloudName === undefined ? {} : { cloud_name: access.cloudName }),
    })
    .where('id', '=', id)
    .execute();
}

export async function findClusterAccess(executor: Executor, id: string): Promise<ClusterAccessRow | undefined> {
  return executor.selectFrom('cluster_access').selectAll().where('cluster_id', '=', id).executeTakeFirst();
}

export async function saveClusterToken(
  executor: Executor,
  id: string,
  token: { sealed: string; expiresAt: Date },
): Promise<void> {
  await executor
    .updateTable('cluster_access')
    .set({ token_sealed: token.sealed, token_expires_at: token.expiresAt })
    .where('cluster_id', '=', id)
    .execute();
}

export async function findClusterFacts(executor: Executor, id: string): Promise<ClusterFactsRow | undefined> {
  return executor.selectFrom('cluster_facts').selectAll().where('cluster_id', '=', id).executeTakeFirst();
}

/** Clusters nobody has looked at for so long and that can be reached, those that waited longest first. */
export async function listDueForLook(executor: Executor, olderThanMs: number, limit: number): Promise<ClusterRow[]> {
  return (
    executor
      .selectFrom('clusters')
      .selectAll('clusters')
      .innerJoin('cluster_access', 'cluster_access.cluster_id', 'clusters.id')
      .where('clusters.status', 'in', ['creating', 'available', 'degraded', 'unavailable'])
      .where(
        sql<boolean>`(clusters.checked_at is null or clusters.checked_at <= now() - ${olderThanMs} * interval '1 millisecond')`,
      )
      // A registration looks for itself.
      .where((eb) => eb.or([eb('clusters.stack_id', 'is not', null), eb('clusters.status', '<>', 'creating')]))
      .orderBy(sql`clusters.checked_at nulls first`)
      .limit(limit)
      .execute()
  );
}

export interface RecordedLook {
  at: Date;
  health: ClusterHealth | null;
  streak: HealthStreak | null;
  reason: string | null;
  /** null: there was no answer, and what was read before stays. */
  read: ReadFacts | null;
}

export interface ReadFacts {
  platform: Platform;
  platformVersion: string | null;
  kubernetesVersion: string | null;
  namespaceUid: string | null;
  summary: ClusterSummary;
  nodes: NodeFacts[];
  storageClasses: StorageClassFacts[];
  warnings: WarningFacts[];
}

/** @returns false: the cluster has gone on meanwhile (another look, a destroy), and nothing was written */
export async function recordLook(tx: Tx, before: ClusterRow, look: RecordedLook): Promise<boolean> {
  const { read } = look;
  const changed = await tx
    .updateTable('clusters')
    .set({
      ...(look.health === null ? {} : { status: look.health }),
      reason: look.reason,
      streak: look.streak === null ? null : JSON.stringify(look.streak),
      checked_at: look.at,
      ...(read === null
        ? {}
        : {
            answered_at: look.at,
            platform: read.platform,
            platform_version: read.platformVersion,
            kubernetes_version: read.kubernetesVersion,
            namespace_uid: read.namespaceUid,
            summary: JSON.stringify(read.summary),
          }),
    })
    .where('id', '=', before.id)
    .where('status', '=', before.status)
    .where(sql<boolean>`checked_at is not distinct from ${before.checked_at}`)
    .executeTakeFirst();
  if (changed.numUpdatedRows === 0n) return false;
  if (read !== null) await saveFacts(tx, before.id, read, look.at);
  return true;
}

async function saveFacts(tx: Tx, id: string, read: ReadFacts, at: Date): Promise<void> {
  const content = {
    nodes: JSON.stringify(read.nodes),
    storage_classes: JSON.stringify(read.storageClasses),
    warnings: JSON.stringify(read.warnings),
    taken_at: at,
  };
  await tx
    .insertInto('cluster_facts')
    .values({ cluster_id: id, ...content })
    .onConflict((conflict) => conflict.column('cluster_id').doUpdateSet(content))
    .execute();
}
