/**
 * AWS. Resources without a name are found by their tags, which AWS takes in the same call that makes them; so each has tags that no other
 * resource of its type in the stack has. Ids are those of the provider's import pages
 * (https://www.pulumi.com/registry/packages/aws/api-docs/, "Import"), where these differ from what it keeps: those that an import keeps.
 */
import { TAG_KEYS } from '../stack-tags.ts';
import {
  byName,
  listOf,
  objectOf,
  textOf,
  type Answer,
  type Inputs,
  type PendingRule,
  type PendingRules,
} from './rule.ts';

/** Their names in ARNs: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html */
const TAGGED: Record<string, [service: string, kind: string]> = {
  'aws:ec2/eip:Eip': ['ec2', 'elastic-ip'],
  'aws:ec2/internetGateway:InternetGateway': ['ec2', 'internet-gateway'],
  'aws:ec2/launchTemplate:LaunchTemplate': ['ec2', 'launch-template'],
  'aws:ec2/natGateway:NatGateway': ['ec2', 'natgateway'],
  'aws:ec2/routeTable:RouteTable': ['ec2', 'route-table'],
  'aws:ec2/securityGroup:SecurityGroup': ['ec2', 'security-group'],
  'aws:ec2/subnet:Subnet': ['ec2', 'subnet'],
  'aws:ec2/vpc:Vpc': ['ec2', 'vpc'],
  'aws:ec2/vpcEndpoint:VpcEndpoint': ['ec2', 'vpc-endpoint'],
  'aws:kms/key:Key': ['kms', 'key'],
  'aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule': ['ec2', 'security-group-rule'],
  'aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule': ['ec2', 'security-group-rule'],
};

const whoAsks = () => ({ token: 'aws:index/getCallerIdentity:getCallerIdentity', args: {} });

/** What is set on a bucket is known by the bucket; setting it again would change nothing. */
const ofBucket = byName(({ bucket }) => textOf(bucket));

export const AWS_PENDING_RULES: PendingRules = {
  ...Object.fromEntries(Object.entries(TAGGED).map(([type, [service, kind]]) => [type, byTags(service, kind)])),
  'aws:cloudwatch/logGroup:LogGroup': byName(({ name }) => textOf(name)),
  // Two routes of a table to the same destination cannot be. The provider numbers destinations by their CRC-32.
  'aws:ec2/route:Route': byName(({ routeTableId, destinationCidrBlock, destinationIpv6CidrBlock }) => {
    const destination = textOf(destinationCidrBlock) ?? textOf(destinationIpv6CidrBlock);
    return ['r-', textOf(routeTableId), destination && String(crc32(destination))];
  }),
  'aws:ec2/routeTableAssociation:RouteTableAssociation': {
    ask: ({ routeTableId }) => ({ token: 'aws:ec2/getRouteTable:getRouteTable', args: { routeTableId } }),
    idsOf: ({ subnetId }, { associations }) =>
      textOf(subnetId) === undefined
        ? undefined
        : listOf(associations)
            .filter((one) => one.subnetId === subnetId)
            .map((one) => String(one.routeTableAssociationId)),
  },
  'aws:eks/accessEntry:AccessEntry': byName((i) => [textOf(i.clusterName), textOf(i.principalArn)], ':'),
  'aws:eks/accessPolicyAssociation:AccessPolicyAssociation': byName(
    (i) => [textOf(i.clusterName), textOf(i.principalArn), textOf(i.policyArn)],
    '#',
  ),
  'aws:eks/addon:Addon': byName((i) => [textOf(i.clusterName), textOf(i.addonName)], ':'),
  'aws:route53/record:Record': byName((i) => [textOf(i.zoneId), textOf(i.name), textOf(i.type)], '_'),
  'aws:eks/cluster:Cluster': byName(({ name }) => textOf(name)),
  'aws:eks/nodeGroup:NodeGroup': byName((i) => [textOf(i.clusterName), textOf(i.nodeGroupName)], ':'),
  // Its secret half was told to the one who was killed.
  'aws:iam/accessKey:AccessKey': {
    ask: ({ user }) => ({ token: 'aws:iam/getAccessKeys:getAccessKeys', args: { user } }),
    idsOf: (_inputs, { accessKeys }) => listOf(accessKeys).map((key) => String(key.accessKeyId)),
    isUseless: true,
  },
  'aws:iam/openIdConnectProvider:OpenIdConnectProvider': {
    ask: whoAsks,
    idsOf: ({ url }, who) =>
      textOf(url) === undefined ? undefined : [`${iamOf(who)}:oidc-provider/${String(url).replace(/^https:\/\//, '')}`],
  },
  'aws:iam/policy:Policy': {
    ask: whoAsks,
    idsOf: ({ name, path }, who) =>
      textOf(name) === undefined ? undefined : [`${iamOf(who)}:policy${textOf(path) ?? '/'}${String(name)}`],
  },
  'aws:iam/role:Role': byName(({ name }) => textOf(name)),
  'aws:iam/rolePolicy:RolePolicy': byName((i) => [textOf(i.role), textOf(i.name)], ':'),
  'aws:iam/rolePolicyAttachment:RolePolicyAttachment': byName((i) => [textOf(i.role), textOf(i.policyArn)], '-'),
  'aws:iam/user:User': byName(({ name }) => textOf(name)),
  'aws:iam/userPolicy:UserPolicy': byName((i) => [textOf(i.user), textOf(i.name)], ':'),
  'aws:kms/alias:Alias': byName(({ name }) => textOf(name)),
  'aws:s3/bucket:Bucket': ofBucket,
  'aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration': ofBucket,
  'aws:s3/bucketPolicy:BucketPolicy': ofBucket,
  'aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock': ofBucket,
  'aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration': ofBucket,
  'aws:s3/bucketVersioning:BucketVersioning': ofBucket,
};

