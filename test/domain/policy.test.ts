import { describe, expect, it } from 'vitest';
import { checkPolicies, describeViolations, type PlannedResource } from '../../domain/policy.ts';
import { formatTags } from '../../domain/stack-tags.ts';

const TAGS = formatTags({ owner: 'o', deployment: 'd', costCentre: 'c' }, 's');
const FREE = { ceilingMicroUsdPerHour: null, priceOf: () => null };
const planned = (type: string, inputs: Record<string, unknown>): PlannedResource => ({
  name: 'x',
  type,
  inputs,
  region: 'r',
});
const check = (type: string, inputs: Record<string, unknown>) =>
  checkPolicies([planned(type, inputs)], FREE).map(({ rule, message }) => `${rule}: ${message}`);

describe('no public endpoint without an allow list', () => {
  it.each<[string, Record<string, unknown>, RegExp | null]>([
    ['aws:eks/cluster:Cluster', { tags: TAGS, vpcConfig: { endpointPublicAccess: false } }, null],
    [
      'aws:eks/cluster:Cluster',
      { tags: TAGS, vpcConfig: { endpointPublicAccess: true, publicAccessCidrs: ['203.0.113.0/24'] } },
      null,
    ],
    ['aws:eks/cluster:Cluster', { tags: TAGS, vpcConfig: {} }, /no allow list/],
    [
      'aws:eks/cluster:Cluster',
      { tags: TAGS, vpcConfig: { endpointPublicAccess: true, publicAccessCidrs: ['203.0.113.0/24', '0.0.0.0/0'] } },
      /lets everybody in: 0\.0\.0\.0\/0/,
    ],
    [
      'azure-native:containerservice:ManagedCluster',
      { tags: TAGS, apiServerAccessProfile: { enablePrivateCluster: true } },
      null,
    ],
    ['azure-native:containerservice:ManagedCluster', { tags: TAGS }, /no allow list/],
    ['gcp:compute/firewall:Firewall', { allows: [{ protocol: 'tcp' }], sourceRanges: ['10.0.0.0/8'] }, null],
    ['gcp:compute/firewall:Firewall', { allows: [{ protocol: 'tcp' }] }, /firewall rule has no allow list/],
    ['gcp:compute/firewall:Firewall', { allows: [{ protocol: 'tcp' }], sourceTags: ['web'] }, null],
    ['gcp:compute/firewall:Firewall', { denies: [{ protocol: 'tcp' }], sourceRanges: ['0.0.0.0/0'] }, null],
    ['aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule', { cidrIpv6: '::/0' }, /lets everybody in/],
    [
      'aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock',
      { blockPublicAcls: true },
      /set blockPublicPolicy, ignorePublicAcls, restrictPublicBuckets/,
    ],
    [
      'kubernetes:core/v1:Service',
      { metadata: { labels: TAGS }, spec: { type: 'LoadBalancer' } },
      /load balancer has no allow list/,
    ],
    ['kubernetes:core/v1:Service', { metadata: { labels: TAGS }, spec: { type: 'ClusterIP' } }, null],
  ])('%s %j', (type, inputs, message) => {
    const violations = check(type, inputs);
    if (message === null) expect(violations).toEqual([]);
    else expect(violations).toEqual([expect.stringMatching(message)]);
  });
});

describe('nothing untagged', () => {
  it('names the tags that are missing, wherever the type has its tags', () => {
    expect(check('aws:kms/key:Key', { tags: { 'muster-owner': 'o' } })).toEqual([
      'untagged: lacks the tags muster-deployment, muster-cost-centre',
    ]);
    expect(check('gcp:compute/disk:Disk', { tags: TAGS })).toEqual([
      expect.stringMatching(/lacks the labels muster-owner/),
    ]);
    expect(check('gcp:compute/disk:Disk', { labels: TAGS })).toEqual([]);
    expect(check('kubernetes:apps/v1:DaemonSet', { metadata: { labels: TAGS } })).toEqual([]);
  });

  it('asks nothing of types that carry no tags', () => {
    expect(check('aws:ec2/route:Route', {})).toEqual([]);
  });
});

describe('the price ceiling', () => {
  const priceOf = ({ inputs }: PlannedResource) => (typeof inputs.price === 'bigint' ? inputs.price : null);
  const resources = [
    planned('a:b:C', { price: 2_000_000n }),
    planned('a:b:C', { price: 500_001n }),
    planned('a:b:C', {}),
  ];

  it('counts what has a price, and is for the stack as a whole', () => {
    const violations = checkPolicies(resources, { ceilingMicroUsdPerHour: 2_500_000n, priceOf });
    expect(violations).toEqual([
      {
        rule: 'price_ceiling',
        resource: null,
        message: "costs $2.500001 per hour, above the stack's ceiling of $2.50",
      },
    ]);
    expect(checkPolicies(resources, { ceilingMicroUsdPerHour: 2_500_001n, priceOf })).toEqual([]);
  });
});

it('tells all violations, those that are alike in one line', () => {
  const untagged = ['a', 'b'].map((name) => ({ ...planned('aws:kms/key:Key', {}), name }));
  const violations = checkPolicies([planned('aws:eks/cluster:Cluster', { tags: TAGS }), ...untagged], FREE);
  expect(describeViolations(violations).split('\n')).toEqual([
    'the stack breaks policies, so nothing was made:',
    expect.stringMatching(/^ {2}the public API endpoint has no allow list.*: x$/),
    '  lacks the tags muster-owner, muster-deployment, muster-cost-centre: a, b',
  ]);
});
