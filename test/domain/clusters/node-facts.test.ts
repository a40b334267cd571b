import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  readBytes,
  readMilli,
  readNodeFacts,
  sumNodes,
  type KubernetesNode,
} from '../../../domain/clusters/node-facts.ts';
import { detectPlatform } from '../../../domain/clusters/platform.ts';

function makeNode(
  labels: Record<string, string>,
  allocatable: Record<string, string> = {},
  conditions = [{ type: 'Ready', status: 'True' }],
): KubernetesNode {
  return { metadata: { name: 'n', labels }, status: { allocatable, conditions } };
}

const A10G = {
  'node.kubernetes.io/instance-type': 'g5.xlarge',
  'topology.kubernetes.io/zone': 'eu-west-1a',
  'eks.amazonaws.com/nodegroup': 'gpu-1',
  'nvidia.com/gpu.present': 'true',
  'nvidia.com/gpu.product': 'NVIDIA-A10G',
  'nvidia.com/gpu.count': '1',
  'nvidia.com/gpu.memory': '23028',
  'nvidia.com/cuda.driver.major': '570',
  'nvidia.com/cuda.driver.minor': '133',
  'nvidia.com/cuda.driver.rev': '20',
  'nvidia.com/mig.strategy': 'none',
};

describe('facts of a node', () => {
  it('reads a GPU node of EKS as GPU feature discovery labels it', () => {
    expect(readNodeFacts(makeNode(A10G, { 'nvidia.com/gpu': '1', cpu: '3920m', memory: '15Gi' }))).toMatchObject({
      hardwareType: 'cuda',
      gpuModel: 'NVIDIA-A10G',
      gpuCount: 1,
      gpuMemoryMib: 23028,
      driverVersion: '570.133.20',
      mig: null,
      gaudi: null,
      nodeGroup: 'gpu-1',
      zone: 'eu-west-1a',
      cpuMilli: 3920,
      memoryBytes: 15 * 2 ** 30,
      isReady: true,
      isSchedulable: true,
    });
  });

  it('tells MIG slices by profile', () => {
    const labels = { ...A10G, 'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB', 'nvidia.com/mig.strategy': 'mixed' };
    const facts = readNodeFacts(makeNode(labels, { 'nvidia.com/gpu': '0', 'nvidia.com/mig-1g.10gb': '7' }));
    expect(facts.mig).toEqual({ strategy: 'mixed', profiles: [{ profile: '1g.10gb', count: 7 }] });
    expect(facts).toMatchObject({ hardwareType: 'cuda', gpuCount: 1 });
  });

  it('tells Gaudi devices', () => {
    const facts = readNodeFacts(
      makeNode({ 'node.kubernetes.io/instance-type': 'dl1.24xlarge' }, { 'habana.ai/gaudi': '8' }),
    );
    expect(facts).toMatchObject({ hardwareType: 'hpu', gpuCount: 8, gaudi: { devices: 8, model: null } });
  });

  it.each([
    [
      'a GPU machine whose plugin is not there yet',
      makeNode({ 'node.kubernetes.io/instance-type': 'p5.48xlarge' }),
      'cuda',
    ],
    [
      'a GPU that its plugin does not offer',
      makeNode({ 'nvidia.com/gpu.present': 'true' }, { 'nvidia.com/gpu': '0' }),
      'cuda',
    ],
    [
      'a PCI device of NVIDIA without a driver',
      makeNode({ 'feature.node.kubernetes.io/pci-0302_10de.present': 'true' }),
      'cuda',
    ],
    ['a Gaudi whose plugin is not there yet', makeNode({ 'node.kubernetes.io/instance-type': 'dl1.24xlarge' }), 'hpu'],
    ['a machine on which nobody looked', makeNode({ 'kubernetes.io/arch': 'amd64' }), 'cpu'],
  ])('does not say 0 of %s', (_name, node, hardwareType) => {
    expect(readNodeFacts(node)).toMatchObject({ hardwareType, gpuCount: null });
  });

  it('says 0 where somebody looked', () => {
    expect(readNodeFacts(makeNode({ 'node.kubernetes.io/instance-type': 'm7g.large' })).gpuCount).toBe(0);
    expect(readNodeFacts(makeNode({ 'feature.node.kubernetes.io/cpu-model.id': '1' })).gpuCount).toBe(0);
  });

  it('tells pressure, taints, cordons and why it is not ready', () => {
    const facts = readNodeFacts({
      metadata: { name: 'sick' },
      spec: { unschedulable: true, taints: [{ key: 'nvidia.com/gpu', effect: 'NoSchedule' }] },
      status: {
        conditions: [
          { type: 'DiskPressure', status: 'True' },
          { type: 'MemoryPressure', status: 'Unknown' },
          { type: 'Ready', status: 'Unknown', message: 'Kubelet stopped posting node status.' },
        ],
      },
    });
    expect(facts).toMatchObject({
      isReady: false,
      notReadyReason: 'Kubelet stopped posting node status.',
      isSchedulable: false,
      pressures: ['DiskPressure'],
      taints: [{ key: 'nvidia.com/gpu', value: null, effect: 'NoSchedule' }],
    });
  });

  it('takes whatever labels and quantities say without failing, and never makes up a count', () => {
    const text = fc.string({ maxLength: 12 });
    const key = fc.constantFrom(
      'nvidia.com/gpu',
      'nvidia.com/gpu.count',
      'nvidia.com/gpu.memory',
      'habana.ai/gaudi',
      'cpu',
      'memory',
    );
    fc.assert(
      fc.property(fc.dictionary(key, text), fc.dictionary(key, text), (labels, allocatable) => {
        const facts = readNodeFacts(makeNode(labels, allocatable));
        if (facts.hardwareType !== 'cpu') expect(facts.gpuCount === null || facts.gpuCount >= 0).toBe(true);
        if (!Object.values({ ...labels, ...allocatable }).some((each) => /^\d+$/.test(each)))
          expect(facts.gpuCount).toBeNull();
      }),
    );
  });

  it('adds up what is known and tells of how many it is not', () => {
    const known = readNodeFacts(makeNode(A10G));
    const unknown = readNodeFacts(makeNode({ 'node.kubernetes.io/instance-type': 'g5.xlarge' }));
    const cpu = readNodeFacts(makeNode({ 'node.kubernetes.io/instance-type': 'm7i.large' }));
    expect(sumNodes([known, known, unknown, cpu])).toEqual({
      total: 4,
      ready: 4,
      withUnknownGpuCount: 1,
      accelerators: [
        { hardwareType: 'cuda', gpuModel: 'NVIDIA-A10G', nodes: 2, gpus: 2 },
        { hardwareType: 'cuda', gpuModel: null, nodes: 1, gpus: 0 },
      ],
    });
  });
});

