import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startSimulatedClouds, type SimulatedClouds } from '../../../sandbox/pulumi/clouds.ts';
import { UNKNOWN } from '../../../sandbox/pulumi/properties.ts';
import { connectCloud, PartialError, type CloudClient } from '../../support/cloud-client.ts';

const VPC = 'aws:ec2/vpc:Vpc';
const SUBNET = 'aws:ec2/subnet:Subnet';
const ROLE = 'aws:iam/role:Role';
const ATTACHMENT = 'aws:iam/rolePolicyAttachment:RolePolicyAttachment';
const CLUSTER = 'aws:eks/cluster:Cluster';
const NODE_GROUP = 'aws:eks/nodeGroup:NodeGroup';
const TRUST = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { Service: 'eks.amazonaws.com' } }],
};

let clouds: SimulatedClouds;
let aws: CloudClient;

beforeEach(async () => {
  clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
  aws = connectCloud(clouds.ports.aws);
  await aws.configure({ region: 'eu-central-1' });
});

afterEach(() => {
  aws.close();
  clouds.close();
});

async function makeNetwork() {
  const vpc = await aws.make(VPC, 'net', { cidrBlock: '10.0.0.0/16' });
  const subnets = [];
  for (const [index, zone] of ['a', 'b'].entries()) {
    subnets.push(
      await aws.make(SUBNET, `subnet-${zone}`, {
        vpcId: vpc.id,
        cidrBlock: `10.0.${index}.0/24`,
        availabilityZone: `eu-central-1${zone}`,
      }),
    );
  }
  return { vpc, subnetIds: subnets.map(({ id }) => id) };
}

async function makeCluster(changes: Record<string, unknown> = {}) {
  const { vpc, subnetIds } = await makeNetwork();
  const role = await aws.make(ROLE, 'role', { assumeRolePolicy: JSON.stringify(TRUST) });
  const roleArn = role.properties.arn;
  const cluster = await aws.make(CLUSTER, 'gpu', {
    name: 'gpu',
    roleArn,
    version: '1.33',
    vpcConfig: { subnetIds },
    ...changes,
  });
  return { vpc, subnetIds, role, roleArn, cluster };
}

describe('Check', () => {
  it('names every input that is unknown, missing or of a wrong kind', async () => {
    const { failures } = await aws.check(NODE_GROUP, 'ng', {
      clusterName: 3,
      subnetIds: 'subnet-1',
      scalingConfig: { minSize: '1', desired: 2 },
      label: {},
    });
    expect(Object.fromEntries(failures.map(({ property, reason }) => [property, reason]))).toEqual({
      clusterName: "'clusterName' must be a string, got a number",
      nodeRoleArn: "missing required property 'nodeRoleArn'",
      subnetIds: "'subnetIds' must be a list, got a string",
      'scalingConfig.minSize': "'scalingConfig.minSize' must be a number, got a string",
      'scalingConfig.desiredSize': "missing required property 'scalingConfig.desiredSize'",
      'scalingConfig.maxSize': "missing required property 'scalingConfig.maxSize'",
      'scalingConfig.desired': "unknown property 'scalingConfig.desired'",
      label: "unknown property 'label'; did you mean 'labels'?",
    });
  });

  it('lets what a preview does not know yet pass for any kind', async () => {
    const inputs = {
      clusterName: UNKNOWN,
      nodeRoleArn: UNKNOWN,
      subnetIds: UNKNOWN,
      scalingConfig: { minSize: UNKNOWN, maxSize: 1, desiredSize: 1 },
    };
    expect((await aws.check(NODE_GROUP, 'ng', inputs)).failures).toEqual([]);
  });

  it('refuses a type that is not in the table and says what to do', async () => {
    await expect(aws.check('aws:rds/instance:Instance', 'db', {})).rejects.toThrow(
      /does not know the resource type aws:rds\/instance:Instance: .*simulated-types/,
    );
  });

  it('chooses the same name for the same seed, and keeps it', async () => {
    const first = await aws.check(ROLE, 'role', { assumeRolePolicy: '{}' });
    const second = await aws.check(ROLE, 'role', { assumeRolePolicy: '{}' });
    expect(first.inputs.name).toMatch(/^role-[0-9a-f]{7}$/);
    expect(second.inputs.name).toBe(first.inputs.name);
    const kept = await aws.check(ROLE, 'role', { assumeRolePolicy: '{}' }, { ...first.inputs, name: 'role-0000001' });
    expect(kept.inputs.name).toBe('role-0000001');
  });
});

