import { beforeEach, describe, expect, it } from 'vitest';
import { EksGpuCluster, type EksGpuClusterArgs } from '../../components/eks-gpu-cluster.ts';
import { newestKubernetes } from '../../domain/kubernetes-version.ts';
import { isSecretOutput, mockEngine, valueOf, type MockEngine } from '../support/mock-engine.ts';

const TAGS = { owner: 'platform', deployment: 'sandbox', costCentre: 'cc-1' };
const CLUSTER = 'aws:eks/cluster:Cluster';
const NODE_GROUP = 'aws:eks/nodeGroup:NodeGroup';
const GPU = { instanceType: 'g5.xlarge', maxSize: 4 };

let engine: MockEngine;
beforeEach(async () => {
  engine = await mockEngine();
});

async function make(args: Partial<EksGpuClusterArgs> = {}): Promise<EksGpuCluster> {
  const cluster = new EksGpuCluster('train', { tags: TAGS, region: 'eu-west-1', ...args });
  await engine.settle();
  return cluster;
}

describe('an EKS cluster by default', () => {
  it('has a private endpoint, encrypted Secrets, kept logs and access by IAM only', async () => {
    await make();
    expect(engine.find(CLUSTER)).toMatchObject({
      name: 'train',
      version: newestKubernetes('eks'),
      vpcConfig: { endpointPrivateAccess: true, endpointPublicAccess: false },
      accessConfig: { authenticationMode: 'API' },
      encryptionConfig: {
        provider: { keyArn: 'arn:aws:kms:eu-west-1:123456789012:key/made' },
        resources: ['secrets'],
      },
      enabledClusterLogTypes: ['api', 'audit', 'authenticator'],
      upgradePolicy: { supportType: 'STANDARD' },
    });
    expect(engine.find(CLUSTER).vpcConfig).not.toHaveProperty('publicAccessCidrs');
    expect(engine.find('aws:cloudwatch/logGroup:LogGroup')).toMatchObject({
      name: '/aws/eks/train/cluster',
      retentionInDays: 30,
    });
  });

  it('has three private subnets of its network, apart from each other, and one gateway out', async () => {
    await make();
    const subnets = engine
      .list('aws:ec2/subnet:Subnet')
      .map(({ inputs }) => [inputs.cidrBlock, inputs.availabilityZone]);
    expect(subnets.toSorted((a, b) => (String(a) < String(b) ? -1 : 1))).toEqual([
      ['10.60.0.0/18', 'eu-west-1a'],
      ['10.60.128.0/18', 'eu-west-1c'],
      ['10.60.192.0/22', 'eu-west-1a'],
      ['10.60.64.0/18', 'eu-west-1b'],
    ]);
    expect(engine.list('aws:ec2/natGateway:NatGateway')).toHaveLength(1);
    expect(engine.find(CLUSTER).vpcConfig.subnetIds).toEqual([
      'id-of-train-private-1',
      'id-of-train-private-2',
      'id-of-train-private-3',
    ]);
    expect(engine.find('aws:ec2/vpcEndpoint:VpcEndpoint').vpcEndpointType).toBe('Gateway');
  });

  it('has two system nodes, no GPU nodes, and the add-ons that nodes need, the disk driver by pod identity', async () => {
    await make();
    expect(engine.find(NODE_GROUP)).toMatchObject({
      instanceTypes: ['m7i.large'],
      amiType: 'AL2023_x86_64_STANDARD',
      scalingConfig: { minSize: 2, desiredSize: 2, maxSize: 3 },
    });
    const addOns = engine.list('aws:eks/addon:Addon').map(({ inputs }) => inputs.addonName);
    expect(addOns.toSorted((a, b) => (String(a) < String(b) ? -1 : 1))).toEqual([
      'aws-ebs-csi-driver',
      'coredns',
      'eks-pod-identity-agent',
      'kube-proxy',
      'vpc-cni',
    ]);
    expect(engine.find('aws:eks/addon:Addon', 'train-aws-ebs-csi-driver').podIdentityAssociations).toEqual([
      { roleArn: 'arn:aws:iam::123456789012:role/train-eu-west-1-ebs-csi', serviceAccount: 'ebs-csi-controller-sa' },
    ]);
    expect(engine.list('aws:iam/openIdConnectProvider:OpenIdConnectProvider')).toEqual([]);
    expect(engine.list('aws:eks/accessEntry:AccessEntry')).toEqual([]);
  });

  it('encrypts the disks of nodes, keeps node credentials from Pods, and tags nodes and disks', async () => {
    await make();
    const template = engine.find('aws:ec2/launchTemplate:LaunchTemplate');
    expect(template.blockDeviceMappings).toEqual([
      {
        deviceName: '/dev/xvda',
        ebs: { volumeType: 'gp3', volumeSize: 50, encrypted: 'true', deleteOnTermination: 'true' },
      },
    ]);
    expect(template.metadataOptions).toMatchObject({ httpTokens: 'required', httpPutResponseHopLimit: 1 });
    for (const { tags } of template.tagSpecifications)
      expect(tags).toMatchObject({
        'muster-owner': 'platform',
        'muster-deployment': 'sandbox',
        'muster-cost-centre': 'cc-1',
      });
  });

  it('gives a secret kubeconfig that names a plugin and holds no credential', async () => {
    const cluster = await make();
    expect(await isSecretOutput(cluster.kubeconfig)).toBe(true);
    const kubeconfig = JSON.parse(await valueOf(cluster.kubeconfig));
    expect(kubeconfig.clusters[0].cluster).toEqual({
      'certificate-authority-data': 'Q0E=',
      server: 'https://cluster.example',
    });
    expect(Object.keys(kubeconfig.users[0].user)).toEqual(['exec']);
    expect(kubeconfig.users[0].user.exec.args).toContain('eu-west-1');
  });

  it('is the same each time', async () => {
    await make({ gpuNodeGroups: [GPU] });
    const first = engine.registered.map(({ type, name, inputs }) => JSON.stringify([type, name, inputs])).sort();
    engine = await mockEngine();
    await make({ gpuNodeGroups: [GPU] });
    expect(engine.registered.map(({ type, name, inputs }) => JSON.stringify([type, name, inputs])).sort()).toEqual(
      first,
    );
  });
});

