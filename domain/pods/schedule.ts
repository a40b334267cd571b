/**
 * Scheduling: which node takes a pod, and which of its GPUs. What is not known of a node (its memory, its GPUs) is not there to be given
 * away. Packed tightly, so that large gaps stay for large pods; deterministic, so that the same world gives the same plan.
 */
import { isSameGpuModel, hasPromisedMemory } from '../gpu-model.ts';
import type { NodeStatus, NodeVerdict } from '../node.ts';
import type { PodPort, PodRequirements, PodResources } from './pod.ts';

export interface NodeGpuFacts {
  index: number;
  /** null: not told; it is given by its index then. */
  uuid: string | null;
  model: string | null;
  memoryMib: number | null;
  /** false: something is wrong with it, or it is cut into MIG devices. */
  isUsable: boolean;
}

export interface NodeRoom {
  id: string;
  instanceId: string | null;
  labels: Readonly<Record<string, string>>;
  status: NodeStatus;
  health: NodeVerdict;
  isCordoned: boolean;
  isFenced: boolean;
  /** Its agent has a container engine that answers. */
  hasEngine: boolean;
  gpus: readonly NodeGpuFacts[];
  /** null: not known. */
  memoryMib: number | null;
  cpus: number | null;
  /** What the pods that it has take. */
  taken: Taken;
}

export interface Taken {
  gpuIndexes: readonly number[];
  memoryMib: number;
  cpus: number;
  /** As `tcp/8080`. */
  hostPorts: readonly string[];
}

export interface PodNeeds extends PodRequirements {
  ports: readonly PodPort[];
  resources: Pick<PodResources, 'cpus' | 'memoryMib'>;
  /** Taken where it fits: its container's image and files are there. */
  preferredNodeId: string | null;
  /** Never taken: it was lost there, or is leaving it. */
  avoidedNodeIds: readonly string[];
}

export interface GpuShare {
  index: number;
  uuid: string | null;
}

export type Placement = { nodeId: string; gpus: GpuShare[] } | { reason: string };

/** Left for the machine itself: pods that ask for memory never get all of it. */
export const SYSTEM_MEMORY_MIB = 512;

export function placePod(needs: PodNeeds, nodes: readonly NodeRoom[]): Placement {
  const refusals = new Map<string, number>();
  let best: { node: NodeRoom; gpus: GpuShare[]; score: readonly number[] } | null = null;
  for (const node of nodes) {
    const looked = lookAt(needs, node);
    if ('refusal' in looked) {
      refusals.set(looked.refusal, (refusals.get(looked.refusal) ?? 0) + 1);
      continue;
    }
    const score = scoreOf(needs, node, looked.gpus);
    if (best === null || isBefore(score, node.id, best.score, best.node.id)) best = { node, gpus: looked.gpus, score };
  }
  return best === null ? { reason: describe(refusals, nodes.length) } : { nodeId: best.node.id, gpus: best.gpus };
}

/** What a node has, with one more pod on it. */
export function addTaken(
  node: NodeRoom,
  needs: Pick<PodNeeds, 'ports' | 'resources'>,
  gpus: readonly GpuShare[],
): NodeRoom {
  const { taken } = node;
  return {
    ...node,
    taken: {
      gpuIndexes: [...taken.gpuIndexes, ...gpus.map(({ index }) => index)],
      memoryMib: taken.memoryMib + (needs.resources.memoryMib ?? 0),
      cpus: taken.cpus + (needs.resources.cpus ?? 0),
      hostPorts: [...taken.hostPorts, ...hostPortsOf(needs.ports)],
    },
  };
}

export function hostPortsOf(ports: readonly PodPort[]): string[] {
  return ports.flatMap(({ hostPort, protocol }) => (hostPort === null ? [] : [`${protocol}/${hostPort}`]));
}

type Look = { gpus: GpuShare[] } | { refusal: string };

/** The first thing in its way, in words that are the same for all nodes of which it is true. */
function lookAt(needs: PodNeeds, node: NodeRoom): Look {
  const refusal = refuseNode(needs, node) ?? refuseRoom(needs, node);
  if (refusal !== null) return { refusal };
  const fitting = freeGpus(node).filter((gpu) => isFitting(needs, gpu));
  if (fitting.length < needs.gpuCount) return { refusal: refuseGpus(needs, node) };
  // The smallest that do, by memory: a large one may be needed by another.
  const chosen = [...fitting].sort((a, b) => (a.memoryMib ?? 0) - (b.memoryMib ?? 0) || a.index - b.index);
  return { gpus: chosen.slice(0, needs.gpuCount).map(({ index, uuid }) => ({ index, uuid })) };
}

