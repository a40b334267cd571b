/** What everything that answers about clusters shares: a cluster with what is under way on it, its failures, its audit entries. */
import { findStackUpdate } from '../db/accept-stack.ts';
import { auditRow } from '../db/audit.ts';
import { MusterError } from '../domain/error-table.ts';
import { lockCluster, type ClusterRow } from '../db/clusters.ts';
import type { Executor, Tx } from '../db/database.ts';
import { findStack, lockStack, type StackRow } from '../db/stacks.ts';
import type { ClusterReply } from './contract/clusters.ts';
import { clusterReply } from './replies/cluster-reply.ts';
import type { Call } from './route.ts';

/** Of a request that makes or changes. */
export type ChangeCall = Pick<Call<'change'>, 'caller' | 'actor' | 'deps' | 'once'>;

export async function describeCluster(executor: Executor, row: ClusterRow): Promise<ClusterReply> {
  if (row.stack_id === null) return clusterReply(row, undefined, undefined);
  const [stack, underWay] = await Promise.all([
    findStack(executor, row.org_id, row.stack_id),
    findStackUpdate(executor, row.stack_id),
  ]);
  return clusterReply(row, stack, underWay);
}

export function auditCluster(
  tx: Tx,
  { actor }: Pick<ChangeCall, 'actor'>,
  row: ClusterRow,
  action: `cluster.${string}`,
  detail: Record<string, unknown> = {},
): Promise<void> {
  return auditRow(tx, actor, row, action, { name: row.name, kind: row.kind, ...detail });
}

/** Throws MusterError `not_found`, and `conflict` for one that is gone. The stack's row is locked too: whoever holds it decides. */
export async function holdCluster(
  tx: Tx,
  { caller, params: { id: clusterId } }: Pick<Call<'read', { id: string }>, 'caller' | 'params'>,
): Promise<{ row: ClusterRow; stack: StackRow | null }> {
  const row = await lockCluster(tx, clusterId);
  if (row?.org_id !== caller.orgId) throw noCluster(clusterId);
  if (row.status === 'destroyed')
    throw new MusterError('conflict', `${row.name} is destroyed`, { facts: { state: row.status } });
  return { row, stack: row.stack_id === null ? null : ((await lockStack(tx, row.stack_id)) ?? null) };
}

export function noCluster(clusterId: string): MusterError {
  return new MusterError('not_found', `there is no cluster ${clusterId}`);
}
