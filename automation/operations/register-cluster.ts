/**
 * Kind `register_cluster`, target `cluster`: connects with a kubeconfig, tells who answers, and keeps it only when the cluster takes it,
 * lets us look at it, and is not known by another name. A first registration that is refused leaves nothing; a replacement that is
 * refused leaves what was there.
 */
import { nextHealth, judgeNodes } from '../../domain/clusters/cluster.ts';
import type { ClusterAccess } from '../../domain/clusters/kubeconfig.ts';
import type { ErrorCode } from '../../domain/error-table.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import {
  deleteCluster,
  findCluster,
  findClusterAccess,
  findSameCluster,
  recordLook,
  saveClusterAccess,
  type ClusterRow,
  type ReadFacts,
} from '../../db/clusters.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { withClaim } from '../../db/operations.ts';
import { openAccess } from '../../secrets/cluster-access.ts';
import { ClusterTrouble } from '../clusters/cluster-trouble.ts';
import type { NeededRight } from '../clusters/kubernetes-reader.ts';
import { factsOf } from '../clusters/look-at-cluster.ts';
import type { StepContext, StepResult } from './step.ts';

interface Refusal {
  code: ErrorCode;
  detail: string;
}

export async function registerCluster(context: StepContext): Promise<StepResult> {
  const cluster = await findCluster(context.db, null, context.operation.target_id);
  if (!cluster || cluster.status === 'destroyed') return { kind: 'done', note: 'the cluster is gone' };
  const { accessSealed: replacement } = context.operation.input as { accessSealed?: string };
  const sealed = replacement ?? (await findClusterAccess(context.db, cluster.id))?.access_sealed;
  if (sealed === undefined)
    return refuse(context, cluster, { code: 'cluster_refused', detail: 'nothing is kept of it' });
  const access = openAccess(context.envelope, cluster.id, sealed);
  const seen = await look(context, access);
  if ('code' in seen) return refuse(context, cluster, seen);
  const refusal = await findConflict(context, cluster, seen.read);
  if (refusal) return refuse(context, cluster, refusal);
  const at = context.now();
  const { health, reason } = judgeNodes(seen.read.nodes);
  const isKept = await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, async (tx) => {
        if (replacement !== undefined)
          await saveClusterAccess(tx, cluster.id, { sealed: replacement, endpoint: access.server });
        const present = (await findCluster(tx, null, cluster.id)) as ClusterRow;
        // Whoever registers has waited for this look: it counts at once.
        const first = nextHealth({ health: null, streak: null }, health).health ?? health;
        return recordLook(tx, present, { at, health: first, streak: null, reason, read: seen.read });
      }),
    LEASE_MS,
  ).catch((error: unknown) => {
    if (isTaken(error)) return null;
    throw error;
  });
  // Two registrations of one cluster at once: the second sees the first one now.
  if (isKept === null) {
    const late = await findConflict(context, cluster, seen.read);
    return refuse(context, cluster, late ?? { code: 'conflict', detail: 'it was registered a moment ago' });
  }
  const less = seen.missing.map(describeRight);
  const note = less.length === 0 ? '' : `; without the right to ${less.join(' and to ')} less is shown`;
  return { kind: 'done', note: `${seen.read.platform} with ${seen.read.nodes.length} nodes${note}` };
}

async function look(
  { kubernetes }: StepContext,
  access: ClusterAccess,
): Promise<{ read: ReadFacts; missing: NeededRight[] } | Refusal> {
  try {
    const missing = await kubernetes.missingRights(access, null);
    const required = missing.filter((right) => right.isRequired).map(describeRight);
    if (required.length > 0)
      return { code: 'cluster_refused', detail: `its user has no right to ${required.join(' and to ')}` };
    return { read: factsOf(await kubernetes.read(access, null)), missing };
  } catch (error) {
    if (!(error instanceof ClusterTrouble)) throw error;
    return { code: error.kind === 'unreachable' ? 'cluster_unreachable' : 'cluster_refused', detail: error.message };
  }
}

async function findConflict(context: StepContext, cluster: ClusterRow, read: ReadFacts): Promise<Refusal | null> {
  const { namespaceUid } = read;
  if (namespaceUid === null)
    return {
      code: 'cluster_refused',
      detail: 'its namespace kube-system cannot be read: without it nobody can tell clusters apart',
    };
  if (cluster.namespace_uid !== null && cluster.namespace_uid !== namespaceUid)
    return {
      code: 'conflict',
      detail: `the kubeconfig leads to another cluster than ${cluster.name}: register that one`,
    };
  const same = await findSameCluster(context.db, cluster.org_id, namespaceUid, cluster.id);
  return same ? { code: 'conflict', detail: `it is there already as ${same.name} (${same.id})` } : null;
}

async function refuse(context: StepContext, cluster: ClusterRow, error: Refusal): Promise<StepResult> {
  if (cluster.status === 'creating') {
    await retryWhileAway(
      () => withClaim(context.db, context.claim, (tx: Tx) => deleteCluster(tx, cluster.id)),
      LEASE_MS,
    );
  }
  return { kind: 'fail', error };
}

function describeRight({ verb, resource, name }: NeededRight): string {
  return `${verb} ${name === undefined ? resource : `${resource} ${name}`}`;
}

/** Postgres' unique violation, of the index that names a cluster once. */
function isTaken(error: unknown): boolean {
  const { code, constraint } = error as { code?: string; constraint?: string };
  return code === '23505' && constraint === 'clusters_identity';
}