describe('a new resource', () => {
  it('has in a preview its inputs, what the region says, and unknowns for the rest', async () => {
    const { inputs } = await aws.check(CLUSTER, 'gpu', {
      roleArn: UNKNOWN,
      vpcConfig: { subnetIds: [UNKNOWN] },
      tags: { owner: 'me' },
    });
    expect(await aws.preview(CLUSTER, 'gpu', inputs)).toMatchObject({
      name: inputs.name,
      region: 'eu-central-1',
      tagsAll: { owner: 'me' },
      arn: UNKNOWN,
      endpoint: UNKNOWN,
      certificateAuthority: UNKNOWN,
      status: UNKNOWN,
    });
    expect(clouds.resources()).toEqual([]);
  });

  it('tells what the real one tells: ARN, endpoint, certificate and issuer of a cluster', async () => {
    const { cluster } = await makeCluster();
    expect(cluster.id).toBe('gpu');
    expect(cluster.properties).toMatchObject({
      arn: 'arn:aws:eks:eu-central-1:123456789012:cluster/gpu',
      endpoint: expect.stringMatching(/^https:\/\/[0-9A-F]{32}\.gr7\.eu-central-1\.eks\.amazonaws\.com$/),
      status: 'ACTIVE',
      version: '1.33',
      identities: [
        { oidcs: [{ issuer: expect.stringMatching(/^https:\/\/oidc\.eks\.eu-central-1\.amazonaws\.com\/id\//) }] },
      ],
    });
    const { data } = cluster.properties.certificateAuthority as { data: string };
    expect(Buffer.from(data, 'base64').toString()).toMatch(/^-----BEGIN CERTIFICATE-----/);
  });
});

describe('refusals of AWS', () => {
  it.each([
    ['a VPC that is no CIDR', VPC, { cidrBlock: '10.0.0/8' }, 'InvalidParameterValue'],
    ['a VPC that is too large', VPC, { cidrBlock: '10.0.0.0/8' }, 'InvalidVpc.Range'],
    ['a subnet of no VPC', SUBNET, { vpcId: 'vpc-1', cidrBlock: '10.0.0.0/24' }, 'InvalidVpcID.NotFound'],
    ['a role without a policy in JSON', ROLE, { assumeRolePolicy: 'everybody' }, 'MalformedPolicyDocument'],
    [
      'an attachment to no role',
      ATTACHMENT,
      { role: 'nobody', policyArn: 'arn:aws:iam::aws:policy/AmazonEKSClusterPolicy' },
      'NoSuchEntity',
    ],
    ['a bucket name that is taken', 'aws:s3/bucket:Bucket', { bucket: 'taken-by-others' }, 'BucketAlreadyExists'],
  ])('%s', async (_case, type, inputs, code) => {
    await expect(aws.make(type, 'x', inputs)).rejects.toThrow(`api error ${code}: `);
    expect(clouds.resources()).toEqual([]);
  });

  it('a subnet outside of its VPC, and one that overlaps another', async () => {
    const { vpc } = await makeNetwork();
    await expect(aws.make(SUBNET, 'x', { vpcId: vpc.id, cidrBlock: '10.1.0.0/24' })).rejects.toThrow(
      "InvalidSubnet.Range: The CIDR '10.1.0.0/24' is invalid.",
    );
    await expect(aws.make(SUBNET, 'x', { vpcId: vpc.id, cidrBlock: '10.0.0.128/25' })).rejects.toThrow(
      "InvalidSubnet.Conflict: The CIDR '10.0.0.128/25' conflicts with another subnet",
    );
  });

  it('a sixth VPC in a region', async () => {
    for (let index = 0; index < 5; index++) await aws.make(VPC, `v${index}`, { cidrBlock: '10.0.0.0/16' });
    await expect(aws.make(VPC, 'v5', { cidrBlock: '10.0.0.0/16' })).rejects.toThrow('VpcLimitExceeded');
  });

  it('deletion of what others stand on', async () => {
    const { vpc, subnetIds, role } = await makeCluster();
    await aws.make(ATTACHMENT, 'att', {
      role: role.inputs.name,
      policyArn: 'arn:aws:iam::aws:policy/AmazonEKSClusterPolicy',
    });
    const group = await makeGroup({ subnetIds, roleArn: role.properties.arn });
    await expect(aws.delete(VPC, vpc.id)).rejects.toThrow('DependencyViolation');
    await expect(aws.delete(SUBNET, subnetIds[0]!)).rejects.toThrow('DependencyViolation');
    await expect(aws.delete(CLUSTER, 'gpu')).rejects.toThrow('Cluster has nodegroups attached');
    await expect(aws.delete(ROLE, role.id)).rejects.toThrow('DeleteConflict');
    await aws.delete(NODE_GROUP, group.id);
    await aws.delete(CLUSTER, 'gpu');
    await aws.delete(SUBNET, subnetIds[0]!);
  });

  it.each([
    [
      'a GPU type that the region lacks',
      { instanceTypes: ['p5.48xlarge'] },
      'Instance type p5.48xlarge is not supported in eu-central-1',
    ],
    [
      'a type that does not exist',
      { instanceTypes: ['g99.huge'] },
      'The following supplied instance types do not exist: [g99.huge]',
    ],
    [
      'nodes newer than their cluster',
      { version: '1.34' },
      'Nodegroup Kubernetes version 1.34 is not compatible with cluster version 1.33',
    ],
    [
      'a desired size above the largest',
      { scalingConfig: { minSize: 0, maxSize: 1, desiredSize: 2 } },
      "desired capacity 2 can't be greater than max size 1",
    ],
    ['an image that is none', { amiType: 'UBUNTU' }, 'UBUNTU is not a valid AMI type'],
  ])('a node group with %s', async (_case, changes, message) => {
    const { subnetIds, roleArn } = await makeCluster();
    await expect(makeGroup({ subnetIds, roleArn, ...changes })).rejects.toThrow(message);
  });

  it('a version that EKS does not have, one minor skipped, and a name taken', async () => {
    const { cluster, subnetIds, roleArn } = await makeCluster();
    const ask = { roleArn, vpcConfig: { subnetIds } };
    await expect(aws.make(CLUSTER, 'other', { ...ask, version: '1.12' })).rejects.toThrow(
      'unsupported Kubernetes version 1.12',
    );
    await expect(aws.make(CLUSTER, 'other', { ...ask, name: 'gpu' })).rejects.toThrow(
      'ResourceInUseException: Cluster already exists with name: gpu',
    );
    await expect(
      aws.update(CLUSTER, cluster.id, cluster.properties, { ...cluster.inputs, version: '1.35' }),
    ).rejects.toThrow('Unsupported Kubernetes minor version update from 1.33 to 1.35');
  });
});

async function makeGroup({ subnetIds, roleArn, ...changes }: Record<string, unknown>) {
  return aws.make(NODE_GROUP, 'ng', {
    nodeGroupName: 'ng',
    clusterName: 'gpu',
    nodeRoleArn: roleArn,
    subnetIds,
    scalingConfig: { minSize: 0, maxSize: 2, desiredSize: 1 },
    instanceTypes: ['g5.xlarge'],
    amiType: 'AL2023_x86_64_NVIDIA',
    ...changes,
  });
}

describe('changes', () => {
  it('say by path what differs, and which of it makes a new resource', async () => {
    const { subnetIds, roleArn } = await makeCluster();
    const group = await makeGroup({ subnetIds, roleArn });
    const news = {
      ...group.inputs,
      scalingConfig: { minSize: 0, maxSize: 3, desiredSize: 1 },
      labels: { pool: 'gpu' },
    };
    expect(await aws.diff(NODE_GROUP, group.inputs, group.inputs)).toMatchObject({ changed: [] });
    expect(await aws.diff(NODE_GROUP, group.inputs, news)).toEqual({
      changed: ['labels', 'scalingConfig.maxSize'],
      replaces: [],
      isDeletedFirst: false,
    });
    const replaced = await aws.diff(NODE_GROUP, group.inputs, { ...news, instanceTypes: ['g6.xlarge'] });
    // Named by hand, so that two cannot be there at once.
    expect(replaced).toMatchObject({ replaces: ['instanceTypes'], isDeletedFirst: true });
  });

  it('by an outside hand are in what is read, inputs too', async () => {
    const { subnetIds, roleArn } = await makeCluster();
    const group = await makeGroup({ subnetIds, roleArn });
    expect(
      clouds.drift({ type: 'NodeGroup', name: 'ng', changes: { 'scalingConfig.desiredSize': 2, 'tags.by': 'hand' } }),
    ).toBe(1);
    const read = await aws.read(NODE_GROUP, group.id, group.inputs, group.properties);
    expect(read?.properties.tagsAll).toEqual({ by: 'hand' });
    expect(read?.inputs).toEqual({
      ...group.inputs,
      scalingConfig: { minSize: 0, maxSize: 2, desiredSize: 2 },
      tags: { by: 'hand' },
    });
    expect(clouds.drift({ type: 'NodeGroup', name: 'ng', isDeleted: true })).toBe(1);
    expect(await aws.read(NODE_GROUP, group.id, group.inputs, group.properties)).toBeNull();
    expect(clouds.drift({ name: 'ng', isDeleted: true })).toBe(0);
  });

  it('of a cluster in another region are not seen in this one', async () => {
    await makeCluster();
    const other = connectCloud(clouds.ports.aws);
    await other.configure({ region: 'us-east-1' });
    expect(await other.read(CLUSTER, 'gpu')).toBeNull();
    expect(await aws.read(CLUSTER, 'gpu')).not.toBeNull();
    other.close();
  });
});

describe('ordered faults', () => {
  it.each([
    ['throttled', 'ThrottlingException'],
    ['quota_exceeded', 'ResourceLimitExceededException'],
    ['access_denied', 'AccessDeniedException'],
    ['conflict', 'ResourceInUseException'],
    ['no_capacity', 'InsufficientInstanceCapacity'],
  ] as const)('%s refuses once and makes nothing', async (kind, code) => {
    const { subnetIds, roleArn } = await makeCluster();
    clouds.fault({ kind, type: 'NodeGroup', times: 1 });
    await expect(makeGroup({ subnetIds, roleArn })).rejects.toThrow(code);
    expect(clouds.resources('NodeGroup')).toEqual([]);
    await makeGroup({ subnetIds, roleArn });
  });

  it.each([
    ['degraded', 'DEGRADED', 'AsgInstanceLaunchFailures'],
    ['create_failed', 'CREATE_FAILED', 'NodeCreationFailure'],
  ] as const)('%s leaves a node group behind that the engine keeps as unfinished', async (kind, state, issue) => {
    const { subnetIds, roleArn } = await makeCluster();
    clouds.fault({ kind, type: 'NodeGroup', times: 1 });
    const error = await makeGroup({ subnetIds, roleArn }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(PartialError);
    expect(error).toMatchObject({ id: 'gpu:ng', properties: { status: state } });
    expect((error as Error).message).toContain(`unexpected state '${state}', wanted target 'ACTIVE'`);
    expect((error as Error).message).toContain(issue);
    const [group] = clouds.resources('NodeGroup');
    // Running up again does not make it whole.
    await expect(
      aws.update(NODE_GROUP, 'gpu:ng', group!.properties, { ...(await aws.read(NODE_GROUP, 'gpu:ng'))!.inputs }),
    ).rejects.toThrow(`unexpected state '${state}'`);
    await aws.delete(NODE_GROUP, 'gpu:ng');
  });

  it('a lost answer leaves a resource that nobody was told of', async () => {
    clouds.fault({ kind: 'lost_answer', type: 'Vpc' });
    await expect(aws.make(VPC, 'net', { cidrBlock: '10.0.0.0/16', tags: { owner: 'me' } })).rejects.toThrow(
      'connection was lost',
    );
    const found = await aws.invoke('aws:resourcegroupstaggingapi/getResources:getResources', {
      tagFilters: [{ key: 'owner', values: ['me'] }],
    });
    expect(found.resourceTagMappingLists).toMatchObject([{ resourceArn: expect.stringContaining(':vpc/vpc-') }]);
  });

  it('one that hangs ends on Cancel, the resource stays, and the server goes on', async () => {
    clouds.fault({ kind: 'hangs', type: 'NatGateway', times: 1 });
    const { vpc, subnetIds } = await makeNetwork();
    await aws.make('aws:ec2/internetGateway:InternetGateway', 'igw', { vpcId: vpc.id });
    const { id: allocationId } = await aws.make('aws:ec2/eip:Eip', 'ip', {});
    const making = aws.make('aws:ec2/natGateway:NatGateway', 'nat', { subnetId: subnetIds[0], allocationId });
    const outcome = expect(making).rejects.toThrow('canceled while nat');
    await expect.poll(() => clouds.resources('NatGateway')).toHaveLength(1);
    await aws.cancel();
    await outcome;
    await aws.configure({ region: 'eu-central-1' });
    expect(await aws.read(VPC, vpc.id)).not.toBeNull();
  });
});

describe('functions', () => {
  it('tell zones, the account and images of the region', async () => {
    expect(
      await aws.invoke('aws:index/getAvailabilityZones:getAvailabilityZones', { state: 'available' }),
    ).toMatchObject({ names: ['eu-central-1a', 'eu-central-1b', 'eu-central-1c'] });
    expect(await aws.invoke('aws:index/getCallerIdentity:getCallerIdentity', {})).toMatchObject({
      accountId: '123456789012',
    });
    const name = '/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/nvidia/recommended/image_id';
    expect(await aws.invoke('aws:ssm/getParameter:getParameter', { name })).toMatchObject({
      value: expect.stringMatching(/^ami-[0-9a-f]{17}$/),
    });
    await expect(aws.invoke('aws:ssm/getParameter:getParameter', { name: '/mine' })).rejects.toThrow(
      "couldn't find resource",
    );
  });
});