/**
 * One question for everything of a stack; which of it is meant is told by the tags that the inputs have. AWS keeps telling of what was
 * deleted for a while: reading it says so.
 */
function byTags(service: string, kind: string): PendingRule {
  return {
    ask({ tags }) {
      const own = objectOf(tags);
      const tagFilters = [TAG_KEYS.stack, TAG_KEYS.deployment].map((key) => ({
        key,
        values: [typeof own[key] === 'string' ? own[key] : ''],
      }));
      return { token: 'aws:resourcegroupstaggingapi/getResources:getResources', args: { tagFilters } };
    },
    idsOf(inputs, { resourceTagMappingLists }) {
      const own = Object.entries(objectOf(inputs.tags));
      if (!isNamed(inputs)) return undefined;
      return listOf(resourceTagMappingLists).flatMap(({ resourceArn, tags }) => {
        const id = idOfArn(String(resourceArn), service, kind);
        return id !== undefined && own.every(([key, value]) => objectOf(tags)[key] === value) ? [id] : [];
      });
    },
  };
}

/** By the stack's tags alone it could be any of its type. */
function isNamed({ tags }: Inputs): boolean {
  const { Name: name, ...rest } = objectOf(tags);
  return textOf(name) !== undefined && [TAG_KEYS.stack, TAG_KEYS.deployment].every((key) => rest[key] !== undefined);
}

/** `arn:aws:ec2:eu-west-1:123456789012:vpc/vpc-1` → `vpc-1`, where service and kind are those. */
function idOfArn(arn: string, service: string, kind: string): string | undefined {
  const [, , of, , , ...rest] = arn.split(':');
  const [what, id] = rest.join(':').split('/');
  return of === service && what === kind ? id : undefined;
}

/** `arn:aws:iam::123456789012` of whoever asks. */
function iamOf({ accountId, arn }: Answer): string {
  return `arn:${String(arn).split(':')[1]}:iam::${String(accountId)}`;
}

/** Of IEEE 802.3, as the provider's own. */
function crc32(text: string): number {
  let sum = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}
