/**
 * What a Kubernetes node is, read from its own labels, allocatable and conditions: NVIDIA's GPU feature discovery (nvidia.com/gpu.*,
 * nvidia.com/mig-*), node feature discovery (feature.node.kubernetes.io/*), the Habana device plugin (habana.ai/gaudi) and the clouds' own
 * labels. What nobody tells is null: an unknown count is never 0, because 0 is a promise that there is none.
 */

/** The part of a v1.Node that is read; whatever else it has is left alone. */
export interface KubernetesNode {
  metadata?: { name?: string; uid?: string; labels?: Record<string, string>; creationTimestamp?: string | Date };
  spec?: {
    unschedulable?: boolean;
    providerID?: string;
    taints?: { key: string; value?: string; effect: string }[];
  };
  status?: {
    allocatable?: Record<string, string>;
    capacity?: Record<string, string>;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
    nodeInfo?: {
      kubeletVersion?: string;
      osImage?: string;
      kernelVersion?: string;
      containerRuntimeVersion?: string;
      architecture?: string;
    };
  };
}

export type HardwareType = 'cpu' | 'cuda' | 'hpu';

export interface NodeFacts {
  name: string;
  /** A node that comes back under its name is another one. null: not told. */
  uid: string | null;
  /** `cpu`: nothing on it says otherwise. */
  hardwareType: HardwareType;
  gpuModel: string | null;
  /** Accelerators that Pods may ask for. null: not known, such as before a device plugin is there. */
  gpuCount: number | null;
  gpuMemoryMib: number | null;
  driverVersion: string | null;
  cudaVersion: string | null;
  /** null: not told. */
  mig: { strategy: string; profiles: { profile: string; count: number }[] } | null;
  /** Habana Gaudi. null: it is none. */
  gaudi: { devices: number | null; model: string | null } | null;
  isReady: boolean;
  notReadyReason: string | null;
  isSchedulable: boolean;
  pressures: string[];
  taints: { key: string; value: string | null; effect: string }[];
  cpuMilli: number | null;
  memoryBytes: number | null;
  instanceType: string | null;
  zone: string | null;
  nodeGroup: string | null;
  kubeletVersion: string | null;
  osImage: string | null;
  architecture: string | null;
}

const PRESSURES = ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'NetworkUnavailable'];

export function readNodeFacts(node: KubernetesNode): NodeFacts {
  const labels = node.metadata?.labels ?? {};
  const allocatable = node.status?.allocatable ?? {};
  const conditions = node.status?.conditions ?? [];
  const ready = conditions.find((condition) => condition.type === 'Ready');
  const isReady = ready?.status === 'True';
  const info = node.status?.nodeInfo ?? {};
  return {
    name: node.metadata?.name ?? '',
    uid: node.metadata?.uid ?? null,
    ...readAccelerator(labels, allocatable, node.status?.capacity ?? {}),
    isReady,
    notReadyReason: isReady ? null : (ready?.message ?? ready?.reason ?? 'the node has told no condition Ready'),
    isSchedulable: node.spec?.unschedulable !== true,
    pressures: conditions
      .filter(({ type, status }) => PRESSURES.includes(type) && status === 'True')
      .map(({ type }) => type),
    taints: (node.spec?.taints ?? []).map(({ key, value, effect }) => ({ key, value: value ?? null, effect })),
    cpuMilli: readMilli(allocatable['cpu']),
    memoryBytes: readBytes(allocatable['memory']),
    instanceType: instanceTypeOf(labels),
    zone: labels['topology.kubernetes.io/zone'] ?? null,
    nodeGroup: labels['eks.amazonaws.com/nodegroup'] ?? labels['kubernetes.azure.com/agentpool'] ?? null,
    kubeletVersion: info.kubeletVersion ?? null,
    osImage: info.osImage ?? null,
    architecture: info.architecture ?? labels['kubernetes.io/arch'] ?? null,
  };
}

