/** Whose Kubernetes a cluster runs, told by its version, its API groups and its nodes. */
import type { KubernetesNode } from './node-facts.ts';

export const PLATFORMS = ['eks', 'aks', 'openshift', 'k3s', 'generic'] as const;
export type Platform = (typeof PLATFORMS)[number];

export interface PlatformSigns {
  /** `gitVersion` of /version, such as "v1.34.1-eks-3025e55". */
  gitVersion: string;
  apiGroups: readonly string[];
  nodes: readonly KubernetesNode[];
  /** Version of OpenShift's ClusterVersion, where it could be read. */
  openshiftVersion?: string | null;
}

export interface DetectedPlatform {
  platform: Platform;
  /** The platform's own version where it has one besides Kubernetes' (OpenShift "4.19.3", k3s "v1.34.1+k3s1", EKS "eks-3025e55"). */
  platformVersion: string | null;
  /** Without what platforms add: "1.34.1"; null: not told in a form that is known. */
  kubernetesVersion: string | null;
}

export function detectPlatform({ gitVersion, apiGroups, nodes, openshiftVersion }: PlatformSigns): DetectedPlatform {
  const kubernetesVersion = /^v?(\d+\.\d+(?:\.\d+)?)/.exec(gitVersion)?.[1] ?? null;
  const found = (platform: Platform, platformVersion: string | null = null) => ({
    platform,
    platformVersion,
    kubernetesVersion,
  });
  // OpenShift first: it runs on machines of every cloud.
  if (apiGroups.some((group) => group === 'config.openshift.io' || group === 'route.openshift.io'))
    return found('openshift', openshiftVersion ?? null);
  const eks = /-(eks-[0-9a-z]+)/.exec(gitVersion)?.[1];
  if (eks !== undefined || hasLabel(nodes, 'eks.amazonaws.com/')) return found('eks', eks ?? null);
  if (hasLabel(nodes, 'kubernetes.azure.com/')) return found('aks');
  if (/\+k3s\d+/.test(gitVersion)) return found('k3s', gitVersion);
  return found('generic');
}

function hasLabel(nodes: readonly KubernetesNode[], prefix: string): boolean {
  return nodes.some((node) => Object.keys(node.metadata?.labels ?? {}).some((key) => key.startsWith(prefix)));
}
