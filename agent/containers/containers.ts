/** Our containers as the engine has them: found by their labels and by nothing else, and what is done to them. */
import type { DesiredPod, PodReport } from '../../api/contract/pods.ts';
import {
  AGENT_LABEL,
  containerConfig,
  containerName,
  gpuNames,
  podOfVolume,
  POD_LABEL,
  RUN_LABEL,
  type EngineKind,
} from './container-config.ts';
import { EngineError, type Engine } from './engine.ts';
import { podmanSpec } from './podman-spec.ts';

export interface Container {
  id: string;
  podId: string;
  run: number;
  isRunning: boolean;
  /** It was made and never started. */
  isNew: boolean;
}

export interface ContainerFacts {
  isRunning: boolean;
  exitCode: number;
  isOutOfMemory: boolean;
  startedAt: string | null;
  finishedAt: string | null;
  /** Of its own health check, by the engine; null: it has none. */
  health: PodReport['health'];
  ports: PodReport['ports'];
}

export interface Containers {
  /** Throws EngineError. */
  list(): Promise<Container[]>;
  /** @returns its id. Throws EngineError, UnfitPod. */
  create(pod: DesiredPod): Promise<string>;
  start(id: string): Promise<void>;
  /** Ends it within the time, by force where it does not; what is gone is fine. */
  stop(id: string, graceSeconds: number): Promise<void>;
  remove(id: string): Promise<void>;
  /** null: it is gone. */
  inspect(id: string): Promise<ContainerFacts | null>;
  removeVolumes(podId: string): Promise<void>;
  /** Pods that have volumes here, whether or not they have containers. */
  podsWithVolumes(): Promise<Set<string>>;
}

const NEVER = '0001-01-01T00:00:00Z';

export function createContainers(
  engine: Engine,
  { owner, workspace, kind }: { owner: string; workspace: string; kind: () => EngineKind },
): Containers {
  const at = (id: string, rest = '') => `/containers/${encodeURIComponent(id)}${rest}`;

  async function remove(id: string): Promise<void> {
    await unlessGone(engine.call('DELETE', at(id, '?force=1&v=1'), { timeoutMs: 120_000 }));
  }

  async function listVolumes(): Promise<string[]> {
    const filters = encodeURIComponent(JSON.stringify({ name: ['muster-pod_'] }));
    const found = (await engine.call('GET', `/volumes?filters=${filters}`)) as { Volumes?: { Name: string }[] | null };
    return (found?.Volumes ?? []).map(({ Name: name }) => name);
  }

  return {
    async list() {
      const filters = encodeURIComponent(JSON.stringify({ label: [`${AGENT_LABEL}=${owner}`] }));
      const found = await engine.call('GET', `/containers/json?all=1&filters=${filters}`);
      if (!Array.isArray(found)) throw new EngineError(0, 'the engine lists no containers');
      return (found as ListedContainer[]).flatMap(toContainer);
    },
    async create(pod) {
      const name = containerName(owner, pod);
      const body = containerConfig(pod, { owner, workspace, engine: kind() });
      const isByPodman = kind() === 'podman' && pod.gpus.length > 0;
      const [path, sent] = isByPodman
        ? [
            '/libpod/containers/create',
            podmanSpec(name, body as unknown as Parameters<typeof podmanSpec>[1], gpuNames(pod)),
          ]
        : [`/containers/create?name=${name}`, body];
      const make = () => engine.call('POST', path, { body: sent, timeoutMs: 120_000 });
      const made = await make().catch(async (error: unknown) => {
        if (!isNameTaken(error)) throw error;
        await remove(name); // half made, before a crash: the name is ours alone
        return make();
      });
      return (made as { Id: string }).Id;
    },
    async start(id) {
      await engine.call('POST', at(id, '/start'), { timeoutMs: 120_000 });
    },
    async stop(id, graceSeconds) {
      const timeoutMs = (graceSeconds + 60) * 1_000;
      await unlessGone(engine.call('POST', at(id, `/stop?t=${graceSeconds}`), { timeoutMs }));
    },
    remove,
    async inspect(id) {
      const found = await unlessGone(engine.call('GET', at(id, '/json')));
      return found === null ? null : toFacts(found as InspectedContainer);
    },
    async removeVolumes(podId) {
      for (const name of await listVolumes())
        if (podOfVolume(owner, name) === podId)
          await unlessGone(engine.call('DELETE', `/volumes/${encodeURIComponent(name)}`));
    },
    async podsWithVolumes() {
      return new Set((await listVolumes()).map((name) => podOfVolume(owner, name)).filter((id) => id !== null));
    },
  };
}

