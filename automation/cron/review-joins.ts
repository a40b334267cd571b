/**
 * The review-joins cron: asks clusters about the agents that want to join, each by the service account token that it has shown. What the
 * cluster says is judged by domain/clusters/enrolment.ts; the agent learns it when it asks again.
 */
import type { Logger } from 'pino';
import { judgeProof, type ProofVerdict } from '../../domain/clusters/enrolment.ts';
import {
  findEnrolment,
  listAsked,
  noteJoinTrouble,
  recordJoin,
  type ClusterJoinRow,
} from '../../db/cluster-enrolments.ts';
import { findCluster, findClusterAccess, type ClusterRow } from '../../db/clusters.ts';
import { openAccess, openProof } from '../../secrets/cluster-access.ts';
import { ClusterTrouble } from '../clusters/cluster-trouble.ts';
import { tokenFor, type LookServices } from '../clusters/look-at-cluster.ts';
import type { Cron } from './scheduler.ts';

/** An agent waits for it. */
const EVERY_MS = 2_000;
const PER_TICK = 500;
const CLUSTERS_AT_ONCE = 5;
const PROOFS_AT_ONCE = 10;
const NO_RIGHT =
  'its credential may not create tokenreviews.authentication.k8s.io: bind it to the ClusterRole system:auth-delegator';

export function createReviewJoinsCron(options: LookServices & { log: Logger }): Cron {
  const { db, log } = options;
  return {
    name: 'review-joins',
    everyMs: EVERY_MS,
    hasWork: async () => (await listAsked(db, 1)).length > 0,
    async run(signal) {
      const counts = { proven: 0, refused: 0, waiting: 0 };
      const byCluster = Map.groupBy(await listAsked(db, PER_TICK), (join) => join.cluster_id);
      await inParallel([...byCluster], CLUSTERS_AT_ONCE, async ([clusterId, joins]) => {
        if (signal.aborted) return;
        try {
          for (const verdict of await reviewCluster(options, clusterId, joins)) counts[verdict]++;
        } catch (error) {
          if (!(error instanceof ClusterTrouble)) log.error({ err: error, cluster: clusterId }, 'nobody could join it');
          const reason = error instanceof ClusterTrouble ? describe(error) : 'something went wrong here';
          await noteJoinTrouble(db, clusterId, reason);
          counts.waiting += joins.length;
        }
      });
      return counts;
    },
  };
}

/** Throws ClusterTrouble where the cluster cannot be asked. */
async function reviewCluster(
  services: LookServices,
  clusterId: string,
  joins: ClusterJoinRow[],
): Promise<('proven' | 'refused')[]> {
  const { db, envelope, kubernetes } = services;
  const [cluster, sealed, enrolment] = await Promise.all([
    findCluster(db, null, clusterId),
    findClusterAccess(db, clusterId),
    findEnrolment(db, clusterId),
  ]);
  if (!sealed || !enrolment) throw new ClusterTrouble('unauthorized', 'nothing is kept that would open it');
  const access = openAccess(envelope, clusterId, sealed.access_sealed);
  const token = await tokenFor(services, cluster as ClusterRow, access);
  const done: ('proven' | 'refused')[] = [];
  await inParallel(joins, PROOFS_AT_ONCE, async (join) => {
    const proof = openProof(envelope, clusterId, join.proof_sealed as string);
    const verdict: ProofVerdict = judgeProof(await kubernetes.reviewProof(access, token, proof), enrolment.namespace);
    await recordJoin(db, join, verdict);
    done.push('node' in verdict ? 'proven' : 'refused');
  });
  return done;
}

function describe(trouble: ClusterTrouble): string {
  return trouble.kind === 'forbidden' ? NO_RIGHT : trouble.message;
}

async function inParallel<T>(items: T[], atOnce: number, act: (item: T) => Promise<void>): Promise<void> {
  const next = items.values();
  await Promise.all(
    Array.from({ length: Math.min(atOnce, items.length) }, async () => {
      for (const item of next) await act(item);
    }),
  );
}
