/**
 * The rules that every planned resource must meet, whoever plans it: no endpoint open to the world, nothing without owner and cost
 * centre, nothing above the stack's price ceiling. Pure: what is planned in, violations out. Programs check it before the engine hears
 * of any resource, and REST checks it again on what a preview really shows.
 */
import { isEveryAddress } from './cidr.ts';
import { formatUsd, type MicroUsd } from './money.ts';
import { REQUIRED_TAGS } from './stack-tags.ts';

export interface PlannedResource {
  /** URN, or the logical name where there is no URN yet. */
  name: string;
  /** Pulumi's type token: "aws:eks/cluster:Cluster". */
  type: string;
  /** As the program gives them; what is not known before the update is absent. */
  inputs: Record<string, unknown>;
  /** Where its price is looked up; null: the type has one price everywhere. */
  region: string | null;
}

export interface PolicyRules {
  /** Highest price of the whole stack; null: none. */
  ceilingMicroUsdPerHour: MicroUsd | null;
  /** null: not known, and not counted against the ceiling. */
  priceOf: (resource: PlannedResource) => MicroUsd | null;
}

export interface PolicyViolation {
  /** `name_taken` is the answer of a cloud that was asked; the others need none. */
  rule: 'public_endpoint' | 'untagged' | 'price_ceiling' | 'name_taken';
  /** The resource's name; null: the whole stack. */
  resource: string | null;
  message: string;
}

export function checkPolicies(resources: readonly PlannedResource[], rules: PolicyRules): PolicyViolation[] {
  return [
    ...resources.flatMap((resource) => checkPublicEndpoint(resource)),
    ...resources.flatMap((resource) => checkTags(resource)),
    ...checkCeiling(resources, rules),
  ];
}

/** For an error of a program: one line for each rule that is broken in one way, with who breaks it. */
export function describeViolations(violations: readonly PolicyViolation[]): string {
  const byMessage = Map.groupBy(violations, ({ message }) => message);
  const lines = [...byMessage].map(([message, same]) => {
    const names = same.map(({ resource }) => resource ?? 'the stack');
    return `  ${message}: ${names.join(', ')}`;
  });
  return `the stack breaks policies, so nothing was made:\n${lines.join('\n')}`;
}

type Inputs = Record<string, unknown>;

/** What each type says about who may reach it. @returns what is open; null: nothing */
const EXPOSURES: Record<string, (inputs: Inputs) => string | null> = {
  'aws:eks/cluster:Cluster': ({ vpcConfig }) => {
    const { endpointPublicAccess, publicAccessCidrs } = recordOf(vpcConfig);
    if (endpointPublicAccess === false) return null;
    return describeAllowList('the public API endpoint', publicAccessCidrs);
  },
  'azure-native:containerservice:ManagedCluster': ({ apiServerAccessProfile }) => {
    const { enablePrivateCluster, authorizedIPRanges } = recordOf(apiServerAccessProfile);
    if (enablePrivateCluster === true) return null;
    return describeAllowList('the public API endpoint', authorizedIPRanges);
  },
  'gcp:compute/firewall:Firewall': ({
    direction,
    disabled,
    allows,
    sourceRanges,
    sourceTags,
    sourceServiceAccounts,
  }) => {
    if (direction === 'EGRESS' || disabled === true || !Array.isArray(allows)) return null;
    if (Array.isArray(sourceTags) || Array.isArray(sourceServiceAccounts)) return null;
    return describeAllowList('the firewall rule', sourceRanges);
  },
  'aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule': ({ cidrIpv4, cidrIpv6 }) =>
    [cidrIpv4, cidrIpv6].some((cidr) => typeof cidr === 'string' && isEveryAddress(cidr))
      ? 'the rule lets everybody in'
      : null,
  'aws:ec2/securityGroup:SecurityGroup': ({ ingress }) =>
    listOf(ingress).some((rule) => listOf(recordOf(rule).cidrBlocks).some((cidr) => isEveryAddress(String(cidr))))
      ? 'the group lets everybody in'
      : null,
  'aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock': (inputs) => {
    const open = ['blockPublicAcls', 'blockPublicPolicy', 'ignorePublicAcls', 'restrictPublicBuckets'].filter(
      (name) => inputs[name] !== true,
    );
    return open.length > 0 ? `the bucket may be made public: set ${open.join(', ')} to true` : null;
  },
  'kubernetes:core/v1:Service': ({ spec }) => {
    const { type, loadBalancerSourceRanges } = recordOf(spec);
    return type === 'LoadBalancer' ? describeAllowList('the load balancer', loadBalancerSourceRanges) : null;
  },
};