describe('quantities', () => {
  it.each([
    ['3920m', 3920],
    ['4', 4000],
    ['1.5', 1500],
    ['', null],
    ['many', null],
  ])('%s of a CPU', (text, milli) => expect(readMilli(text)).toBe(milli));
  it.each([
    ['16106127360', 16_106_127_360],
    ['15728640Ki', 15_728_640 * 1024],
    ['128M', 128_000_000],
    ['1.5Gi', 1.5 * 2 ** 30],
    ['3 apples', null],
    ['5Xi', null],
  ])('%s of memory', (text, bytes) => expect(readBytes(text)).toBe(bytes));
});

describe('whose Kubernetes it is', () => {
  const signs = { apiGroups: ['apps'], nodes: [] };
  it.each([
    ['v1.34.1-eks-3025e55', {}, { platform: 'eks', platformVersion: 'eks-3025e55', kubernetesVersion: '1.34.1' }],
    ['v1.34.1', { nodes: [makeNode({ 'kubernetes.azure.com/agentpool': 'gpu1' })] }, { platform: 'aks' }],
    ['v1.32.4+k3s1', {}, { platform: 'k3s', platformVersion: 'v1.32.4+k3s1', kubernetesVersion: '1.32.4' }],
    [
      'v1.32.4',
      {
        apiGroups: ['config.openshift.io'],
        nodes: [makeNode({ 'kubernetes.azure.com/x': '' })],
        openshiftVersion: '4.19.3',
      },
      { platform: 'openshift', platformVersion: '4.19.3' },
    ],
    ['v1.34.0', {}, { platform: 'generic', platformVersion: null }],
    ['unknown', {}, { platform: 'generic', kubernetesVersion: null }],
  ])('%s', (gitVersion, more, expected) => {
    expect(detectPlatform({ gitVersion, ...signs, ...more })).toMatchObject(expected);
  });
});
