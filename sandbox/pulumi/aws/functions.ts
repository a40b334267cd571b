/** The functions of the AWS provider that programs call. */
import { CloudError } from '../cloud-error.ts';
import type { Scene } from '../cloud-rules.ts';
import { propertiesOf, type CloudResource } from '../cloud-store.ts';
import { hashHex, newHex } from '../names.ts';
import { isObject, listOf, objectOf, textOf, textsOf, type Properties, asText } from '../properties.ts';
import { ACCOUNT_ID, zonesOf } from './places.ts';

export function invokeAws(token: string, args: Properties, scene: Scene): Properties {
  const region = textOf(args.region) ?? String(scene.config.region);
  switch (token) {
    case 'aws:index/getAvailabilityZones:getAvailabilityZones': {
      const names = zonesOf(region).filter((name) => !textsOf(args.excludeNames).includes(name));
      return {
        id: region,
        region,
        groupNames: [region],
        names,
        zoneIds: names.map((name) => `use1-az${name.codePointAt(name.length - 1)! - 96}`),
      };
    }
    case 'aws:index/getCallerIdentity:getCallerIdentity':
      return {
        id: ACCOUNT_ID,
        accountId: ACCOUNT_ID,
        arn: `arn:aws:iam::${ACCOUNT_ID}:user/muster-sandbox`,
        userId: 'AIDASANDBOXUSER00001',
      };
    case 'aws:index/getPartition:getPartition':
      return { id: 'aws', partition: 'aws', dnsSuffix: 'amazonaws.com', reverseDnsPrefix: 'com.amazonaws' };
    case 'aws:index/getRegion:getRegion':
      return { id: region, name: region, region, description: region, endpoint: `ec2.${region}.amazonaws.com` };
    case 'aws:ssm/getParameter:getParameter':
      return getParameter(String(args.name), region);
    case 'aws:eks/getClusterAuth:getClusterAuth':
      // The service signs it without asking whether there is such a cluster.
      return { id: args.name, name: args.name, region, token: `k8s-aws-v1.${newHex(64)}` };
    case 'aws:eks/getClusters:getClusters':
      return { id: region, region, names: scene.find('aws:eks/cluster:Cluster', region).map(({ id }) => id) };
    case 'aws:eks/getCluster:getCluster': {
      const found = scene.find('aws:eks/cluster:Cluster', region).find(({ id }) => id === args.name);
      if (!found)
        throw new CloudError(
          'ResourceNotFoundException',
          `reading EKS Cluster (${String(args.name)}): couldn't find resource`,
        );
      const { certificateAuthority, vpcConfig, ...told } = propertiesOf(found);
      return { ...told, id: found.id, certificateAuthorities: [certificateAuthority], vpcConfig };
    }
    case 'aws:ec2/getRouteTable:getRouteTable':
      return getRouteTable(args, scene);
    case 'aws:iam/getAccessKeys:getAccessKeys': {
      if (!scene.find('aws:iam/user:User', '').some(({ id }) => id === args.user))
        throw new CloudError(
          'NoSuchEntity',
          `reading IAM Access Keys: The user with name ${String(args.user)} cannot be found.`,
        );
      const keys = scene.find('aws:iam/accessKey:AccessKey', '').filter(({ inputs }) => inputs.user === args.user);
      return {
        id: args.user,
        user: args.user,
        accessKeys: keys.map(({ id, inputs, outputs }) => ({
          accessKeyId: id,
          createDate: outputs.createDate,
          status: inputs.status,
        })),
      };
    }
    case 'aws:resourcegroupstaggingapi/getResources:getResources':
      return getResources(args, region, scene);
    default:
      throw new CloudError('UnknownFunction', `the simulated aws has no behaviour for ${token}`);
  }
}

/** The public parameters that AWS keeps for its images. */
function getParameter(name: string, region: string): Properties {
  if (!/^\/aws\/service\/(eks|bottlerocket|ami-amazon-linux-latest)\//.test(name)) {
    throw new CloudError('ParameterNotFound', `reading SSM Parameter (${name}): couldn't find resource`);
  }
  const value = name.endsWith('release_version') ? '1.34.2-20261101' : `ami-${hashHex(`${region} ${name}`, 17)}`;
  const arn = `arn:aws:ssm:${region}::parameter${name}`;
  return { id: name, name, region, arn, type: 'String', value, insecureValue: value, version: 1, withDecryption: true };
}

function getRouteTable({ routeTableId }: Properties, scene: Scene): Properties {
  const table = scene.find('aws:ec2/routeTable:RouteTable').find(({ id }) => id === routeTableId);
  if (!table) throw new CloudError('NotFound', 'reading EC2 Route Table: no matching EC2 Route Table found');
  const associations = scene
    .find('aws:ec2/routeTableAssociation:RouteTableAssociation')
    .filter(({ inputs }) => inputs.routeTableId === routeTableId)
    .map(({ id, inputs }) => ({
      routeTableAssociationId: id,
      routeTableId,
      subnetId: inputs.subnetId ?? '',
      gatewayId: inputs.gatewayId ?? '',
      main: false,
    }));
  const { arn, ownerId, tagsAll } = table.outputs;
  return {
    id: table.id,
    routeTableId,
    arn,
    ownerId,
    vpcId: table.inputs.vpcId,
    tags: tagsAll,
    routes: [],
    associations,
  };
}

/** Whatever has a tag, by ARN: how resources are found whose creation was answered to nobody. */
function getResources(args: Properties, region: string, scene: Scene): Properties {
  const filters = listOf(args.tagFilters).map(objectOf);
  const arns = textsOf(args.resourceArnLists);
  const found = scene
    .find('*', null)
    .filter(({ scope }) => scope === region || scope === '')
    .flatMap((resource) => describeTags(resource) ?? [])
    .filter(
      ({ arn, tags }) => (arns.length === 0 || arns.includes(arn)) && filters.every((filter) => hasTag(tags, filter)),
    );
  return {
    id: region,
    region,
    resourceTagMappingLists: found.map(({ arn, tags }) => ({ resourceArn: arn, tags, complianceDetails: [] })),
  };
}

function describeTags(resource: CloudResource): { arn: string; tags: Properties } | undefined {
  const { package: cloud, outputs } = resource;
  const arn = textOf(outputs.arn) ?? untoldArn(resource);
  if (cloud !== 'aws' || arn === undefined || !isObject(outputs.tagsAll)) return undefined;
  return Object.keys(outputs.tagsAll).length > 0 ? { arn, tags: outputs.tagsAll } : undefined;
}

/** AWS has an ARN for these too; the provider does not tell it. */
function untoldArn({ type, id, scope }: CloudResource): string | undefined {
  return type === 'aws:ec2/natGateway:NatGateway' ? `arn:aws:ec2:${scope}:${ACCOUNT_ID}:natgateway/${id}` : undefined;
}

function hasTag(tags: Properties, filter: Properties): boolean {
  const value = tags[String(filter.key)];
  const values = textsOf(filter.values);
  return value !== undefined && (values.length === 0 || values.includes(asText(value)));
}