function describeAllowList(what: string, ranges: unknown): string | null {
  const list = listOf(ranges).map(String);
  if (list.length === 0) return `${what} has no allow list: make it private, or name the networks that may reach it`;
  const open = list.find((range) => isEveryAddress(range));
  return open === undefined ? null : `${what} lets everybody in: ${open} is no allow list`;
}

function checkPublicEndpoint({ type, name, inputs }: PlannedResource): PolicyViolation[] {
  const message = EXPOSURES[type]?.(inputs) ?? null;
  return message === null ? [] : [{ rule: 'public_endpoint', resource: name, message }];
}

/**
 * Where each type that can be tagged has its tags. Types that are not here carry none, or not everywhere: a bucket is made through one
 * type at S3, which has tags, and at R2 and B2, which have none.
 */
const TAG_PLACES: Record<string, 'tags' | 'labels' | 'metadata'> = {
  ...placesOf('tags', [
    'aws:cloudwatch/logGroup:LogGroup',
    'aws:ec2/eip:Eip',
    'aws:ec2/internetGateway:InternetGateway',
    'aws:ec2/launchTemplate:LaunchTemplate',
    'aws:ec2/natGateway:NatGateway',
    'aws:ec2/routeTable:RouteTable',
    'aws:ec2/securityGroup:SecurityGroup',
    'aws:ec2/subnet:Subnet',
    'aws:ec2/vpc:Vpc',
    'aws:ec2/vpcEndpoint:VpcEndpoint',
    'aws:eks/accessEntry:AccessEntry',
    'aws:eks/addon:Addon',
    'aws:eks/cluster:Cluster',
    'aws:eks/nodeGroup:NodeGroup',
    'aws:eks/podIdentityAssociation:PodIdentityAssociation',
    'aws:iam/openIdConnectProvider:OpenIdConnectProvider',
    'aws:iam/policy:Policy',
    'aws:iam/role:Role',
    'aws:iam/user:User',
    'aws:kms/key:Key',
    'azure-native:containerservice:AgentPool',
    'azure-native:containerservice:ManagedCluster',
    'azure-native:managedidentity:UserAssignedIdentity',
    'azure-native:network:VirtualNetwork',
    'azure-native:operationalinsights:Workspace',
    'azure-native:resources:ResourceGroup',
  ]),
  ...placesOf('labels', [
    'gcp:compute/address:Address',
    'gcp:compute/disk:Disk',
    'gcp:compute/instance:Instance',
    'gcp:compute/regionDisk:RegionDisk',
    'pulumi-nodejs:dynamic/ssh-host:Host',
  ]),
  ...placesOf('metadata', [
    'kubernetes:apps/v1:DaemonSet',
    'kubernetes:apps/v1:Deployment',
    'kubernetes:core/v1:Namespace',
    'kubernetes:core/v1:Secret',
    'kubernetes:core/v1:Service',
    'kubernetes:core/v1:ServiceAccount',
    'kubernetes:rbac.authorization.k8s.io/v1:ClusterRole',
    'kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding',
  ]),
};

function checkTags({ type, name, inputs }: PlannedResource): PolicyViolation[] {
  const place = TAG_PLACES[type];
  if (place === undefined) return [];
  const tags = recordOf(place === 'metadata' ? recordOf(inputs.metadata).labels : inputs[place]);
  const missing = REQUIRED_TAGS.filter((key) => typeof tags[key] !== 'string' || tags[key] === '');
  if (missing.length === 0) return [];
  return [
    {
      rule: 'untagged',
      resource: name,
      message: `lacks the ${place === 'tags' ? 'tags' : 'labels'} ${missing.join(', ')}`,
    },
  ];
}

function checkCeiling(resources: readonly PlannedResource[], rules: PolicyRules): PolicyViolation[] {
  const { ceilingMicroUsdPerHour: ceiling, priceOf } = rules;
  if (ceiling === null) return [];
  const total = resources.reduce((sum, resource) => sum + (priceOf(resource) ?? 0n), 0n);
  if (total <= ceiling) return [];
  const message = `costs $${formatUsd(total)} per hour, above the stack's ceiling of $${formatUsd(ceiling)}`;
  return [{ rule: 'price_ceiling', resource: null, message }];
}

function placesOf<Place extends string>(place: Place, types: string[]): Record<string, Place> {
  return Object.fromEntries(types.map((type) => [type, place]));
}

function recordOf(value: unknown): Inputs {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Inputs) : {};
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
