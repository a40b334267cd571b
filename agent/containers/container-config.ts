/** A pod as the engine's container: what it may use, what it sees of the node, and by what it is known to be ours. */
import { createHash } from 'node:crypto';
import { mkdirSync, realpathSync } from 'node:fs';
import { join, sep } from 'node:path';
import type { DesiredPod } from '../../api/contract/pods.ts';

/** Only containers with these are touched: `agent` is the directory of the agent whose they are. */
export const POD_LABEL = 'io.muster.pod';
export const RUN_LABEL = 'io.muster.run';
export const AGENT_LABEL = 'io.muster.agent';

export type EngineKind = 'docker' | 'podman';

export interface Surroundings {
  /** Directory of the agent. */
  owner: string;
  workspace: string;
  engine: EngineKind;
}

const MIB = 1024 * 1024;
const NANOSECONDS = 1_000_000_000;

/** It cannot be made so: a reason for people. */
export class UnfitPod extends Error {}

export function containerName(owner: string, { podId, run }: Pick<DesiredPod, 'podId' | 'run'>): string {
  return `muster-${podId}-${run}-${markOf(owner)}`;
}

/** Not every engine labels a volume that is made with a container: it is known by its name. */
export function volumeName(owner: string, podId: string, name: string): string {
  return `muster-${podId}-${markOf(owner)}-${name}`;
}

/** null: none of ours. */
export function podOfVolume(owner: string, volume: string): string | null {
  const [, podId, mark] = /^muster-(pod_[a-z2-7]{16})-([0-9a-f]{8})-/.exec(volume) ?? [];
  return podId !== undefined && mark === markOf(owner) ? podId : null;
}

function markOf(owner: string): string {
  return createHash('sha256').update(owner).digest('hex').slice(0, 8);
}

/**
 * The body of "create a container". Throws UnfitPod where a mount leaves the workspace.
 * @param workspace folder of the node; folders below it that are mounted are made
 */
export function containerConfig(pod: DesiredPod, { owner, workspace, engine }: Surroundings): Record<string, unknown> {
  const { spec } = pod;
  return {
    Image: spec.image,
    ...(spec.command === null ? {} : { Entrypoint: spec.command }),
    ...(spec.args === null ? {} : { Cmd: spec.args }),
    ...(spec.command !== null && spec.args === null ? { Cmd: [] } : {}),
    Env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
    ...(spec.workingDir === null ? {} : { WorkingDir: spec.workingDir }),
    ...(spec.user === null ? {} : { User: spec.user }),
    Labels: { [POD_LABEL]: pod.podId, [RUN_LABEL]: String(pod.run), [AGENT_LABEL]: owner },
    ExposedPorts: Object.fromEntries(spec.ports.map((port) => [portKey(port), {}])),
    StopTimeout: spec.stopGraceSeconds,
    ...healthConfig(pod),
    HostConfig: hostConfig(pod, { owner, workspace, engine }),
  };
}

/** Nothing of the host but what is said here: no privilege, no host network, processes or devices. */
function hostConfig(pod: DesiredPod, { owner, workspace, engine }: Surroundings): Record<string, unknown> {
  const { resources, ports, mounts } = pod.spec;
  return {
    Privileged: false,
    SecurityOpt: ['no-new-privileges'],
    // We start it again ourselves: an engine would also after a reboot, whether or not this node may still run it.
    RestartPolicy: { Name: 'no' },
    Init: engine === 'docker',
    PidsLimit: resources.maxProcesses,
    ...(resources.cpus === null ? {} : { NanoCpus: Math.round(resources.cpus * NANOSECONDS) }),
    ...(resources.memoryMib === null
      ? {}
      : { Memory: resources.memoryMib * MIB, MemorySwap: resources.memoryMib * MIB }),
    ...(resources.shmMib === null ? {} : { ShmSize: resources.shmMib * MIB }),
    PortBindings: Object.fromEntries(
      [...new Set(ports.map(portKey))].map((key) => [
        key,
        ports
          .filter((port) => portKey(port) === key)
          .map(({ hostPort }) => ({ HostPort: hostPort === null ? '' : String(hostPort) })),
      ]),
    ),
    Mounts: mounts.map((mount) => ({
      Target: mount.target,
      ReadOnly: mount.isReadOnly,
      ...(mount.kind === 'volume'
        ? { Type: 'volume', Source: volumeName(owner, pod.podId, mount.name) }
        : { Type: 'bind', Source: folderOf(workspace, mount.path), BindOptions: { Propagation: 'rprivate' } }),
    })),
    LogConfig:
      engine === 'podman'
        ? { Type: 'k8s-file', Config: { 'max-size': '10m' } }
        : { Type: 'json-file', Config: { 'max-size': '10m', 'max-file': '3' } },
    ...gpuConfig(pod, engine),
  };
}

/** By NVIDIA's runtime. Podman is asked in another way (podman-spec.ts). */
function gpuConfig(pod: DesiredPod, engine: EngineKind): Record<string, unknown> {
  if (pod.gpus.length === 0 || engine === 'podman') return {};
  return { DeviceRequests: [{ Driver: 'nvidia', DeviceIDs: gpuNames(pod), Capabilities: [['gpu']] }] };
}

export function gpuNames({ gpus }: Pick<DesiredPod, 'gpus'>): string[] {
  return gpus.map(({ index, uuid }) => uuid ?? String(index));
}

function healthConfig({ spec: { healthCheck } }: DesiredPod): Record<string, unknown> {
  if (healthCheck?.probe.kind !== 'command') return {};
  return {
    Healthcheck: {
      Test: ['CMD', ...healthCheck.probe.command],
      Interval: healthCheck.intervalSeconds * NANOSECONDS,
      Timeout: healthCheck.timeoutSeconds * NANOSECONDS,
      Retries: healthCheck.retries,
      StartPeriod: healthCheck.startPeriodSeconds * NANOSECONDS,
    },
  };
}

/**
 * The real folder, so that a link that an earlier pod left in the workspace leads nowhere else. A pod that runs could still change it in the
 * moment before the engine mounts it: pods of one workspace trust each other.
 */
function folderOf(workspace: string, path: string): string {
  try {
    mkdirSync(workspace, { recursive: true });
    const root = realpathSync(workspace);
    const wanted = path === '' ? root : join(root, path);
    const existing = firstExisting(wanted);
    if (existing !== root && !existing.startsWith(root + sep)) throw new UnfitPod(`${path} leads out of the workspace`);
    mkdirSync(wanted, { recursive: true });
    const real = realpathSync(wanted);
    if (real !== root && !real.startsWith(root + sep)) throw new UnfitPod(`${path} leads out of the workspace`);
    return real;
  } catch (error) {
    if (error instanceof UnfitPod) throw error;
    throw new UnfitPod(
      `the folder ${path || 'of the workspace'} cannot be used (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`,
    );
  }
}

/** The real path of the nearest folder above that there is: nothing is made behind a link. */
function firstExisting(path: string): string {
  for (let at = path; ; at = join(at, '..')) {
    try {
      return realpathSync(at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

function portKey({ containerPort, protocol }: DesiredPod['spec']['ports'][number]): string {
  return `${containerPort}/${protocol}`;
}
