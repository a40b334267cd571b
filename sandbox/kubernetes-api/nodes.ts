/** Nodes as clouds and operators really label them: what GPU feature discovery, node feature discovery and device plugins put on. */

export interface SimulatedNode {
  metadata: { name: string; uid: string; labels: Record<string, string>; creationTimestamp: string };
  spec: { providerID: string; unschedulable?: boolean; taints?: { key: string; value?: string; effect: string }[] };
  status: {
    allocatable: Record<string, string>;
    capacity: Record<string, string>;
    conditions: { type: string; status: string; reason: string; message: string }[];
    nodeInfo: Record<string, string>;
  };
}

export interface NodeOptions {
  name: string;
  labels?: Record<string, string>;
  resources?: Record<string, string>;
  taints?: SimulatedNode['spec']['taints'];
  isReady?: boolean;
  pressures?: string[];
}

const CONDITIONS = ['MemoryPressure', 'DiskPressure', 'PIDPressure'];

export function makeNode({
  name,
  labels = {},
  resources = {},
  taints,
  isReady = true,
  pressures = [],
}: NodeOptions): SimulatedNode {
  const amounts = { cpu: '3920m', memory: '15Gi', pods: '58', ...resources };
  return {
    metadata: {
      name,
      uid: `uid-of-${name}`,
      labels: { 'kubernetes.io/arch': 'amd64', 'kubernetes.io/os': 'linux', 'kubernetes.io/hostname': name, ...labels },
      creationTimestamp: '2026-11-21T09:00:00Z',
    },
    spec: { providerID: `sandbox:///${name}`, ...(taints ? { taints } : {}) },
    status: {
      allocatable: amounts,
      capacity: amounts,
      conditions: [
        ...CONDITIONS.map((type) => ({
          type,
          status: pressures.includes(type) ? 'True' : 'False',
          reason: 'Kubelet',
          message: '',
        })),
        isReady
          ? { type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'kubelet is posting ready status' }
          : {
              type: 'Ready',
              status: 'Unknown',
              reason: 'NodeStatusUnknown',
              message: 'Kubelet stopped posting node status.',
            },
      ],
      nodeInfo: {
        kubeletVersion: 'v1.34.1-eks-3025e55',
        osImage: 'Amazon Linux 2023.9',
        kernelVersion: '6.12.46',
        containerRuntimeVersion: 'containerd://2.1.4',
        architecture: 'amd64',
        operatingSystem: 'linux',
        bootID: '',
        machineID: '',
        systemUUID: '',
        kubeProxyVersion: '',
      },
    },
  };
}

const GPU_TAINT = [{ key: 'nvidia.com/gpu', value: 'true', effect: 'NoSchedule' }];

/** A g5.xlarge of an EKS node group with the GPU operator. */
export function makeEksGpuNode(name: string, change: Partial<NodeOptions> = {}): SimulatedNode {
  return makeNode({
    name,
    taints: GPU_TAINT,
    ...change,
    labels: {
      'node.kubernetes.io/instance-type': 'g5.xlarge',
      'topology.kubernetes.io/zone': 'eu-west-1a',
      'eks.amazonaws.com/nodegroup': 'gpu-1',
      'eks.amazonaws.com/capacityType': 'SPOT',
      'nvidia.com/gpu.present': 'true',
      'nvidia.com/gpu.product': 'NVIDIA-A10G',
      'nvidia.com/gpu.count': '1',
      'nvidia.com/gpu.memory': '23028',
      'nvidia.com/gpu.family': 'ampere',
      'nvidia.com/cuda.driver-version.full': '570.133.20',
      'nvidia.com/cuda.runtime-version.full': '12.8',
      'nvidia.com/mig.strategy': 'none',
      ...change.labels,
    },
    resources: { 'nvidia.com/gpu': '1', ...change.resources },
  });
}

/** An A100 cut into seven, under the strategy `mixed`. */
export function makeMigNode(name: string): SimulatedNode {
  return makeEksGpuNode(name, {
    labels: {
      'node.kubernetes.io/instance-type': 'p4d.24xlarge',
      'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-40GB',
      'nvidia.com/gpu.count': '8',
      'nvidia.com/gpu.memory': '40960',
      'nvidia.com/mig.strategy': 'mixed',
    },
    resources: { 'nvidia.com/gpu': '0', 'nvidia.com/mig-1g.5gb': '56', memory: '1100Gi', cpu: '95690m' },
  });
}

/** A dl1.24xlarge with Habana's device plugin. */
export function makeGaudiNode(name: string): SimulatedNode {
  return makeNode({
    name,
    labels: {
      'node.kubernetes.io/instance-type': 'dl1.24xlarge',
      'feature.node.kubernetes.io/pci-1200_1da3.present': 'true',
    },
    resources: { 'habana.ai/gaudi': '8', 'hugepages-2Mi': '21000Mi' },
  });
}

export function makeSystemNode(name: string, change: Partial<NodeOptions> = {}): SimulatedNode {
  return makeNode({
    name,
    ...change,
    labels: {
      'node.kubernetes.io/instance-type': 'm7i.large',
      'eks.amazonaws.com/nodegroup': 'system',
      ...change.labels,
    },
  });
}
