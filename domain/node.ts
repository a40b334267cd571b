/**
 * A node: a host that runs our agent. What its heartbeats prove, how long they count, and what its GPUs are worth. What the agent could
 * not read is unknown: never zero, and never "no GPUs".
 */
import { hasPromisedMemory, isSameGpuModel } from './gpu-model.ts';

/**
 *   installing   a host of ours whose agent has not registered yet
 *   online       heard of within the last STALE_BEATS intervals
 *   stale        not heard of for longer: the agent, the machine or the way to us is down
 *   gone         its machine is gone at the provider; of a host of ours: nothing of ours is on it any more; of a cluster: it has left it
 */
export const NODE_STATUSES = ['installing', 'online', 'stale', 'gone'] as const;
export type NodeStatus = (typeof NODE_STATUSES)[number];

/** Of GPUs: `unknown` is what could not be read. */
export const NODE_VERDICTS = ['healthy', 'degraded', 'failed', 'unknown'] as const;
export type NodeVerdict = (typeof NODE_VERDICTS)[number];

/**
 * What is wrong with the GPUs of a machine that lives:
 *   gpu_lost    one fell off the bus, or wants a reset: the machine is worth nothing before a reboot, and often after it
 *   hang        the driver does not answer
 *   driver      it is not loaded, does not fit its library, or was taken from the container
 *   no_devices  the driver finds none
 *   hardware    power, interrupts, memory
 *   other       something else
 */
export const GPU_TROUBLE_KINDS = ['gpu_lost', 'hang', 'driver', 'no_devices', 'hardware', 'other'] as const;

/** One heartbeat may be lost and one be late without a node being called stale. */
export const STALE_BEATS = 3;

export interface Verdict<Value> {
  value: Value;
  /** For people; null where there is nothing to say. */
  reason: string | null;
}

export function judgeFreshness(input: {
  lastHeartbeatAt: number | null;
  /** null: its agent has not registered. */
  registeredAt: number | null;
  isMachineGone: boolean;
  /** A host of ours from which everything of ours was removed. @default false */
  isRemoved?: boolean;
  /** Its cluster no longer has it. @default false */
  hasLeft?: boolean;
  intervalMs: number;
  now: number;
}): Verdict<NodeStatus> {
  if (input.isMachineGone) return { value: 'gone', reason: 'its machine is gone at the provider' };
  if (input.isRemoved) return { value: 'gone', reason: 'it was removed' };
  if (input.hasLeft) return { value: 'gone', reason: 'its cluster has it no longer' };
  if (input.registeredAt === null) return { value: 'installing', reason: 'its agent has not registered yet' };
  const silentMs = input.now - (input.lastHeartbeatAt ?? input.registeredAt);
  if (silentMs <= STALE_BEATS * input.intervalMs) return { value: 'online', reason: null };
  const what = input.lastHeartbeatAt === null ? 'no heartbeat since it registered' : 'no heartbeat';
  const expected = `one is due every ${formatSeconds(input.intervalMs)}`;
  return { value: 'stale', reason: `${what} for ${formatSeconds(silentMs)}; ${expected}` };
}

export interface BeatPosition {
  bootId: string | null;
  previousBootId: string | null;
  sequence: number;
}

/**
 * What a heartbeat is to the last one: `next`, `reboot` (of another boot than before), or `old` (overtaken on its way, or repeated).
 * db/nodes.ts states the same rule in SQL, because a heartbeat is one statement.
 */
export function placeBeat(last: BeatPosition, beat: { bootId: string; sequence: number }): 'next' | 'reboot' | 'old' {
  if (last.bootId === null) return 'next';
  if (last.bootId === beat.bootId) return beat.sequence > last.sequence ? 'next' : 'old';
  return last.previousBootId === beat.bootId ? 'old' : 'reboot';
}

export interface SeenGpu {
  name: string | null;
  memoryTotalMib: number | null;
}

/** What was paid for; a null member: nothing was promised. */
export interface PromisedNode {
  gpu: string | null;
  gpuCount: number | null;
  gpuMemoryGib: number | null;
}

/** The agent's own verdict, held against what was promised. */
export function judgeHealth(
  reading: { verdict: NodeVerdict; reason: string | null; gpus: readonly SeenGpu[] | null } | null,
  promised: PromisedNode,
): Verdict<NodeVerdict> {
  if (reading === null) return { value: 'unknown', reason: 'nothing was reported yet' };
  const { gpus, verdict, reason } = reading;
  if (gpus === null || verdict === 'failed') return { value: verdict === 'healthy' ? 'unknown' : verdict, reason };
  const mismatch = findMismatch(gpus, promised);
  return mismatch === null ? { value: verdict, reason } : { value: 'failed', reason: mismatch };
}

function findMismatch(gpus: readonly SeenGpu[], { gpu, gpuCount, gpuMemoryGib }: PromisedNode): string | null {
  if (gpuCount !== null && gpus.length !== gpuCount) {
    return `${gpuCount} ${gpuCount === 1 ? 'GPU' : 'GPUs'} promised, ${gpus.length} seen`;
  }
  for (const { name, memoryTotalMib } of gpus) {
    if (gpu !== null && name !== null && !isSameGpuModel(gpu, name)) return `${gpu} promised, ${name} seen`;
    if (gpuMemoryGib !== null && memoryTotalMib !== null && !hasPromisedMemory(gpuMemoryGib, memoryTotalMib)) {
      return `${gpuMemoryGib} GiB per GPU promised, ${memoryTotalMib} MiB seen`;
    }
  }
  return null;
}

function formatSeconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
