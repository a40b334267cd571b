import { describe, expect, it } from 'vitest';
import { eksConfigSchema } from '../../../stacks/eks/config.ts';
import { problemsOf } from '../../support/config-problems.ts';

const MINIMAL = { region: 'eu-west-1' };
const GPU = { instanceType: 'g5.xlarge', maxSize: 2 };
const problems = (config: object) => problemsOf(eksConfigSchema, { ...MINIMAL, ...config });

describe('the configuration of the eks stack', () => {
  it('is a private cluster without GPU nodes when only the region is given', () => {
    expect(eksConfigSchema.parse(MINIMAL)).toMatchObject({
      kubernetesVersion: '1.35',
      publicAccessCidrs: [],
      nat: 'single',
      gpuNodeGroups: [],
      systemNodes: { instanceType: 'm7i.large', size: 2, diskGib: 50 },
    });
  });

  it('describes each field with its default or that there is none', () => {
    for (const [name, field] of Object.entries(eksConfigSchema.shape))
      expect(`${name}: ${(field as { description?: string }).description}`).toMatch(/default/i);
  });

  it('refuses networks that overlap, naming both', () => {
    expect(problems({ vpcCidr: '172.20.0.0/18' })).toEqual([
      'serviceCidr: 172.20.0.0/16 overlaps vpcCidr 172.20.0.0/18: addresses in both could not be told apart',
    ]);
    expect(problems({ connectedCidrs: ['192.168.0.0/16', '10.60.4.0/24'] })).toEqual([
      expect.stringMatching(/^connectedCidrs\.1: 10\.60\.4\.0\/24 overlaps vpcCidr/),
    ]);
  });

  it('does not compare the network it would make where another is used', () => {
    const existingVpc = { vpcId: 'vpc-0a', subnetIds: ['subnet-0a', 'subnet-0b'] };
    expect(problems({ existingVpc, connectedCidrs: ['10.60.4.0/24'] })).toEqual([]);
  });

  it('refuses an allow list that lets everybody in, and networks with host bits', () => {
    expect(problems({ publicAccessCidrs: ['0.0.0.0/0'] })).toEqual([
      expect.stringMatching(/publicAccessCidrs\.0: lets everybody in/),
    ]);
    expect(problems({ publicAccessCidrs: ['203.0.113.7/24'] })).toEqual([
      expect.stringMatching(/must be an IPv4 network/),
    ]);
  });

  it('refuses a GPU type that the region lacks, and one that nobody knows, unless told that the table is behind', () => {
    const lacks = { gpuNodeGroups: [{ ...GPU, instanceType: 'p4de.24xlarge' }] };
    expect(problems(lacks)).toEqual([
      expect.stringMatching(
        /gpuNodeGroups\.0\.instanceType: p4de.24xlarge \(A100 SXM4\) is not offered in eu-west-1; it is in us-east-1, us-west-2/,
      ),
    ]);
    expect(problems({ gpuNodeGroups: [{ ...GPU, instanceType: 'g5.xlrge' }] })).toEqual([
      expect.stringMatching(/near it: g5\.xlarge/),
    ]);
    expect(problems({ ...lacks, checkCatalogue: false })).toEqual([]);
  });

  it('refuses versions that AWS does not offer, and nodes too far from their control plane', () => {
    expect(problems({ kubernetesVersion: '1.21' })).toEqual([
      expect.stringMatching(/kubernetesVersion: eks did not offer Kubernetes 1\.21/),
    ]);
    const group = (kubernetesVersion: string) => ({ gpuNodeGroups: [{ ...GPU, kubernetesVersion }] });
    expect(problems({ kubernetesVersion: '1.34', ...group('1.35') })).toEqual([
      expect.stringMatching(/newer than the control plane/),
    ]);
    expect(problems(group('1.31'))).toEqual([expect.stringMatching(/more than 3 minors behind/)]);
    expect(problems(group('1.32'))).toEqual([]);
  });

  it('refuses sizes that contradict each other and names that are taken', () => {
    expect(problems({ gpuNodeGroups: [{ ...GPU, minSize: 3 }] })).toEqual([
      'gpuNodeGroups.0.minSize: is above maxSize 2',
    ]);
    expect(problems({ gpuNodeGroups: [{ ...GPU, desiredSize: 3 }] })).toEqual([
      expect.stringMatching(/3 is not between minSize 0 and maxSize 2/),
    ]);
    expect(problems({ gpuNodeGroups: [{ ...GPU, name: 'gpu-2' }, GPU] })).toEqual([
      'gpuNodeGroups.1.name: the name gpu-2 is taken',
    ]);
    expect(problems({ gpuNodeGroups: [{ ...GPU, name: 'system' }] })).toEqual([
      'gpuNodeGroups.0.name: the name system is taken',
    ]);
  });

  it('refuses what it does not know', () => {
    expect(problems({ regions: 'eu-west-1' })).toEqual([expect.stringMatching(/regions/)]);
  });
});
