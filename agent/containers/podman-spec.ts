/**
 * A container with GPUs at Podman, by its own API: the one of Docker's form passes over requests for devices without a word (4.3), and a pod that
 * was promised a GPU must never run without. GPUs are devices of the Container Device Interface (`nvidia-ctk cdi generate`).
 */
interface DockerBody {
  Image: string;
  Entrypoint?: string[];
  Cmd?: string[];
  Env: string[];
  WorkingDir?: string;
  User?: string;
  Labels: Record<string, string>;
  StopTimeout: number;
  Healthcheck?: Record<string, unknown>;
  HostConfig: {
    PidsLimit: number;
    NanoCpus?: number;
    Memory?: number;
    ShmSize?: number;
    PortBindings: Record<string, { HostPort: string }[]>;
    Mounts: { Type: string; Source: string; Target: string; ReadOnly: boolean }[];
  };
}

const CPU_PERIOD = 100_000;
const LOG_BYTES = 10_485_760;

/** @param body as container-config.ts makes it @param gpus names of the devices, such as their UUIDs */
export function podmanSpec(name: string, body: DockerBody, gpus: readonly string[]): Record<string, unknown> {
  const { HostConfig: host } = body;
  const byType = (type: string) => host.Mounts.filter((mount) => mount.Type === type);
  return {
    name,
    image: body.Image,
    ...(body.Entrypoint === undefined ? {} : { entrypoint: body.Entrypoint }),
    ...(body.Cmd === undefined ? {} : { command: body.Cmd }),
    env: Object.fromEntries(
      body.Env.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
    ),
    ...(body.WorkingDir === undefined ? {} : { work_dir: body.WorkingDir }),
    ...(body.User === undefined ? {} : { user: body.User }),
    labels: body.Labels,
    stop_timeout: body.StopTimeout,
    privileged: false,
    no_new_privileges: true,
    restart_policy: 'no',
    ...(body.Healthcheck === undefined ? {} : { healthconfig: body.Healthcheck }),
    devices: gpus.map((gpu) => ({ path: `nvidia.com/gpu=${gpu}` })),
    mounts: byType('bind').map(({ Source: source, Target: destination, ReadOnly: isReadOnly }) => ({
      type: 'bind',
      source,
      destination,
      options: ['rbind', 'rprivate', isReadOnly ? 'ro' : 'rw'],
    })),
    volumes: byType('volume').map(({ Source: source, Target: destination, ReadOnly: isReadOnly }) => ({
      Name: source,
      Dest: destination,
      Options: [isReadOnly ? 'ro' : 'rw'],
    })),
    portmappings: Object.entries(host.PortBindings).flatMap(([key, places]) => {
      const [port, protocol] = key.split('/');
      return places.map((place) => ({ container_port: Number(port), host_port: Number(place.HostPort), protocol }));
    }),
    ...(host.ShmSize === undefined ? {} : { shm_size: host.ShmSize }),
    resource_limits: {
      pids: { limit: host.PidsLimit },
      ...(host.NanoCpus === undefined
        ? {}
        : { cpu: { period: CPU_PERIOD, quota: Math.round((host.NanoCpus * CPU_PERIOD) / 1e9) } }),
      ...(host.Memory === undefined ? {} : { memory: { limit: host.Memory, swap: host.Memory } }),
    },
    log_configuration: { driver: 'k8s-file', size: LOG_BYTES },
  };
}
