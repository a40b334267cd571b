/**
 * Kubernetes versions: which minors a cloud offers on a day, and how far the parts of a cluster may be apart. The table ages: a version
 * newer than it knows is refused unless the caller says that it has looked itself.
 */

export interface KubernetesRelease {
  /** "1.35" */
  minor: string;
  /** Last day of standard support. AWS charges six times as much for the control plane after it. */
  standardUntil: string;
  /** Last day on which the cloud runs it at all. */
  extendedUntil: string;
}

export interface KubernetesReleases {
  /** Newest first. */
  releases: readonly KubernetesRelease[];
  /** The day on which somebody looked. */
  date: string;
  source: string;
}

export const KUBERNETES_RELEASES = {
  eks: {
    date: '2026-04-24',
    source: 'https://docs.aws.amazon.com/eks/latest/userguide/kubernetes-versions.html',
    releases: [
      { minor: '1.35', standardUntil: '2027-03-27', extendedUntil: '2028-03-27' },
      { minor: '1.34', standardUntil: '2026-12-02', extendedUntil: '2027-12-02' },
      { minor: '1.33', standardUntil: '2026-07-29', extendedUntil: '2027-07-29' },
      { minor: '1.32', standardUntil: '2026-03-23', extendedUntil: '2027-03-23' },
    ],
  },
  /** Standard support lasts until the third minor after it is out; extended is the long-term support of the Premium tier. */
  aks: {
    date: '2026-04-24',
    source: 'https://learn.microsoft.com/azure/aks/supported-kubernetes-versions',
    releases: [
      { minor: '1.35', standardUntil: '2027-03-31', extendedUntil: '2028-03-31' },
      { minor: '1.34', standardUntil: '2026-11-30', extendedUntil: '2027-11-30' },
      { minor: '1.33', standardUntil: '2026-06-30', extendedUntil: '2027-06-30' },
      { minor: '1.32', standardUntil: '2026-03-31', extendedUntil: '2027-03-31' },
    ],
  },
} satisfies Record<string, KubernetesReleases>;

export type KubernetesCloud = keyof typeof KUBERNETES_RELEASES;

/** What a new cluster gets unless told otherwise. */
export function newestKubernetes(cloud: KubernetesCloud): string {
  return (KUBERNETES_RELEASES[cloud].releases[0] as KubernetesRelease).minor;
}

/** Nodes may be older than their control plane by this many minors, never newer (Kubernetes' version skew policy). */
export const MAX_NODE_SKEW = 3;

/** What is wrong with a version asked for; null: nothing. */
export function describeVersionProblem(cloud: KubernetesCloud, version: string): string | null {
  const { releases, date } = KUBERNETES_RELEASES[cloud];
  if (minorNumber(version) === null)
    return `"${version}" is no Kubernetes version: write a minor such as "${releases[0]?.minor}"`;
  if (releases.some((release) => release.minor === version)) return null;
  const known = releases.map((release) => release.minor).join(', ');
  return `${cloud} did not offer Kubernetes ${version} on ${date}; it had ${known} (checkCatalogue: false accepts what the table does not know)`;
}

/** What is wrong with nodes of one version under a control plane of another; null: nothing. */
export function describeSkew(controlPlane: string, node: string): string | null {
  const above = minorNumber(controlPlane);
  const below = minorNumber(node);
  if (above === null || below === null) return null;
  if (below > above)
    return `nodes of Kubernetes ${node} are newer than the control plane's ${controlPlane}: upgrade the control plane first`;
  if (above - below > MAX_NODE_SKEW)
    return `nodes of Kubernetes ${node} are more than ${MAX_NODE_SKEW} minors behind the control plane's ${controlPlane}`;
  return null;
}

/** A control plane is upgraded one minor at a time and never back. @returns what is wrong; null: nothing */
export function describeUpgradeProblem(from: string, to: string): string | null {
  const before = minorNumber(from);
  const after = minorNumber(to);
  if (before === null || after === null) return null;
  if (after < before) return `a control plane cannot go back from Kubernetes ${from} to ${to}`;
  if (after > before + 1) return `upgrade one minor at a time: from Kubernetes ${from} to 1.${before + 1} first`;
  return null;
}

function minorNumber(version: string): number | null {
  const match = /^1\.(\d{1,3})$/.exec(version);
  return match ? Number(match[1]) : null;
}
