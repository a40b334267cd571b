/**
 * The check-clusters cron: looks at every cluster once a minute and records how it does, what its nodes are and what Kubernetes warned of.
 * It changes nothing at any cluster. A look that another one or a destroy has overtaken is dropped.
 */
import type { Logger } from 'pino';
import { CLUSTER_HEALTHS, nextHealth, type ClusterHealth } from '../../domain/clusters/cluster.ts';
import { findSameCluster, listDueForLook, recordLook, type ClusterRow, type ReadFacts } from '../../db/clusters.ts';
import { appendAudit, SYSTEM } from '../../db/audit.ts';
import { markNodesLeft } from '../../db/cluster-enrolments.ts';
import { inTransaction, type Tx } from '../../db/database.ts';
import { MAX_NODES } from '../clusters/kubernetes-reader.ts';
import { lookAtCluster, type LookServices } from '../clusters/look-at-cluster.ts';
import type { Cron } from './scheduler.ts';

/** More often than a cluster is due: a new one is looked at soon, and none waits for two ticks. */
const EVERY_MS = 5_000;
const DUE_AFTER_MS = 60_000;
/** A tick ends in time even when all of them hang: 100 in tens, 15 s each, is 150 s at worst; ticks do not overlap. */
const PER_TICK = 100;
const AT_ONCE = 10;
/** Who joined in the last moments may be missing in a list that was read meanwhile. */
const JOIN_GRACE_MS = 30_000;

export interface CheckClustersOptions extends LookServices {
  log: Logger;
  dueAfterMs?: number;
}

export function createCheckClustersCron(options: CheckClustersOptions): Cron {
  const { db, log, dueAfterMs = DUE_AFTER_MS } = options;
  return {
    name: 'check-clusters',
    everyMs: EVERY_MS,
    hasWork: async () => (await listDueForLook(db, dueAfterMs, 1)).length > 0,
    async run(signal) {
      const counts = { looked: 0, available: 0, degraded: 0, unavailable: 0, overtaken: 0, failed: 0 };
      const due = await listDueForLook(db, dueAfterMs, PER_TICK);
      const next = due.values();
      const lookOn = async () => {
        for (const cluster of next) {
          if (signal.aborted) return;
          try {
            const result = await checkCluster(options, cluster);
            counts.looked++;
            counts[result]++;
          } catch (error) {
            counts.failed++;
            log.error({ err: error, cluster: cluster.id }, 'a cluster could not be looked at');
          }
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, lookOn));
      return counts;
    },
  };
}

async function checkCluster(options: CheckClustersOptions, cluster: ClusterRow): Promise<ClusterHealth | 'overtaken'> {
  const seenFrom = new Date(options.now().getTime() - JOIN_GRACE_MS);
  const look = await lookAtCluster(options, cluster);
  const before = { health: healthOf(cluster), streak: cluster.streak };
  const { health, streak } = nextHealth(before, look.health);
  const { read } = look;
  const isRecorded = await inTransaction(options.db, async (tx) => {
    const { namespaceUid } = read ?? { namespaceUid: null };
    // One that our own stack made may have been registered by hand before: the name that was first keeps the identity.
    const isKnown = namespaceUid !== null && (await findSameCluster(tx, cluster.org_id, namespaceUid, cluster.id));
    const isFirst = await recordLook(tx, cluster, {
      at: options.now(),
      health,
      streak,
      reason: look.reason,
      read: read && isKnown ? { ...read, namespaceUid: null } : read,
    });
    if (isFirst && read !== null) await followNodes(tx, cluster, read, seenFrom);
    return isFirst;
  });
  if (!isRecorded) return 'overtaken';
  return look.health;
}

/** Whose node the cluster no longer has is gone. A list that may be short, or of another cluster, says nothing of that. */
async function followNodes(tx: Tx, cluster: ClusterRow, read: ReadFacts, seenFrom: Date): Promise<void> {
  const present = read.nodes.flatMap(({ uid }) => (uid === null ? [] : [uid]));
  const isWhole = present.length === read.nodes.length && present.length < MAX_NODES && read.namespaceUid !== null;
  if (!isWhole) return;
  for (const node of await markNodesLeft(tx, cluster.id, present, seenFrom)) {
    await appendAudit(tx, {
      orgId: node.org_id,
      actor: SYSTEM,
      action: 'node.leave',
      targetKind: 'node',
      targetId: node.id,
      detail: { clusterId: cluster.id, nodeName: node.kubernetes_name },
    });
  }
}

function healthOf({ status }: ClusterRow): ClusterHealth | null {
  return CLUSTER_HEALTHS.find((health) => health === status) ?? null;
}
