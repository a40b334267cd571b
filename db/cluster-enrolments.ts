/** By what agents of a cluster's nodes join: their cluster's token, and the question to the cluster which node each of them is. */
import { sql, type Selectable } from 'kysely';
import type { ProofVerdict } from '../domain/clusters/enrolment.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type ClusterEnrolmentRow = Selectable<Schema['cluster_enrolments']>;
export type ClusterJoinRow = Selectable<Schema['cluster_joins']>;

export interface NewEnrolment {
  clusterId: string;
  tokenHash: Buffer;
  tokenSealed: string;
  namespace: string;
}

export function findEnrolment(executor: Executor, clusterId: string): Promise<ClusterEnrolmentRow | undefined> {
  return executor.selectFrom('cluster_enrolments').selectAll().where('cluster_id', '=', clusterId).executeTakeFirst();
}

/** The cluster's present token, or `fresh` as its first one. */
export async function holdEnrolment(executor: Executor, fresh: NewEnrolment): Promise<ClusterEnrolmentRow> {
  await executor
    .insertInto('cluster_enrolments')
    .values(columnsOf(fresh))
    .onConflict((conflict) => conflict.column('cluster_id').doUpdateSet({ namespace: fresh.namespace }))
    .execute();
  return (await findEnrolment(executor, fresh.clusterId)) as ClusterEnrolmentRow;
}

