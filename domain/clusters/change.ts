/**
 * Changes of a cluster, as changes of the configuration of the stack that makes it. Each returns the new configuration (its kind's
 * schema judges it afterwards, so a change can ask for nothing that a new cluster could not) or what is wrong.
 */
import type { FieldError } from '../error-table.ts';
import { describeUpgradeProblem } from '../kubernetes-version.ts';
import type { ClusterKind } from './cluster.ts';

/** Those that a stack of ours makes. */
export const MADE_CLUSTER_KINDS = ['eks', 'aks', 'onprem'] as const satisfies readonly ClusterKind[];
export type MadeClusterKind = (typeof MADE_CLUSTER_KINDS)[number];
/** Those whose nodes a cloud makes. */
export type CloudClusterKind = Exclude<MadeClusterKind, 'onprem'>;

export function isMadeClusterKind(kind: string): kind is MadeClusterKind {
  return (MADE_CLUSTER_KINDS as readonly string[]).includes(kind);
}

type Config = Record<string, unknown>;
type Group = Record<string, unknown>;

export type ClusterChange = { config: Config } | { errors: FieldError[] };

/** How each kind says the same thing. */
const WORDS = {
  eks: { groups: 'gpuNodeGroups', prefix: 'gpu-', min: 'minSize', max: 'maxSize', now: 'desiredSize' },
  aks: { groups: 'gpuNodePools', prefix: 'gpu', min: 'minCount', max: 'maxCount', now: 'count' },
} as const satisfies Record<CloudClusterKind, object>;

export interface Scale {
  nodeGroup: string;
  minSize?: number | undefined;
  maxSize?: number | undefined;
  desiredSize?: number | undefined;
}

export function scaleGroup(kind: CloudClusterKind, config: Config, scale: Scale): ClusterChange {
  const words = WORDS[kind];
  const groups = groupsOf(kind, config);
  const names = nodeGroupNames(kind, config);
  const index = names.indexOf(scale.nodeGroup);
  const group = groups[index];
  if (!group) {
    const there = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`;
    return wrong('nodeGroup', `there is no group of GPU nodes "${scale.nodeGroup}": ${there}`);
  }
  const min = scale.minSize ?? Number(group[words.min] ?? 0);
  const max = scale.maxSize ?? Number(group[words.max]);
  if (min > max)
    return wrong(scale.minSize === undefined ? 'maxSize' : 'minSize', `minSize ${min} is above maxSize ${max}`);
  const now = scale.desiredSize;
  if (now !== undefined && (now < min || now > max))
    return wrong('desiredSize', `${now} is not between minSize ${min} and maxSize ${max}`);
  if (now !== undefined && group['autoscaled'] === true)
    return wrong('desiredSize', 'an autoscaler decides it for this group: change minSize or maxSize');
  const before = Number(group[words.now] ?? min);
  const changed: Group = {
    ...group,
    name: names[index],
    [words.min]: min,
    [words.max]: max,
    [words.now]: now ?? Math.min(Math.max(before, min), max),
  };
  return { config: { ...config, [words.groups]: groups.map((each, at) => (at === index ? changed : each)) } };
}

export function upgradeTo(config: Config, to: string): ClusterChange {
  const from = String(config['kubernetesVersion']);
  if (from === to) return wrong('kubernetesVersion', `it has Kubernetes ${to} already`);
  const problem = describeUpgradeProblem(from, to);
  return problem === null ? { config: { ...config, kubernetesVersion: to } } : wrong('kubernetesVersion', problem);
}

/** Names as the stack's program gives them where none was said. */
export function nodeGroupNames(kind: CloudClusterKind, config: Config): string[] {
  return groupsOf(kind, config).map((group, index) =>
    typeof group['name'] === 'string' ? group['name'] : `${WORDS[kind].prefix}${index + 1}`,
  );
}

function groupsOf(kind: CloudClusterKind, config: Config): Group[] {
  const groups = config[WORDS[kind].groups];
  return Array.isArray(groups) ? (groups as Group[]) : [];
}

function wrong(path: string, message: string): ClusterChange {
  return { errors: [{ path, message }] };
}