interface ListedContainer {
  Id: string;
  State: string;
  Labels: Record<string, string> | null;
}

interface InspectedContainer {
  State: {
    Status: string;
    Running: boolean;
    ExitCode: number;
    OOMKilled?: boolean;
    StartedAt?: string;
    FinishedAt?: string;
    Health?: { Status?: string } | null;
  };
  HostConfig?: { NetworkMode?: string };
  NetworkSettings?: { Ports?: Record<string, { HostPort?: string }[] | null> | null };
  Config?: { ExposedPorts?: Record<string, unknown> | null };
}

function toContainer({ Id: id, State: state, Labels: labels }: ListedContainer): Container[] {
  const podId = labels?.[POD_LABEL];
  const run = Number(labels?.[RUN_LABEL]);
  if (podId === undefined || !/^pod_[a-z2-7]{16}$/.test(podId) || !Number.isInteger(run)) return [];
  const isRunning = state === 'running' || state === 'paused' || state === 'restarting' || state === 'stopping';
  // Podman says "configured" before the first start and "initialized" just before it runs.
  return [{ id, podId, run, isRunning, isNew: ['created', 'configured', 'initialized'].includes(state) }];
}

function toFacts({
  State: state,
  NetworkSettings: network,
  HostConfig: host,
  Config: config,
}: InspectedContainer): ContainerFacts {
  const health = state.Health?.Status;
  return {
    isRunning: state.Running,
    exitCode: state.ExitCode,
    isOutOfMemory: state.OOMKilled === true,
    startedAt: toTime(state.StartedAt),
    finishedAt: state.Running ? null : toTime(state.FinishedAt),
    health: health === 'healthy' || health === 'unhealthy' || health === 'starting' ? health : null,
    ports:
      host?.NetworkMode === 'host'
        ? Object.keys(config?.ExposedPorts ?? {}).flatMap((key) => toPort(key, key.split('/')[0]))
        : Object.entries(network?.Ports ?? {}).flatMap(([key, places]) =>
            uniqueHostPorts(places).flatMap((hostPort) => toPort(key, hostPort)),
          ),
  };
}

/** An engine tells a port once for each kind of address. */
function uniqueHostPorts(places: { HostPort?: string }[] | null): string[] {
  return [...new Set((places ?? []).map(({ HostPort: port }) => port ?? ''))];
}

function toPort(key: string, hostPort: string | undefined): PodReport['ports'] {
  const [, containerPort, protocol] = /^(\d+)\/(tcp|udp)$/.exec(key) ?? [];
  if (containerPort === undefined || !hostPort || !(Number(hostPort) > 0)) return [];
  return [{ containerPort: Number(containerPort), hostPort: Number(hostPort), protocol: protocol as 'tcp' | 'udp' }];
}

function toTime(text: string | undefined): string | null {
  const ms = text === undefined || text === NEVER ? Number.NaN : Date.parse(text);
  return Number.isNaN(ms) || ms <= 0 ? null : new Date(ms).toISOString();
}

/** Podman's own API says so by a 500. */
function isNameTaken(error: unknown): boolean {
  return error instanceof EngineError && (error.status === 409 || /name .*already in use/i.test(error.message));
}

/** What is gone is as it shall be; so is what is stopped already (304). */
async function unlessGone(call: Promise<unknown>): Promise<unknown> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof EngineError && error.status === 404) return null;
    throw error;
  }
}