/** `fresh` from now on; the one before opens for `overlapMs` more, and the one before that no longer. */
export async function replaceEnrolment(tx: Tx, fresh: NewEnrolment, overlapMs: number): Promise<ClusterEnrolmentRow> {
  const columns = columnsOf(fresh);
  return tx
    .insertInto('cluster_enrolments')
    .values(columns)
    .onConflict((conflict) =>
      conflict.column('cluster_id').doUpdateSet({
        ...columns,
        made_at: sql<Date>`now()`,
        previous_hash: sql<Buffer>`cluster_enrolments.token_hash`,
        previous_until: sql<Date>`now() + ${overlapMs} * interval '1 millisecond'`,
      }),
    )
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Nobody joins any more, with whatever token; who has joined stays. @returns false where there was none */
export async function revokeEnrolment(tx: Tx, clusterId: string): Promise<boolean> {
  await tx.deleteFrom('cluster_joins').where('cluster_id', '=', clusterId).execute();
  const gone = await tx.deleteFrom('cluster_enrolments').where('cluster_id', '=', clusterId).executeTakeFirst();
  return gone.numDeletedRows > 0n;
}

/** Of the cluster whose token that is; undefined: nobody's, or one that is over. */
export function findClusterByToken(
  executor: Executor,
  tokenHash: Buffer,
): Promise<{ clusterId: string; orgId: string; isEnding: boolean } | undefined> {
  return executor
    .selectFrom('cluster_enrolments')
    .innerJoin('clusters', 'clusters.id', 'cluster_enrolments.cluster_id')
    .select([
      'clusters.id as clusterId',
      'clusters.org_id as orgId',
      sql<boolean>`clusters.status in ('destroying', 'destroyed')`.as('isEnding'),
    ])
    .where(
      sql<boolean>`(cluster_enrolments.token_hash = ${tokenHash}
        or (cluster_enrolments.previous_hash = ${tokenHash} and cluster_enrolments.previous_until > now()))`,
    )
    .executeTakeFirst();
}

export interface JoinRequest {
  clusterId: string;
  /** Of the agent: its questions are one. */
  nonceHash: Buffer;
  proofHash: Buffer;
  proofSealed: string;
}

/** What one cluster may have under way at once: every node of the largest that Kubernetes is made for. */
const MAX_ASKED = 5_000;

/**
 * Where the question stands: put now, or before. What was refused is asked again with another proof, or after a minute; what was proven
 * counts for five. undefined: too many ask at once.
 */
export async function askToJoin(tx: Tx, request: JoinRequest): Promise<ClusterJoinRow | undefined> {
  const { clusterId, nonceHash, proofHash, proofSealed } = request;
  const { rows } = await sql<{ asked: string }>`
    select count(*) as asked from cluster_joins where cluster_id = ${clusterId} and status = 'asked'`.execute(tx);
  if (Number(rows[0]?.asked ?? 0) >= MAX_ASKED) return undefined;
  await sql`
    insert into cluster_joins (cluster_id, nonce_hash, proof_hash, proof_sealed)
    values (${clusterId}, ${nonceHash}, ${proofHash}, ${proofSealed})
    on conflict (cluster_id, nonce_hash) do update set
      proof_hash = excluded.proof_hash, proof_sealed = excluded.proof_sealed, status = 'asked',
      node_name = null, node_uid = null, reason = null, asked_at = now(), judged_at = null
    where (cluster_joins.status = 'refused'
           and (cluster_joins.proof_hash <> excluded.proof_hash or cluster_joins.judged_at < now() - interval '1 minute'))
       or (cluster_joins.status = 'proven' and cluster_joins.judged_at < now() - interval '5 minutes')
       -- A proof lasts for minutes: an old one is answered with no.
       or (cluster_joins.status = 'asked' and cluster_joins.proof_hash <> excluded.proof_hash)`.execute(tx);
  return tx
    .selectFrom('cluster_joins')
    .selectAll()
    .where('cluster_id', '=', clusterId)
    .where('nonce_hash', '=', nonceHash)
    .forUpdate()
    .executeTakeFirst();
}

/** Those that wait for their cluster, the oldest first. */
export function listAsked(executor: Executor, limit: number): Promise<ClusterJoinRow[]> {
  return executor
    .selectFrom('cluster_joins')
    .selectAll()
    .where('status', '=', 'asked')
    .orderBy('asked_at')
    .limit(limit)
    .execute();
}

/** What the cluster said. Nothing happens where the question has been put anew meanwhile. */
export async function recordJoin(executor: Executor, join: ClusterJoinRow, verdict: ProofVerdict): Promise<void> {
  await executor
    .updateTable('cluster_joins')
    .set({
      proof_sealed: null,
      judged_at: sql<Date>`now()`,
      ...('node' in verdict
        ? { status: 'proven' as const, node_name: verdict.node.name, node_uid: verdict.node.uid }
        : { status: 'refused' as const, reason: verdict.refusal }),
    })
    .where('cluster_id', '=', join.cluster_id)
    .where('nonce_hash', '=', join.nonce_hash)
    .where('proof_hash', '=', join.proof_hash)
    .where('status', '=', 'asked')
    .execute();
}

/** Why nothing could be asked yet; the question stays. */
export async function noteJoinTrouble(executor: Executor, clusterId: string, reason: string): Promise<void> {
  await executor
    .updateTable('cluster_joins')
    .set({ reason })
    .where('cluster_id', '=', clusterId)
    .where('status', '=', 'asked')
    .execute();
}

export interface ProvenNode {
  orgId: string;
  join: ClusterJoinRow;
  keyHash: Buffer;
  agentVersion: string;
  hostname: string | null;
}

/**
 * The node that the cluster named, with its key; the question is answered with it. Where it is there already it gets another key, and the
 * one before is worth nothing: the cluster has said that the Pod on that node asks.
 */
export async function registerClusterNode(
  tx: Tx,
  { orgId, join, keyHash, agentVersion, hostname }: ProvenNode,
): Promise<{ nodeId: string; isRepeat: boolean }> {
  const fresh = newId('node');
  const row = await tx
    .insertInto('nodes')
    .values({
      id: fresh,
      org_id: orgId,
      cluster_id: join.cluster_id,
      kubernetes_name: join.node_name,
      kubernetes_uid: join.node_uid,
      key_hash: keyHash,
      agent_version: agentVersion,
      hostname,
    })
    .onConflict((conflict) =>
      conflict
        .columns(['cluster_id', 'kubernetes_uid'])
        .where('cluster_id', 'is not', null)
        .doUpdateSet({
          key_hash: keyHash,
          key_made_at: sql<Date>`now()`,
          next_key_hash: null,
          agent_version: agentVersion,
          hostname,
          heartbeat_at: null,
          registered_at: sql<Date>`now()`,
          left_at: null,
        }),
    )
    .returning('id')
    .executeTakeFirstOrThrow();
  await tx
    .deleteFrom('cluster_joins')
    .where('cluster_id', '=', join.cluster_id)
    .where('nonce_hash', '=', join.nonce_hash)
    .execute();
  return { nodeId: row.id, isRepeat: row.id !== fresh };
}

/**
 * Nodes that the cluster no longer has are gone, and their keys worth nothing. Idempotent.
 * @param present uids of all nodes that it has @param seenFrom when the look at it began: who joined later may not be in it
 */
export async function markNodesLeft(
  tx: Tx,
  clusterId: string,
  present: readonly string[],
  seenFrom: Date,
): Promise<{ id: string; org_id: string; kubernetes_name: string | null }[]> {
  return tx
    .updateTable('nodes')
    .set({ left_at: sql<Date>`now()`, key_hash: null, next_key_hash: null })
    .where('cluster_id', '=', clusterId)
    .where('left_at', 'is', null)
    .where('registered_at', '<', seenFrom)
    .where(sql<boolean>`kubernetes_uid <> all(${present}::text[])`)
    .returning(['id', 'org_id', 'kubernetes_name'])
    .execute();
}

/** The end of a cluster: nobody joins it, and whoever had joined is gone. */
export async function endClusterNodes(tx: Tx, clusterId: string): Promise<void> {
  await revokeEnrolment(tx, clusterId);
  await tx
    .updateTable('nodes')
    .set({ left_at: sql<Date>`now()`, key_hash: null, next_key_hash: null })
    .where('cluster_id', '=', clusterId)
    .where('left_at', 'is', null)
    .execute();
}

function columnsOf({ clusterId, tokenHash, tokenSealed, namespace }: NewEnrolment) {
  return { cluster_id: clusterId, token_hash: tokenHash, token_sealed: tokenSealed, namespace };
}
