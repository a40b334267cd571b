import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findPendingRule, isCloudType, judgeReading } from '../../../domain/pending-creates/find-rule.ts';
import type { Answer, Inputs } from '../../../domain/pending-creates/rule.ts';
import { loadTable } from '../../../sandbox/pulumi/tables/table.ts';

const MARKS = { 'muster-stack': 'train', 'muster-deployment': 'dep' };
const CALLER = { accountId: '123456789012', arn: 'arn:aws-cn:iam::123456789012:user/ops' };
const CLIENT = { subscriptionId: 'sub-1' };
const GROUP = '/subscriptions/sub-1/resourceGroups/train';

function idsOf(type: string, inputs: Inputs, answer: Answer = {}): string[] | undefined {
  const rule = findPendingRule(type);
  if (!rule) throw new Error(`no rule for ${type}`);
  return rule.idsOf(inputs, answer);
}

describe('a pending create of a resource with a name', () => {
  it.each<[type: string, inputs: Inputs, answer: Answer, id: string]>([
    ['aws:eks/cluster:Cluster', { name: 'train' }, {}, 'train'],
    ['aws:eks/nodeGroup:NodeGroup', { clusterName: 'train', nodeGroupName: 'gpu-1' }, {}, 'train:gpu-1'],
    ['aws:iam/role:Role', { name: 'train-node' }, {}, 'train-node'],
    ['aws:iam/policy:Policy', { name: 'use', path: '/' }, CALLER, 'arn:aws-cn:iam::123456789012:policy/use'],
    [
      'aws:iam/openIdConnectProvider:OpenIdConnectProvider',
      { url: 'https://oidc.example/id/1' },
      CALLER,
      'arn:aws-cn:iam::123456789012:oidc-provider/oidc.example/id/1',
    ],
    ['aws:s3/bucketVersioning:BucketVersioning', { bucket: 'snaps' }, {}, 'snaps'],
    ['azure-native:resources:ResourceGroup', { resourceGroupName: 'train' }, CLIENT, GROUP],
    [
      'azure-native:containerservice:AgentPool',
      { resourceGroupName: 'train', resourceName: 'train', agentPoolName: 'gpu1' },
      CLIENT,
      `${GROUP}/providers/Microsoft.ContainerService/managedClusters/train/agentPools/gpu1`,
    ],
    [
      'azure-native:authorization:RoleAssignment',
      { scope: `${GROUP}/x`, roleAssignmentName: 'uuid' },
      {},
      `${GROUP}/x/providers/Microsoft.Authorization/roleAssignments/uuid`,
    ],
    [
      'gcp:compute/instance:Instance',
      { project: 'p', zone: 'europe-west4-a', name: 'train' },
      {},
      'projects/p/zones/europe-west4-a/instances/train',
    ],
    [
      'gcp:serviceaccount/account:Account',
      { project: 'p', accountId: 'train-standby' },
      {},
      'projects/p/serviceAccounts/train-standby@p.iam.gserviceaccount.com',
    ],
    ['kubernetes:core/v1:Namespace', { metadata: { name: 'muster' } }, {}, 'muster'],
    ['kubernetes:apps/v1:DaemonSet', { metadata: { name: 'agent', namespace: 'muster' } }, {}, 'muster/agent'],
    ['kubernetes:helm.sh/v3:Release', { name: 'gpu-operator', namespace: 'gpu' }, {}, 'gpu/gpu-operator'],
  ])('%s has the id that the name makes', (type, inputs, answer, id) => {
    expect(idsOf(type, inputs, answer)).toEqual([id]);
  });

  it('a route has the number of its destination, as the provider counts it', () => {
    const route = { routeTableId: 'rtb-1', destinationCidrBlock: '0.0.0.0/0' };
    expect(idsOf('aws:ec2/route:Route', route)).toEqual(['r-rtb-11080289494']);
  });

  it('has to be decided where the inputs lack the name: the cloud would have chosen one', () => {
    expect(idsOf('aws:iam/role:Role', {})).toBeUndefined();
    expect(idsOf('kubernetes:core/v1:Secret', { metadata: { generateName: 'x-' } })).toBeUndefined();
    expect(idsOf('gcp:compute/disk:Disk', { project: 'p', name: 'data' })).toBeUndefined();
  });
});

