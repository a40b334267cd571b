/** A pod as the wire shows it: what the machine's states are called here, its addresses and its cost. */
import type { RentalMachine } from '../rental/machine.ts';
import type { Cloud } from './stock.ts';
import type { RunpodSwitches } from './switches.ts';

/** What a pod has besides what every rented machine has. */
export interface PodDetails {
  gpuTypeId: string;
  image: string;
  args: string;
  diskGb: number;
  ports: string[];
  volume: { size: number; path: string } | null;
  registry: string | null;
  cloud: Cloud;
  dataCenterId: string | null;
  isLocked: boolean;
  isGloballyNetworked: boolean;
  /** Of a cluster, or null. */
  cluster: { id: string; rank: number } | null;
  /** It came up without its GPUs, and how many the wire shows. */
  shownGpuCount: number;
  /** When it last began to run; kept while it is stopped. */
  lastStartedAtMs: number | null;
}

export type Pod = RentalMachine<PodDetails>;
export type PodStatus = 'PROVISIONING' | 'STARTING' | 'RUNNING' | 'EXITED' | 'ERROR' | 'TERMINATED';
export type PodAction = 'start' | 'stop' | 'restart' | 'terminate';

const SSH_HOST = '127.0.0.1';
const CUDA_VERSION = '12.8';
const ACTIONS: Record<PodStatus, readonly PodAction[]> = {
  PROVISIONING: ['stop', 'terminate'],
  STARTING: ['stop', 'terminate'],
  RUNNING: ['stop', 'restart', 'terminate'],
  EXITED: ['start', 'terminate'],
  ERROR: ['start', 'terminate'],
  TERMINATED: [],
};

export function statusOf(pod: Pod, { hostLossStatus }: RunpodSwitches): PodStatus {
  if (pod.destroyedAtMs !== null || pod.status === 'terminating') return 'TERMINATED';
  if (pod.isHostLost) return hostLossStatus;
  switch (pod.status) {
    case 'creating':
      return 'PROVISIONING';
    case 'booting':
      return 'STARTING';
    case 'running':
      return 'RUNNING';
    case 'stopping':
    case 'stopped':
    case 'reclaimed':
      return 'EXITED';
    case 'failed':
      return 'ERROR';
  }
}

export function actionsOf(pod: Pod, switches: RunpodSwitches): readonly PodAction[] {
  return ACTIONS[statusOf(pod, switches)];
}

export function describePod(pod: Pod, switches: RunpodSwitches, nowMs: number): Record<string, unknown> {
  const { details } = pod;
  const status = statusOf(pod, switches);
  const isUp = status === 'RUNNING' && pod.status === 'running' && !pod.isHostLost;
  const port = isUp ? publicPort(pod, switches, nowMs) : null;
  const hasCost = status !== 'EXITED' && status !== 'TERMINATED';
  return {
    id: pod.id,
    name: pod.label,
    image: details.image,
    args: details.args,
    disk: details.diskGb,
    ports: details.ports,
    env: pod.env,
    registry: details.registry,
    status,
    actions: ACTIONS[status],
    mounts: details.volume === null ? {} : { persistent: details.volume },
    gpu: { id: details.gpuTypeId, count: details.shownGpuCount },
    cloud: details.cloud,
    dataCenterId: pod.status === 'creating' ? null : details.dataCenterId,
    cudaVersion: pod.status === 'creating' ? null : CUDA_VERSION,
    ssh: describeSsh(pod, port, isUp),
    template: null,
    cost: hasCost ? pod.computeMicroUsdPerHour / 1e6 : 0,
    locked: details.isLocked,
    globalNetworking: details.isGloballyNetworked
      ? { enabled: true, ip: '10.65.1.42', internalDns: `${pod.id}.runpod.internal` }
      : { enabled: false },
    runtime: isUp ? describeRuntime(pod, port, nowMs) : null,
    createdAt: toTime(pod.createdAtMs),
    startedAt: toTime(pod.runningSinceMs ?? details.lastStartedAtMs),
    ...(details.cluster === null ? {} : { cluster: details.cluster }),
  };
}

/** Of sshd, where it is asked for, mapped and told by now. */
function publicPort(pod: Pod, switches: RunpodSwitches, nowMs: number): number | null {
  if (switches.hasNoPublicPorts || !pod.details.ports.includes('22/tcp')) return null;
  return nowMs - (pod.runningSinceMs ?? nowMs) < switches.portLagMs ? null : pod.sshPort;
}

function describeSsh(pod: Pod, port: number | null, isUp: boolean): Record<string, unknown> {
  const username = `${pod.id}-64410ab1`;
  const command = `ssh ${username}@ssh.runpod.io`;
  return {
    proxy: isUp ? { host: 'ssh.runpod.io', port: 22, username, command } : null,
    direct:
      port === null ? null : { host: SSH_HOST, port, username: 'root', command: `ssh root@${SSH_HOST} -p ${port}` },
  };
}

function describeRuntime(pod: Pod, port: number | null, nowMs: number): Record<string, unknown> {
  const uptime = Math.floor((nowMs - (pod.runningSinceMs ?? nowMs)) / 1000);
  const gpuCount = pod.faults.wrongGpu?.numGpus ?? pod.gpuCount;
  return {
    uptime,
    // Figures come after a while; until then the list is empty.
    gpus: uptime < 30 ? [] : Array.from({ length: gpuCount }, () => ({ util: 0, memoryUtil: 0 })),
    cpu: { util: 2 },
    memory: { util: 5 },
    ports: pod.details.ports.map((entry) => {
      const [number = '0', type = 'tcp'] = entry.split('/');
      const isSsh = entry === '22/tcp';
      const ip = isSsh && port !== null ? SSH_HOST : null;
      return { private: Number(number), public: isSsh ? port : null, type, ip };
    }),
  };
}

export function toTime(atMs: number | null): string | null {
  return atMs === null ? null : new Date(atMs).toISOString().replace(/\.\d{3}Z$/, 'Z');
}