type Texts = Record<string, string>;
type Accelerator = Pick<
  NodeFacts,
  'hardwareType' | 'gpuModel' | 'gpuCount' | 'gpuMemoryMib' | 'driverVersion' | 'cudaVersion' | 'mig' | 'gaudi'
>;

/** PCI vendors as node feature discovery labels them: 10de NVIDIA, 1da3 Habana. */
const NVIDIA_PCI = /^feature\.node\.kubernetes\.io\/pci-(?:\w+_)?10de(?:_\w+)?\.present$/;
const NFD = 'feature.node.kubernetes.io/';
/** Before any driver or plugin tells: EC2's g and p families (not Graviton's c7g and such), Azure's N sizes, EC2's Gaudi. */
const NVIDIA_TYPES = /^(?:g\d\w*|p\d\w*)\.|^Standard_N[CDGV]/;
const GAUDI_TYPES = /^dl1\./;
const HABANA_PCI = /^feature\.node\.kubernetes\.io\/pci-(?:\w+_)?1da3(?:_\w+)?\.present$/;

function readAccelerator(labels: Texts, allocatable: Texts, capacity: Texts): Accelerator {
  if (isGaudi(labels, allocatable, capacity)) return readGaudi(labels, allocatable);
  const mig = readMig(labels, allocatable);
  const isCuda =
    'nvidia.com/gpu' in allocatable ||
    'nvidia.com/gpu' in capacity ||
    mig !== null ||
    labels['nvidia.com/gpu.present'] === 'true' ||
    'nvidia.com/gpu.product' in labels ||
    Object.entries(labels).some(([key, value]) => NVIDIA_PCI.test(key) && value === 'true') ||
    labels['kubernetes.azure.com/accelerator'] === 'nvidia' ||
    NVIDIA_TYPES.test(instanceTypeOf(labels) ?? '');
  if (!isCuda) {
    // Without discovery and without a cloud's type nobody has looked: a GPU whose driver is missing looks the same.
    const isKnown = instanceTypeOf(labels) !== null || Object.keys(labels).some((key) => key.startsWith(NFD));
    return {
      hardwareType: 'cpu',
      gpuModel: null,
      gpuCount: isKnown ? 0 : null,
      gpuMemoryMib: null,
      driverVersion: null,
      cudaVersion: null,
      mig: null,
      gaudi: null,
    };
  }
  return {
    hardwareType: 'cuda',
    gpuModel: labels['nvidia.com/gpu.product'] ?? labels['k8s.amazonaws.com/accelerator'] ?? null,
    gpuCount: readCount(labels['nvidia.com/gpu.count']) ?? readPositive(allocatable['nvidia.com/gpu']),
    gpuMemoryMib: readPositive(labels['nvidia.com/gpu.memory']),
    driverVersion: versionOf(labels, 'nvidia.com/cuda.driver-version.full', 'nvidia.com/cuda.driver'),
    cudaVersion: versionOf(labels, 'nvidia.com/cuda.runtime-version.full', 'nvidia.com/cuda.runtime'),
    mig,
    gaudi: null,
  };
}

/** GFD tells versions whole since 0.15, and in parts before. */
function versionOf(labels: Texts, whole: string, parts: string): string | null {
  const told = labels[whole];
  if (told !== undefined) return told;
  const pieces = ['major', 'minor', 'rev', 'revision'].flatMap((piece) => {
    const value = labels[`${parts}.${piece}`];
    return value === undefined || value === '' ? [] : [value];
  });
  return pieces.length < 2 ? null : pieces.join('.');
}

const MIG_RESOURCE = /^nvidia\.com\/mig-(.+)$/;

