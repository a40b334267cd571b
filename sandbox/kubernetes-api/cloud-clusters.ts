/**
 * The clusters that simulated AWS and Azure hold, as Kubernetes would show them: as many nodes as their groups want, with the labels that
 * the cloud and the GPU operator put on. Derived anew with each question, so a scaled group shows at once.
 */
import { createHash } from 'node:crypto';
import type { CloudResourceReport, SimulatedClouds } from '../pulumi/clouds.ts';
import { makeNode, type NodeOptions, type SimulatedNode } from './nodes.ts';
import { makeCluster, type ClusterFault, type SimulatedCluster } from './server.ts';

type Properties = CloudResourceReport['properties'];
type Clouds = Pick<SimulatedClouds, 'resources'>;

interface Accelerator {
  product: string;
  memoryMib: number;
  count: number;
  isGaudi?: true;
}

/** Of one machine of that type: https://aws.amazon.com/ec2/instance-types and https://learn.microsoft.com/azure/virtual-machines/sizes (GPU accelerated). */
const ACCELERATORS: readonly [pattern: RegExp, accelerator: Accelerator][] = [
  [/^g4dn\.(12xlarge)$/, { product: 'Tesla-T4', memoryMib: 15_360, count: 4 }],
  [/^g4dn\.|_T4_v3$/, { product: 'Tesla-T4', memoryMib: 15_360, count: 1 }],
  [/^g5\.(12xlarge|24xlarge)$/, { product: 'NVIDIA-A10G', memoryMib: 23_028, count: 4 }],
  [/^g5\.48xlarge$/, { product: 'NVIDIA-A10G', memoryMib: 23_028, count: 8 }],
  [/^g5\./, { product: 'NVIDIA-A10G', memoryMib: 23_028, count: 1 }],
  [/^g6e\.(12xlarge|24xlarge)$/, { product: 'NVIDIA-L40S', memoryMib: 46_068, count: 4 }],
  [/^g6e\.48xlarge$/, { product: 'NVIDIA-L40S', memoryMib: 46_068, count: 8 }],
  [/^g6e\./, { product: 'NVIDIA-L40S', memoryMib: 46_068, count: 1 }],
  [/^g6\.(12xlarge|24xlarge)$/, { product: 'NVIDIA-L4', memoryMib: 23_034, count: 4 }],
  [/^g6\.48xlarge$/, { product: 'NVIDIA-L4', memoryMib: 23_034, count: 8 }],
  [/^g6\./, { product: 'NVIDIA-L4', memoryMib: 23_034, count: 1 }],
  [/^p4d\.24xlarge$/, { product: 'NVIDIA-A100-SXM4-40GB', memoryMib: 40_960, count: 8 }],
  [/^p4de\.24xlarge$/, { product: 'NVIDIA-A100-SXM4-80GB', memoryMib: 81_920, count: 8 }],
  [/^p5\.48xlarge$|^Standard_ND96isr_H100_v5$/, { product: 'NVIDIA-H100-80GB-HBM3', memoryMib: 81_559, count: 8 }],
  [/^dl1\.24xlarge$/, { product: 'HL-205', memoryMib: 32_768, count: 8, isGaudi: true }],
  [/^Standard_NC24ads_A100_v4$/, { product: 'NVIDIA-A100-80GB-PCIe', memoryMib: 81_920, count: 1 }],
  [/^Standard_NC48ads_A100_v4$/, { product: 'NVIDIA-A100-80GB-PCIe', memoryMib: 81_920, count: 2 }],
  [/^Standard_NC96ads_A100_v4$/, { product: 'NVIDIA-A100-80GB-PCIe', memoryMib: 81_920, count: 4 }],
  [/^Standard_NC40ads_H100_v5$/, { product: 'NVIDIA-H100-NVL', memoryMib: 95_830, count: 1 }],
];