describe('a pending create of a resource without a name', () => {
  const VPC = 'aws:ec2/vpc:Vpc';
  const tags = { ...MARKS, Name: 'train-vpc' };
  const told = (arn: string, own: object) => ({ resourceArn: `arn:aws:ec2:eu-west-1:1:${arn}`, tags: own });

  it('is asked for by the tags of stack and deployment: one question for all', () => {
    const ask = findPendingRule(VPC)?.ask;
    const question = ask?.({ tags });
    expect(question?.args).toEqual({
      tagFilters: [
        { key: 'muster-stack', values: ['train'] },
        { key: 'muster-deployment', values: ['dep'] },
      ],
    });
    expect(findPendingRule('aws:kms/key:Key')?.ask?.({ tags: { ...MARKS, Name: 'other' } })).toEqual(question);
  });

  it('is each of its type that has all its tags, and nothing of another type or name', () => {
    const answer = {
      resourceTagMappingLists: [
        told('vpc/vpc-1', { ...tags, more: 'x' }),
        told('vpc/vpc-2', { ...MARKS, Name: 'train-other' }),
        told('subnet/subnet-1', tags),
        { resourceArn: 'arn:aws:rds:eu-west-1:1:vpc/vpc-3', tags },
      ],
    };
    expect(idsOf(VPC, { tags }, answer)).toEqual(['vpc-1']);
  });

  it('has to be decided where no tag makes it unique', () => {
    expect(idsOf(VPC, { tags: MARKS }, { resourceTagMappingLists: [] })).toBeUndefined();
    expect(idsOf(VPC, { tags: { Name: 'train-vpc' } }, { resourceTagMappingLists: [] })).toBeUndefined();
  });

  it('an association is told by its route table, an access key by its user, and such a key is of no use', () => {
    const associations = [
      { subnetId: 'subnet-1', routeTableAssociationId: 'rtbassoc-1' },
      { subnetId: 'subnet-2', routeTableAssociationId: 'rtbassoc-2' },
    ];
    const association = 'aws:ec2/routeTableAssociation:RouteTableAssociation';
    expect(idsOf(association, { subnetId: 'subnet-2', routeTableId: 'rtb' }, { associations })).toEqual(['rtbassoc-2']);
    const key = 'aws:iam/accessKey:AccessKey';
    expect(idsOf(key, { user: 'u' }, { accessKeys: [{ accessKeyId: 'AKIA1' }] })).toEqual(['AKIA1']);
    expect(findPendingRule(key)?.isUseless).toBe(true);
  });
});

describe('the table of rules', () => {
  it('has every type of the clouds that a component makes', () => {
    const folder = join(import.meta.dirname, '../../../components');
    const sources = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
    const imports = sources.flatMap((text) => [
      ...text.matchAll(/from '@pulumi\/(aws|azure-native|gcp)\/([\w/]+)\.js'/g),
    ]);
    const types = imports.flatMap(([, cloud, path]) => {
      const key = `${cloud}:${path}`.toLowerCase();
      const all = Object.keys(loadTable(cloud as 'aws').resources);
      return all.filter(
        (type) =>
          key === (cloud === 'azure-native' ? type.replace(/:(?=\w+$)/, '/') : type.replace(/:\w+$/, '')).toLowerCase(),
      );
    });
    expect(new Set(types).size).toBeGreaterThan(50);
    expect(types.filter((type) => !findPendingRule(type))).toEqual([]);
    expect(types.filter((type) => !isCloudType(type))).toEqual([]);
  });

  it('leaves types that nobody wrote a rule for, and machines of ours, to others', () => {
    expect(findPendingRule('aws:rds/instance:Instance')).toBeUndefined();
    expect(isCloudType('aws:rds/instance:Instance')).toBe(true);
    expect(isCloudType('pulumi-nodejs:dynamic/vastai:Instance')).toBe(false);
  });
});

describe('what was read', () => {
  it('is ours by the marks of stack and deployment, wherever the cloud keeps them', () => {
    expect(judgeReading({ tags: MARKS }, { tags: MARKS })).toEqual({ kind: 'ours' });
    expect(judgeReading({ tags: MARKS }, { tags: {}, tagsAll: MARKS })).toEqual({ kind: 'ours' });
    expect(judgeReading({ labels: MARKS }, { labels: MARKS })).toEqual({ kind: 'ours' });
    expect(judgeReading({ metadata: { labels: MARKS } }, { metadata: { labels: MARKS } })).toEqual({ kind: 'ours' });
  });

  it('is foreign with the marks of another stack or none, unless it could not be marked', () => {
    expect(judgeReading({ tags: MARKS }, { tags: { ...MARKS, 'muster-stack': 'x' } })).toEqual({ kind: 'foreign' });
    expect(judgeReading({ tags: MARKS }, {})).toEqual({ kind: 'foreign' });
    expect(judgeReading({ name: 'n' }, { name: 'n' })).toEqual({ kind: 'ours' });
  });

  it.each([
    [{ status: 'CREATING' }, 'CREATING'],
    [{ state: 'pending' }, 'pending'],
    [{ provisioningState: 'Creating' }, 'Creating'],
    [{ currentStatus: 'STAGING' }, 'STAGING'],
  ])('%j is waited for', (outputs, status) => {
    expect(judgeReading({}, outputs)).toEqual({ kind: 'unfinished', status });
  });

  it('a Helm release whose installation was cut off cannot be finished', () => {
    const release = { status: { status: 'pending-install' } };
    expect(judgeReading({}, release)).toEqual({ kind: 'cut_off', status: 'pending-install' });
    expect(judgeReading({}, { status: { status: 'deployed' } })).toEqual({ kind: 'ours' });
  });
});
