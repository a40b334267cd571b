/** One look at a cluster: opened with what is sealed for it, read, judged. It writes nothing; who looks records. */
import { judgeNodes, type ClusterLook } from '../../domain/clusters/cluster.ts';
import { readNodeFacts, sumNodes } from '../../domain/clusters/node-facts.ts';
import { detectPlatform } from '../../domain/clusters/platform.ts';
import type { ClusterAccess } from '../../domain/clusters/kubeconfig.ts';
import { findClusterAccess, saveClusterToken, type ClusterRow, type ReadFacts } from '../../db/clusters.ts';
import type { Db } from '../../db/database.ts';
import { openAccess, openToken, sealToken } from '../../secrets/cluster-access.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import type { ClusterTokens } from './cloud-token.ts';
import { ClusterTrouble } from './cluster-trouble.ts';
import type { ClusterReading, KubernetesReader } from './kubernetes-reader.ts';

export interface LookServices {
  db: Db;
  envelope: Envelope;
  kubernetes: KubernetesReader;
  clusterTokens: ClusterTokens;
  now: () => Date;
}

/** Renewed this long before its end, so that whoever is handed one has time to use it. */
const RENEW_BEFORE_MS = 5 * 60_000;

/** Never throws for what the cluster does; only for the database and for what is sealed wrongly. */
export async function lookAtCluster(
  services: LookServices,
  cluster: ClusterRow,
): Promise<ClusterLook & { read: ReadFacts | null }> {
  try {
    const sealed = await findClusterAccess(services.db, cluster.id);
    if (!sealed) throw new ClusterTrouble('unauthorized', 'nothing is kept that would open it');
    const access = openAccess(services.envelope, cluster.id, sealed.access_sealed);
    const token = await tokenFor(services, cluster, access);
    const read = factsOf(await services.kubernetes.read(access, token));
    if (cluster.namespace_uid !== null && read.namespaceUid !== null && cluster.namespace_uid !== read.namespaceUid)
      throw new ClusterTrouble('no_kubernetes', 'another cluster answers at its address');
    return { ...judgeNodes(read.nodes), read };
  } catch (error) {
    if (!(error instanceof ClusterTrouble)) throw error;
    return { health: 'unavailable', reason: error.message, read: null };
  }
}

export function factsOf(reading: ClusterReading): ReadFacts {
  const nodes = reading.nodes.map(readNodeFacts).sort((a, b) => (a.name < b.name ? -1 : 1));
  const { platform, platformVersion, kubernetesVersion } = detectPlatform(reading);
  return {
    platform,
    platformVersion,
    kubernetesVersion,
    namespaceUid: reading.namespaceUid,
    summary: sumNodes(nodes),
    nodes,
    storageClasses: reading.storageClasses,
    warnings: reading.warnings,
  };
}

/** The token kept for the cluster while it lasts, or a new one. null: its access needs none. Throws ClusterTrouble `no_token`. */
export async function tokenFor(
  services: LookServices,
  cluster: ClusterRow,
  access: ClusterAccess,
): Promise<string | null> {
  if (access.credential.kind !== 'cloud') return null;
  const { db, envelope, now } = services;
  const kept = await findClusterAccess(db, cluster.id);
  const isFresh = (kept?.token_expires_at?.getTime() ?? 0) > now().getTime() + RENEW_BEFORE_MS;
  if (isFresh && kept?.token_sealed) return openToken(envelope, cluster.id, kept.token_sealed);
  const made = await services.clusterTokens.make({
    cloud: access.credential.cloud,
    cloudName: cluster.cloud_name,
    region: cluster.region,
  });
  await saveClusterToken(db, cluster.id, {
    sealed: sealToken(envelope, cluster.id, made.token),
    expiresAt: made.expiresAt,
  });
  return made.token;
}
