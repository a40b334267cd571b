/**
 * The agent of a cluster's node asks to join. The API asks no cluster: it writes the question down, a worker puts it to the cluster
 * (automation/cron/review-joins.ts), and the agent asks again until it is answered.
 */
import { MusterError } from '../domain/error-table.ts';
import { appendAudit } from '../db/audit.ts';
import { askToJoin, findClusterByToken, registerClusterNode } from '../db/cluster-enrolments.ts';
import { inTransaction } from '../db/database.ts';
import { hashAgentToken } from '../secrets/agent-token.ts';
import { sealProof } from '../secrets/cluster-access.ts';
import type { ApiDeps } from './api-deps.ts';
import type { RegisterBody } from './contract/nodes.ts';
import { hashCredential } from './credential.ts';

/**
 * @param token of the cluster @param key that its node gets
 * @returns the node's id. Throws MusterError `unauthenticated` for a token that opens nothing and for what the cluster does not vouch for,
 * `unavailable` until it has answered.
 */
export async function joinCluster(
  { database, envelope }: ApiDeps,
  requestId: string,
  token: string,
  body: RegisterBody,
  key: string,
): Promise<string> {
  const { kubernetesToken: proof = '', nonce, agentVersion, hostname } = body;
  const answer = await inTransaction(database.kysely, async (tx) => {
    const cluster = await findClusterByToken(tx, hashAgentToken(token));
    if (!cluster) return refuse('the token is of no cluster, or was replaced');
    const { clusterId, orgId } = cluster;
    if (cluster.isEnding) return refuse('the cluster that the token belongs to is being destroyed');
    const join = await askToJoin(tx, {
      clusterId,
      nonceHash: hashCredential(nonce),
      proofHash: hashCredential(proof),
      proofSealed: sealProof(envelope, clusterId, proof),
    });
    if (join?.status === 'refused') return refuse(join.reason ?? 'the cluster does not vouch for it');
    if (join?.status !== 'proven') return wait(join?.reason ?? null);
    const { nodeId, isRepeat } = await registerClusterNode(tx, {
      orgId,
      join,
      keyHash: hashCredential(key),
      agentVersion,
      hostname,
    });
    await appendAudit(tx, {
      orgId,
      actor: { kind: 'agent', id: nodeId, requestId },
      action: 'node.register',
      targetKind: 'node',
      targetId: nodeId,
      detail: { clusterId, nodeName: join.node_name, agentVersion, ...(isRepeat ? { isRepeat: true } : {}) },
    });
    return nodeId;
  });
  // The question is kept, whatever is answered.
  if (answer instanceof MusterError) throw answer;
  return answer;
}

function refuse(why: string): MusterError {
  return new MusterError('unauthenticated', why);
}

function wait(trouble: string | null): MusterError {
  const why =
    trouble === null ? 'the cluster is being asked which node it is' : `the cluster cannot be asked: ${trouble}`;
  return new MusterError('unavailable', `${why}: ask again`);
}