function refuseNode(needs: PodNeeds, node: NodeRoom): string | null {
  if (needs.nodeId !== null && needs.nodeId !== node.id) return 'not the node that it asks for';
  if (needs.instanceId !== null && needs.instanceId !== node.instanceId) return 'not of the instance that it asks for';
  if (needs.avoidedNodeIds.includes(node.id)) return 'it was there and had to leave';
  if (node.status !== 'online') return node.status === 'gone' ? 'gone' : 'not heard of';
  if (node.isFenced) return 'fenced';
  if (node.isCordoned) return 'cordoned';
  if (!node.hasEngine) return 'without a container engine';
  if (!isFit(needs, node)) return 'not healthy';
  const missing = Object.entries(needs.labels).find(([name, value]) => node.labels[name] !== value);
  if (missing) return `without the label ${missing[0]}=${missing[1]}`;
  return null;
}

/** A node without GPUs can say nothing of them: that keeps away only those who want some. */
function isFit(needs: PodNeeds, { health, gpus }: NodeRoom): boolean {
  return health === 'healthy' || (health === 'unknown' && needs.gpuCount === 0 && gpus.length === 0);
}

function refuseRoom({ ports, resources }: PodNeeds, { taken, memoryMib, cpus }: NodeRoom): string | null {
  const port = hostPortsOf(ports).find((one) => taken.hostPorts.includes(one));
  if (port !== undefined) return `port ${port} taken`;
  if (resources.memoryMib !== null) {
    if (memoryMib === null) return 'of unknown memory';
    if (taken.memoryMib + resources.memoryMib > memoryMib - SYSTEM_MEMORY_MIB) return 'with too little free memory';
  }
  if (resources.cpus !== null) {
    if (cpus === null) return 'of unknown processors';
    if (taken.cpus + resources.cpus > cpus) return 'with too few free processors';
  }
  return null;
}

function refuseGpus(needs: PodNeeds, node: NodeRoom): string {
  const suited = node.gpus.filter((gpu) => gpu.isUsable && isFitting(needs, gpu));
  if (suited.length >= needs.gpuCount) return 'with too few free GPUs';
  return node.gpus.length === 0 ? 'without GPUs' : 'without such GPUs';
}

function freeGpus({ gpus, taken }: NodeRoom): NodeGpuFacts[] {
  return gpus.filter((gpu) => gpu.isUsable && !taken.gpuIndexes.includes(gpu.index));
}

function isFitting(needs: PodNeeds, gpu: NodeGpuFacts): boolean {
  if (needs.gpuModel !== null && (gpu.model === null || !isSameGpuModel(needs.gpuModel, gpu.model))) return false;
  if (needs.minGpuMemoryGib === null) return true;
  return gpu.memoryMib !== null && hasPromisedMemory(needs.minGpuMemoryGib, gpu.memoryMib);
}

/** Smaller is better: where it was, then fewest GPUs left over, then least memory left over, then most pods' ports (the fuller one). */
function scoreOf(needs: PodNeeds, node: NodeRoom, gpus: readonly GpuShare[]): readonly number[] {
  const freeMemory = node.memoryMib === null ? Number.MAX_SAFE_INTEGER : node.memoryMib - node.taken.memoryMib;
  const chosen = node.gpus.filter(({ index }) => gpus.some((gpu) => gpu.index === index));
  const largest = Math.max(0, ...chosen.map(({ memoryMib }) => memoryMib ?? 0));
  return [
    node.id === needs.preferredNodeId ? 0 : 1,
    largest,
    freeGpus(node).length - gpus.length,
    freeMemory - (needs.resources.memoryMib ?? 0),
    -node.taken.cpus,
  ];
}

function isBefore(score: readonly number[], id: string, best: readonly number[], bestId: string): boolean {
  const at = score.findIndex((value, place) => value !== best[place]);
  return at < 0 ? id < bestId : (score[at] as number) < (best[at] as number);
}

function describe(refusals: ReadonlyMap<string, number>, count: number): string {
  if (count === 0) return 'there is no node';
  // Those that it did not ask for say little.
  const parts = [...refusals]
    .sort(([a, many], [b, few]) => Number(isAside(a)) - Number(isAside(b)) || few - many || (a < b ? -1 : 1))
    .map(([refusal, n]) => `${n} ${refusal}`);
  return `no node fits: ${parts.slice(0, 6).join(', ')}`;
}

function isAside(refusal: string): boolean {
  return refusal.startsWith('not the node') || refusal.startsWith('not of the instance') || refusal === 'gone';
}