/** Profiles are resources under the strategy `mixed`; under `single` the plain GPU resource counts slices. */
function readMig(labels: Texts, allocatable: Texts): NodeFacts['mig'] {
  const profiles = Object.entries(allocatable).flatMap(([key, value]) => {
    const profile = MIG_RESOURCE.exec(key)?.[1];
    const count = readCount(value);
    return profile === undefined || count === null ? [] : [{ profile, count }];
  });
  const strategy = labels['nvidia.com/mig.strategy'];
  if (profiles.length === 0 && (strategy === undefined || strategy === 'none')) return null;
  return { strategy: strategy ?? 'mixed', profiles: profiles.sort((a, b) => (a.profile < b.profile ? -1 : 1)) };
}

function isGaudi(labels: Texts, allocatable: Texts, capacity: Texts): boolean {
  return (
    'habana.ai/gaudi' in allocatable ||
    'habana.ai/gaudi' in capacity ||
    Object.keys(labels).some((key) => key.startsWith('habana.ai/')) ||
    Object.entries(labels).some(([key, value]) => HABANA_PCI.test(key) && value === 'true') ||
    GAUDI_TYPES.test(instanceTypeOf(labels) ?? '')
  );
}

function readGaudi(labels: Texts, allocatable: Texts): Accelerator {
  const devices = readPositive(allocatable['habana.ai/gaudi']);
  const model = labels['habana.ai/hpu.product'] ?? labels['habana.ai/gaudi.product'] ?? null;
  return {
    hardwareType: 'hpu',
    gpuModel: model,
    gpuCount: devices,
    gpuMemoryMib: readPositive(labels['habana.ai/hpu.memory']),
    driverVersion: labels['habana.ai/hpu.driver-version'] ?? null,
    cudaVersion: null,
    mig: null,
    gaudi: { devices, model },
  };
}

/** k3s and kubeadm label machines of no cloud with their own name. */
function instanceTypeOf(labels: Texts): string | null {
  const type = labels['node.kubernetes.io/instance-type'];
  return type === undefined || type === 'k3s' ? null : type;
}

function readCount(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

/** Where there is an accelerator, 0 allocatable only says that its device plugin does not offer it: the count is unknown. */
function readPositive(text: string | undefined): number | null {
  const count = readCount(text);
  return count === 0 ? null : count;
}

/** A CPU quantity in thousandths: "3920m", "4", "1.5". */
export function readMilli(text: string | undefined): number | null {
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(text ?? '');
  if (!match) return null;
  return match[2] === 'm' ? Math.floor(Number(match[1])) : Math.round(Number(match[1]) * 1000);
}

const BYTE_UNITS: Record<string, number> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** A memory quantity in bytes: "15Gi", "16106127360", "15728640Ki", "128M". */
export function readBytes(text: string | undefined): number | null {
  const match = /^(\d+(?:\.\d+)?)([A-Za-z]{0,2})$/.exec(text ?? '');
  const unit = BYTE_UNITS[match?.[2] ?? '?'];
  return match && unit !== undefined ? Math.floor(Number(match[1]) * unit) : null;
}

/** What a cluster has in all. Nodes of which a count is not known are told, not counted as none. */
export function sumNodes(nodes: readonly NodeFacts[]) {
  const groups = new Map<
    string,
    { hardwareType: HardwareType; gpuModel: string | null; nodes: number; gpus: number }
  >();
  let unknown = 0;
  for (const node of nodes) {
    if (node.hardwareType === 'cpu') continue;
    const key = `${node.hardwareType}/${node.gpuModel ?? ''}`;
    const group = groups.get(key) ?? { hardwareType: node.hardwareType, gpuModel: node.gpuModel, nodes: 0, gpus: 0 };
    group.nodes++;
    if (node.gpuCount === null) unknown++;
    else group.gpus += node.gpuCount;
    groups.set(key, group);
  }
  return {
    total: nodes.length,
    ready: nodes.filter((node) => node.isReady).length,
    withUnknownGpuCount: unknown,
    accelerators: [...groups.values()].sort((a, b) => b.gpus - a.gpus),
  };
}
