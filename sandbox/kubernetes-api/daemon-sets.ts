/**
 * The scheduler, as far as our agent needs one: where a program has put the agent's DaemonSet into a simulated cluster, each node that its
 * selector means runs the real agent, in a Pod with the tokens that the kubelet projects. A node that goes takes its Pod along.
 */
import type { SeatedMachine } from '../agent/simulated-disk.ts';
import type { CloudResourceReport, SimulatedClouds } from '../pulumi/clouds.ts';
import type { SimulatedNode } from './nodes.ts';
import type { KubernetesApi } from './server.ts';

/** As far as an agent runner is one. */
export interface NodeSeats {
  seat(machine: SeatedMachine): boolean;
  unseat(key: string): void;
  write(key: string, files: Record<string, string>): void;
}

const DAEMON_SET = 'kubernetes:apps/v1:DaemonSet';
const SECRET = 'kubernetes:core/v1:Secret';
const LOOK_MS = 1_000;
const TOKEN_FILE = 'run/token';

interface Pod {
  cluster: string;
  podName: string;
  token: string;
}

export function watchDaemonSets(
  clouds: Pick<SimulatedClouds, 'resources'>,
  clusters: Pick<KubernetesApi, 'find' | 'issueToken' | 'endPod' | 'urlOf'>,
  seats: NodeSeats,
): { close(): void } {
  const pods = new Map<string, Pod>();
  let boots = 0;

  function look(): void {
    const wanted = new Set<string>();
    for (const set of clouds.resources(DAEMON_SET)) {
      const cluster = clusterOf(set.scope);
      const agent = readAgent(set, clouds);
      if (cluster === null || agent === null) continue;
      const nodes = clusters.find(cluster)?.nodes ?? [];
      for (const node of nodes.filter((one) => isMeant(one, agent.nodeSelector))) {
        const key = `kubernetes/${cluster}/${node.metadata.name}/${node.metadata.uid}`;
        wanted.add(key);
        run(key, cluster, node, agent);
      }
    }
    for (const [key, { cluster, podName }] of pods) {
      if (wanted.has(key)) continue;
      seats.unseat(key);
      clusters.endPod(cluster, podName);
      pods.delete(key);
    }
  }

  function run(key: string, cluster: string, node: SimulatedNode, agent: Agent): void {
    const before = pods.get(key);
    if (before?.token === agent.token) return;
    const files = { [TOKEN_FILE]: agent.token };
    if (before) {
      seats.write(key, files);
      pods.set(key, { ...before, token: agent.token });
      return;
    }
    const { name, uid } = node.metadata;
    const podName = `muster-agent-${name}`;
    const { namespace, serviceAccount, audience } = agent;
    const proof = clusters.issueToken(cluster, { namespace, serviceAccount, podName, audience, node: { name, uid } });
    const machine: SeatedMachine = {
      provider: 'kubernetes',
      instanceId: key.slice('kubernetes/'.length),
      boot: ++boots,
      env: {
        MUSTER_AGENT_URL: agent.url,
        MUSTER_AGENT_TOKEN_FILE: TOKEN_FILE,
        MUSTER_AGENT_KUBERNETES_TOKEN_FILE: 'run/kubernetes-token',
      },
      gpus: gpusOf(node),
      files: { ...files, 'run/kubernetes-token': proof, ...sysOf(node) },
    };
    if (seats.seat(machine)) pods.set(key, { cluster, podName, token: agent.token });
  }

  const timer = setInterval(look, LOOK_MS).unref();
  return {
    close() {
      clearInterval(timer);
      for (const key of pods.keys()) seats.unseat(key);
    },
  };
}

interface Agent {
  url: string;
  token: string;
  namespace: string;
  serviceAccount: string;
  audience: string;
  nodeSelector: Record<string, string>;
}

/** null: no DaemonSet of our agent, or one whose tokens are not there. */
function readAgent(set: CloudResourceReport, clouds: Pick<SimulatedClouds, 'resources'>): Agent | null {
  const spec = recordOf(at(set.properties, 'spec', 'template', 'spec'));
  const env = listOf(at(listOf(spec['containers'])[0], 'env')).map(recordOf);
  const url = env.find(({ name }) => name === 'MUSTER_AGENT_URL')?.['value'];
  const sources = listOf(spec['volumes']).flatMap((volume) => listOf(at(volume, 'projected', 'sources')));
  const secretName = sources.map((source) => at(source, 'secret', 'name')).find((name) => typeof name === 'string');
  const audience = sources.map((source) => at(source, 'serviceAccountToken', 'audience')).find(Boolean);
  const namespace = String(at(set.properties, 'metadata', 'namespace'));
  const secret = clouds
    .resources(SECRET)
    .find(({ scope, id }) => scope === set.scope && id === `${namespace}/${secretName}`);
  const token = at(secret?.properties, 'stringData', 'token');
  if (typeof url !== 'string' || typeof token !== 'string' || typeof audience !== 'string') return null;
  const nodeSelector = recordOf(spec['nodeSelector']) as Record<string, string>;
  return { url, token, namespace, serviceAccount: String(spec['serviceAccountName']), audience, nodeSelector };
}

/** The server of a provider's kubeconfig is the scope of what it makes. */
function clusterOf(scope: string): string | null {
  const name = /\/clusters\/([^/]+)$/.exec(scope)?.[1];
  return name === undefined ? null : decodeURIComponent(name);
}

function isMeant({ metadata }: SimulatedNode, selector: Record<string, string>): boolean {
  return Object.entries(selector).every(([name, value]) => metadata.labels[name] === value);
}

function gpusOf({ metadata: { labels, uid } }: SimulatedNode): SeatedMachine['gpus'] {
  const product = labels['nvidia.com/gpu.product'];
  if (product === undefined) return null;
  return {
    smiName: product.replaceAll('-', ' '),
    memoryMib: Number(labels['nvidia.com/gpu.memory']),
    count: Number(labels['nvidia.com/gpu.count']),
    powerWatts: 300,
    computeCap: 860,
    driverVersion: labels['nvidia.com/cuda.driver-version.full'] ?? '570.133.20',
    cudaVersion: '12.8',
    uuidSeed: uid,
  };
}

/** What the kernel of that node shows of its devices. */
function sysOf(node: SimulatedNode): Record<string, string> {
  const count = Number(node.status.allocatable['habana.ai/gaudi'] ?? 0);
  const vendor = count > 0 ? '0x1da3' : gpusOf(node) === null ? '0x8086' : '0x10de';
  const files = Array.from({ length: count }, (_, index) => {
    const device = `sys/class/accel/accel${index}/device`;
    return [
      [`${device}/device_type`, 'GAUDI\n'],
      [`${device}/status`, 'Operational\n'],
      [`${device}/pci_addr`, `0000:${(0x10 + index).toString(16)}:1d.0\n`],
      [`${device}/driver_ver`, '1.21.0-ca59b5a\n'],
    ];
  });
  return { 'sys/bus/pci/devices/0000:10:1d.0/vendor': `${vendor}\n`, ...Object.fromEntries(files.flat()) };
}

function at(value: unknown, ...path: string[]): unknown {
  return path.reduce((found, name) => recordOf(found)[name], value);
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
