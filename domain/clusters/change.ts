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

export type ClusterChange =
  | {
      config: Config;
      /** Groups that an autoscaler sizes and whose number of nodes this one update sets all the same. */
      resize?: string[];
    }
  | { errors: FieldError[] };

/** How each kind says the same thing. */
const WORDS = {
  eks: { groups: 'gpuNodeGroups', prefix: 'gpu-', min: 'minSize', max: 'maxSize', now: 'desiredSize' },
  aks: { groups: 'gpuNodePools', prefix: 'gpu', min: 'minCount', max: 'maxCount', now: 'count' },
} as const satisfies Record<CloudClusterKind, object>;

export interface Scale {
  nodeGroup: string;
  /** Of a fixed group: between which its number may be set. Of an autoscaled one: between which its autoscaler decides. */
  minSize?: number | undefined;
  maxSize?: number | undefined;
  /** Nodes now. Of an autoscaled group: once, and its autoscaler goes on from there. */
  desiredSize?: number | undefined;
}

/**
 * An update leaves the number of an autoscaled group alone, and would send the one of long ago with new bounds. So with bounds goes the number as
 * it is now. @param nodesNow of that group; null: nobody has looked lately
 */
export function scaleGroup(
  kind: CloudClusterKind,
  config: Config,
  scale: Scale,
  nodesNow: number | null = null,
): ClusterChange {
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
  const wanted = scale.desiredSize;
  const isAutoscaled = group['autoscaled'] === true;
  if (wanted !== undefined && (wanted < min || wanted > max)) {
    const widen = wanted < min ? 'a lower minSize' : 'a higher maxSize';
    return wrong('desiredSize', `${wanted} is not between minSize ${min} and maxSize ${max}: say ${widen} too`);
  }
  const before = isAutoscaled ? nodesNow : Number(group[words.now] ?? min);
  if (wanted === undefined && before === null)
    return wrong('desiredSize', 'must be said: its autoscaler decides it, and nobody has seen its nodes lately');
  const size = wanted ?? Math.min(Math.max(before ?? min, min), max);
  const changed: Group = { ...group, name: names[index], [words.min]: min, [words.max]: max, [words.now]: size };
  const groupsAfter = groups.map((each, at) => (at === index ? changed : each));
  return {
    config: { ...config, [words.groups]: groupsAfter },
    ...(isAutoscaled ? { resize: [scale.nodeGroup] } : {}),
  };
}

/** How many nodes a group has: EKS calls a group by its name here and a mark of what replaces it, AKS as it is called here. */
export function countNodesOf(nodes: readonly { nodeGroup: string | null }[], group: string): number {
  return nodes.filter(({ nodeGroup }) => nodeGroup === group || nodeGroup?.replace(/-[0-9a-f]{6}$/, '') === group)
    .length;
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
