/**
 * How the agent of a cluster's node joins: its cluster's token opens the door, and a service account token that the cluster itself vouches
 * for says which node it is. Nothing that the agent says of itself counts.
 */

/** For whom the service account token is made out: one for another audience proves nothing here. */
export const AGENT_AUDIENCE = 'muster';
export const AGENT_SERVICE_ACCOUNT = 'muster-agent';
export const DEFAULT_AGENT_NAMESPACE = 'muster';

/** A token that is older is replaced by the next up of its cluster's stack. */
export const ENROLMENT_ROTATE_AFTER_MS = 30 * 86_400_000;
/** So long the one before still opens: the kubelet brings the new one into running Pods within minutes. */
export const ENROLMENT_OVERLAP_MS = 7 * 86_400_000;

/** What the cluster said of a service account token (authentication.k8s.io/v1 TokenReview). */
export interface ReviewedProof {
  isAuthenticated: boolean;
  audiences: readonly string[];
  username: string | null;
  /** Of `authentication.kubernetes.io/node-name` and `node-uid`, which Kubernetes tells since 1.30; null: not told. */
  nodeName: string | null;
  nodeUid: string | null;
}

export type ProofVerdict = { node: { name: string; uid: string } } | { refusal: string };

/** @param namespace where the cluster's agents run */
export function judgeProof(proof: ReviewedProof, namespace: string): ProofVerdict {
  if (!proof.isAuthenticated) return { refusal: 'the cluster does not know its service account token' };
  if (!proof.audiences.includes(AGENT_AUDIENCE))
    return { refusal: `its service account token is not made out for the audience ${AGENT_AUDIENCE}` };
  const expected = `system:serviceaccount:${namespace}:${AGENT_SERVICE_ACCOUNT}`;
  if (proof.username !== expected) return { refusal: `its service account token is not one of ${expected}` };
  if (proof.nodeName === null || proof.nodeUid === null)
    return { refusal: 'the cluster does not tell on which node its Pod runs: it needs Kubernetes 1.30 or newer' };
  return { node: { name: proof.nodeName, uid: proof.nodeUid } };
}