/** By the name in its address; undefined: no cloud has it. */
export function findCloudCluster(clouds: Clouds, name: string): SimulatedCluster | undefined {
  const eks = clouds
    .resources('aws:eks/cluster:Cluster')
    .find(({ properties }) => textOf(properties['endpoint']).endsWith(`/clusters/${name}`));
  if (eks) return asCluster(name, `v${textOf(eks.properties['version'])}.1-eks-3025e55`, eksNodes(clouds, eks));
  const aks = clouds
    .resources('azure-native:containerservice:ManagedCluster')
    .find(({ properties }) => properties['fqdn'] === name);
  if (!aks) return undefined;
  // A stopped one has no API server at all.
  if (recordOf(aks.properties['powerState'])['code'] === 'Stopped')
    return asCluster(name, 'v0.0.0', [], { kind: 'down' });
  return asCluster(name, `v${textOf(aks.properties['currentKubernetesVersion'])}`, aksNodes(clouds, aks));
}

function asCluster(
  name: string,
  gitVersion: string,
  nodes: SimulatedNode[],
  fault: ClusterFault | null = null,
): SimulatedCluster {
  const hash = createHash('sha256').update(name).digest('hex');
  const namespaceUid = hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5');
  return makeCluster({ gitVersion, namespaceUid, nodes, fault });
}

function eksNodes(clouds: Clouds, { id, scope }: CloudResourceReport): SimulatedNode[] {
  return clouds
    .resources('aws:eks/nodeGroup:NodeGroup')
    .filter((group) => group.scope === scope && group.properties['clusterName'] === id)
    .flatMap(({ properties }) => {
      const group = textOf(properties['nodeGroupName']);
      const type = textOf(listOf(properties['instanceTypes'])[0]);
      const { desiredSize } = recordOf(properties['scalingConfig']);
      return manyNodes(countOf(desiredSize), `ip-${group}`, type, {
        'topology.kubernetes.io/region': scope,
        'eks.amazonaws.com/nodegroup': group,
        'eks.amazonaws.com/capacityType': textOf(properties['capacityType']),
        ...labelsOf(properties['labels']),
      });
    });
}

function aksNodes(clouds: Clouds, { id, properties }: CloudResourceReport): SimulatedNode[] {
  const inside = listOf(properties['agentPoolProfiles']).map(recordOf);
  const beside = clouds
    .resources('azure-native:containerservice:AgentPool')
    .filter((pool) => pool.id.toLowerCase().startsWith(`${id.toLowerCase()}/agentpools/`))
    .map((pool): Properties => ({ ...pool.properties, name: pool.id.split('/').at(-1) }));
  return [...inside, ...beside]
    .filter((pool) => recordOf(pool['powerState'])['code'] !== 'Stopped')
    .flatMap((pool) => {
      const name = textOf(pool['name']);
      const type = textOf(pool['vmSize']);
      return manyNodes(countOf(pool['count']), `aks-${name}`, type, {
        'topology.kubernetes.io/region': textOf(properties['location']),
        'kubernetes.azure.com/agentpool': name,
        ...labelsOf(pool['nodeLabels']),
      });
    });
}

function manyNodes(count: number, name: string, type: string, labels: Record<string, string>): SimulatedNode[] {
  return Array.from({ length: count }, (_, index) =>
    makeNode({
      name: `${name}-${index}`,
      ...accelerated(type),
      labels: { 'node.kubernetes.io/instance-type': type, ...labels, ...accelerated(type).labels },
    }),
  );
}

function accelerated(type: string): Pick<NodeOptions, 'labels' | 'resources' | 'taints'> {
  const found = ACCELERATORS.find(([pattern]) => pattern.test(type))?.[1];
  if (!found) return {};
  const { product, memoryMib, count } = found;
  if (found.isGaudi) return { resources: { 'habana.ai/gaudi': String(count) } };
  return {
    taints: [{ key: 'nvidia.com/gpu', effect: 'NoSchedule' }],
    resources: { 'nvidia.com/gpu': String(count) },
    labels: {
      'nvidia.com/gpu.present': 'true',
      'nvidia.com/gpu.product': product,
      'nvidia.com/gpu.count': String(count),
      'nvidia.com/gpu.memory': String(memoryMib),
      'nvidia.com/cuda.driver-version.full': '570.133.20',
      'nvidia.com/mig.strategy': 'none',
    },
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function countOf(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function labelsOf(value: unknown): Record<string, string> {
  return Object.fromEntries(Object.entries(recordOf(value)).map(([key, text]) => [key, String(text)]));
}