describe('an option of an EKS cluster', () => {
  it('publicAccessCidrs opens the endpoint to them and no others', async () => {
    await make({ publicAccessCidrs: ['203.0.113.0/24'] });
    expect(engine.find(CLUSTER).vpcConfig).toMatchObject({
      endpointPrivateAccess: true,
      endpointPublicAccess: true,
      publicAccessCidrs: ['203.0.113.0/24'],
    });
  });

  it('existingVpc makes no network', async () => {
    await make({ existingVpc: { vpcId: 'vpc-1', subnetIds: ['subnet-1', 'subnet-2'] } });
    expect(engine.registered.filter(({ type }) => /ec2\/(vpc|subnet|natGateway)/.test(type))).toEqual([]);
    expect(engine.find(CLUSTER).vpcConfig.subnetIds).toEqual(['subnet-1', 'subnet-2']);
    expect(engine.find(NODE_GROUP).subnetIds).toEqual(['subnet-1', 'subnet-2']);
  });

  it('vpcCidr and zoneCount cut the network', async () => {
    await make({ vpcCidr: '10.9.16.0/20', zoneCount: 2, nat: 'none' });
    const cidrs = engine.list('aws:ec2/subnet:Subnet').map(({ inputs }) => inputs.cidrBlock);
    expect(cidrs.toSorted((a, b) => (String(a) < String(b) ? -1 : 1))).toEqual(['10.9.16.0/22', '10.9.20.0/22']);
  });

  it('nat: per_zone makes a gateway for each zone, each with its own route', async () => {
    await make({ nat: 'per_zone' });
    expect(engine.list('aws:ec2/natGateway:NatGateway')).toHaveLength(3);
    const gateways = engine.list('aws:ec2/route:Route').flatMap(({ inputs }) => inputs.natGatewayId ?? []);
    expect(new Set(gateways).size).toBe(3);
  });

  it('nat: none makes no way to the internet, but endpoints of AWS that only the network reaches', async () => {
    await make({ nat: 'none' });
    expect(engine.registered.filter(({ type }) => /natGateway|internetGateway|eip/i.test(type))).toEqual([]);
    const services = engine
      .list('aws:ec2/vpcEndpoint:VpcEndpoint')
      .map(({ inputs }) => inputs.serviceName.split('.').slice(3).join('.'));
    expect(services.toSorted((a, b) => (String(a) < String(b) ? -1 : 1))).toEqual([
      'ec2',
      'ecr.api',
      'ecr.dkr',
      'eks',
      'eks-auth',
      'logs',
      's3',
      'sts',
    ]);
    expect(engine.find('aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule')).toMatchObject({
      cidrIpv4: '10.60.0.0/16',
      fromPort: 443,
    });
  });

  it('gpuNodeGroups: a group starts at zero nodes, tainted and labelled, with the NVIDIA image', async () => {
    await make({ gpuNodeGroups: [GPU] });
    const group = engine.find(NODE_GROUP, 'train-gpu-1');
    expect(group).toMatchObject({
      instanceTypes: ['g5.xlarge'],
      amiType: 'AL2023_x86_64_NVIDIA',
      capacityType: 'ON_DEMAND',
      scalingConfig: { minSize: 0, desiredSize: 0, maxSize: 4 },
      labels: { 'muster-node': 'gpu' },
      taints: [{ key: 'nvidia.com/gpu', value: 'present', effect: 'NO_SCHEDULE' }],
    });
    expect(group.nodeGroupName).toMatch(/^gpu-1-[0-9a-f]{6}$/);
  });

  it('gpuNodeGroups: spot, Bottlerocket, size, disk, version, labels and no taint', async () => {
    const group = {
      ...GPU,
      name: 'spot',
      capacityType: 'spot',
      image: 'bottlerocket',
      minSize: 1,
      desiredSize: 2,
    } as const;
    await make({
      gpuNodeGroups: [{ ...group, diskGib: 200, kubernetesVersion: '1.34', labels: { team: 'a' }, tainted: false }],
    });
    expect(engine.find(NODE_GROUP, 'train-spot')).toMatchObject({
      amiType: 'BOTTLEROCKET_x86_64_NVIDIA',
      capacityType: 'SPOT',
      scalingConfig: { minSize: 1, desiredSize: 2, maxSize: 4 },
      version: '1.34',
      labels: { team: 'a', 'muster-node': 'gpu' },
      taints: [],
      tags: { 'muster-owner': 'platform', 'muster-disk-gib': '200' },
    });
    expect(engine.find('aws:ec2/launchTemplate:LaunchTemplate', 'train-spot').blockDeviceMappings[0]).toMatchObject({
      deviceName: '/dev/xvdb',
      ebs: { volumeSize: 200 },
    });
  });

  it('what replaces a group gives it another name, so that both can be there at once; what does not, keeps it', async () => {
    const nameOf = async (more: object) => {
      engine = await mockEngine();
      await make({ gpuNodeGroups: [{ ...GPU, ...more }] });
      return engine.find(NODE_GROUP, 'train-gpu-1').nodeGroupName;
    };
    const name = await nameOf({});
    expect(await nameOf({ maxSize: 9, desiredSize: 1, diskGib: 200, labels: { a: 'b' } })).toBe(name);
    const others = [
      await nameOf({ instanceType: 'g6.xlarge' }),
      await nameOf({ capacityType: 'spot' }),
      await nameOf({ image: 'bottlerocket' }),
    ];
    expect(new Set([name, ...others]).size).toBe(4);
  });

  it('admins get an access entry and the policy of a cluster administrator', async () => {
    await make({ admins: ['arn:aws:iam::123456789012:role/platform'] });
    expect(engine.find('aws:eks/accessEntry:AccessEntry').principalArn).toBe('arn:aws:iam::123456789012:role/platform');
    expect(engine.find('aws:eks/accessPolicyAssociation:AccessPolicyAssociation')).toMatchObject({
      policyArn: 'arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy',
      accessScope: { type: 'cluster' },
    });
  });

  it('secretsKeyArn is used instead of a key made', async () => {
    await make({ secretsKeyArn: 'arn:aws:kms:eu-west-1:1:key/own' });
    expect(engine.list('aws:kms/key:Key')).toEqual([]);
    expect(engine.find(CLUSTER).encryptionConfig.provider.keyArn).toBe('arn:aws:kms:eu-west-1:1:key/own');
  });

  it('oidcProvider, logs, versions, service addresses and system nodes are as asked', async () => {
    await make({
      oidcProvider: true,
      logTypes: ['audit'],
      logRetentionDays: 7,
      kubernetesVersion: '1.34',
      extendedSupport: true,
      serviceCidr: '172.30.0.0/16',
      systemNodes: { instanceType: 'm7i.xlarge', size: 1, diskGib: 80 },
    });
    expect(engine.find('aws:iam/openIdConnectProvider:OpenIdConnectProvider').url).toBe('https://oidc.example/id');
    expect(engine.find(CLUSTER)).toMatchObject({
      enabledClusterLogTypes: ['audit'],
      version: '1.34',
      upgradePolicy: { supportType: 'EXTENDED' },
      kubernetesNetworkConfig: { serviceIpv4Cidr: '172.30.0.0/16' },
    });
    expect(engine.find('aws:cloudwatch/logGroup:LogGroup').retentionInDays).toBe(7);
    expect(engine.find(NODE_GROUP)).toMatchObject({
      instanceTypes: ['m7i.xlarge'],
      scalingConfig: { minSize: 1, maxSize: 2 },
    });
  });

  it('regions of other partitions have their own names of policies', async () => {
    await make({ region: 'us-gov-west-1' });
    const arns = engine.list('aws:iam/rolePolicyAttachment:RolePolicyAttachment').map(({ inputs }) => inputs.policyArn);
    expect(arns).toContain('arn:aws-us-gov:iam::aws:policy/AmazonEKSClusterPolicy');
  });
});
