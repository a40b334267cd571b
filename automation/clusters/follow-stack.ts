/** A cluster follows the stack that makes it: what happens to the stack is told to its cluster in the same transaction. */
import { isMadeClusterKind } from '../../domain/clusters/change.ts';
import { CLUSTER_HEALTHS } from '../../domain/clusters/cluster.ts';
import type { StackStatus } from '../../domain/stack.ts';
import { findClusterOfStack, saveClusterAccess, setClusterStatus } from '../../db/clusters.ts';
import type { Tx } from '../../db/database.ts';
import type { StackRow } from '../../db/stacks.ts';
import { sealAccess } from '../../secrets/cluster-access.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import { readKubeconfig } from '../../secrets/kubeconfig.ts';

/** Outputs that an up hands over in clear, for the kinds that make a cluster. They are sealed here and kept nowhere else. */
export function secretOutputsOf(kind: string): string[] {
  return isMadeClusterKind(kind) ? ['kubeconfig'] : [];
}

export interface StackNews {
  status: StackStatus;
  failure?: { code: string; detail: string } | null;
  outputs?: Record<string, unknown>;
  secretOutputs?: Record<string, unknown>;
}

/** Nothing for a stack that makes no cluster. Idempotent. */
export async function followStack(tx: Tx, envelope: Envelope, stack: StackRow, news: StackNews): Promise<void> {
  const cluster = await findClusterOfStack(tx, stack.id);
  if (!cluster || cluster.status === 'destroyed') return;
  const { status, failure = null } = news;
  const isHealthKnown = (CLUSTER_HEALTHS as readonly string[]).includes(cluster.status);
  switch (status) {
    case 'up': {
      const isAgain = cluster.status === 'failed';
      if (isAgain || cluster.failure_code !== null)
        await setClusterStatus(tx, cluster.id, isAgain ? 'creating' : cluster.status);
      return keepAccess(tx, envelope, stack, cluster.id, news);
    }
    case 'destroying':
      return setClusterStatus(tx, cluster.id, 'destroying');
    case 'destroyed':
      return setClusterStatus(tx, cluster.id, 'destroyed');
    default:
      if (failure === null) return;
      // What was there before an update that failed is still looked at; what never was has failed.
      if (isHealthKnown) return setClusterStatus(tx, cluster.id, cluster.status, failure);
      if (cluster.status === 'destroying') return setClusterStatus(tx, cluster.id, 'unavailable', failure);
      return setClusterStatus(tx, cluster.id, 'failed', failure);
  }
}

async function keepAccess(
  tx: Tx,
  envelope: Envelope,
  stack: StackRow,
  clusterId: string,
  { outputs = {}, secretOutputs = {} }: StackNews,
): Promise<void> {
  const text = secretOutputs['kubeconfig'];
  if (typeof text !== 'string') return;
  // At a cloud a plugin stands for a token of that cloud; k3s writes a certificate.
  const cloud = stack.kind === 'eks' || stack.kind === 'aks' ? stack.kind : null;
  const parsed = readKubeconfig(text, 'kubeconfig', cloud);
  if (!('access' in parsed)) {
    const why = parsed.errors.map(({ path, message }) => `${path} ${message}`).join('; ');
    return setClusterStatus(tx, clusterId, 'failed', {
      code: 'stack_failed',
      detail: `its kubeconfig is not taken: ${why}`,
    });
  }
  const { access } = parsed;
  const { clusterName } = outputs;
  await saveClusterAccess(tx, clusterId, {
    sealed: sealAccess(envelope, clusterId, access),
    endpoint: access.server,
    cloudName: typeof clusterName === 'string' ? clusterName : null,
  });
}
