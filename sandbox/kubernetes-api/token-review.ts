/**
 * Service account tokens as the kubelet projects them into Pods, and what TokenReview says of them (authentication.k8s.io/v1, with the node of
 * the Pod as since Kubernetes 1.30). A token is good while its Pod is there.
 */
import { randomBytes, randomUUID } from 'node:crypto';

export interface PodIdentity {
  namespace: string;
  serviceAccount: string;
  podName: string;
  /** null: a token that is bound to no Pod, as `kubectl create token` makes. */
  node: { name: string; uid: string } | null;
  audience: string;
}

export interface TokenReview {
  spec?: { token?: string; audiences?: string[] };
}

/** Of the form of one; nobody checks its signature but the cluster that knows it. */
export function makeServiceAccountToken({ namespace, serviceAccount, podName, node, audience }: PodIdentity): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = {
    aud: [audience],
    iss: 'https://kubernetes.default.svc',
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    jti: randomUUID(),
    'kubernetes.io': { namespace, pod: { name: podName }, node, serviceaccount: { name: serviceAccount } },
  };
  return `${part({ alg: 'RS256' })}.${part(claims)}.${randomBytes(32).toString('base64url')}`;
}

export function reviewToken(tokens: ReadonlyMap<string, PodIdentity>, { spec = {} }: TokenReview): object {
  const head = { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: {}, spec };
  const pod = tokens.get(spec.token ?? '');
  const wanted = spec.audiences ?? ['https://kubernetes.default.svc'];
  if (!pod) return { ...head, status: { authenticated: false, user: {}, error: '[invalid bearer token]' } };
  if (!wanted.includes(pod.audience)) {
    const error = `[invalid bearer token, token audiences ["${pod.audience}"] is invalid for the target audiences ${JSON.stringify(wanted)}]`;
    return { ...head, status: { authenticated: false, user: {}, error } };
  }
  const { namespace, serviceAccount, podName, node } = pod;
  const extra = {
    'authentication.kubernetes.io/credential-id': ['JTI=00000000-0000-4000-8000-000000000000'],
    ...(node === null
      ? {}
      : {
          'authentication.kubernetes.io/pod-name': [podName],
          'authentication.kubernetes.io/pod-uid': [`uid-of-${podName}`],
          'authentication.kubernetes.io/node-name': [node.name],
          'authentication.kubernetes.io/node-uid': [node.uid],
        }),
  };
  const user = {
    username: `system:serviceaccount:${namespace}:${serviceAccount}`,
    uid: `uid-of-${serviceAccount}`,
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
    extra,
  };
  return { ...head, status: { authenticated: true, user, audiences: [pod.audience] } };
}
