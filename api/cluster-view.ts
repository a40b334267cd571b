/** What everything that answers about clusters shares: a cluster with what is under way on it, its failures, its audit entries. */
import { findStackUpdate } from '../db/accept-stack.ts';
import { appendAudit } from '../db/audit.ts';
import type { ClusterRow } from '../db/clusters.ts';
import type { Executor, Tx } from '../db/database.ts';
import { findStack } from '../db/stacks.ts';
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
  action: string,
  detail: Record<string, unknown> = {},
): Promise<void> {
  return appendAudit(tx, {
    orgId: row.org_id,
    actor,
    action,
    targetKind: 'cluster',
    targetId: row.id,
    detail: { name: row.name, kind: row.kind, ...detail },
  });
}
