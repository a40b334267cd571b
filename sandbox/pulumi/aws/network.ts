/** EC2's networks: VPCs, subnets, gateways, routes and security groups. */
import { crc32 } from 'node:zlib';
import { addressIn, isInside, overlaps, parseCidr } from '../cidr.ts';
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { hashHex, newHex } from '../names.ts';
import { listOf, objectOf, textOf, textsOf, type Properties } from '../properties.ts';
import { awsError } from './errors.ts';
import { instanceTypeTrouble, ACCOUNT_ID, zonesOf } from './places.ts';

const VPC = 'aws:ec2/vpc:Vpc';
const SUBNET = 'aws:ec2/subnet:Subnet';
const GATEWAY = 'aws:ec2/internetGateway:InternetGateway';
const NAT = 'aws:ec2/natGateway:NatGateway';
const EIP = 'aws:ec2/eip:Eip';
const ROUTE_TABLE = 'aws:ec2/routeTable:RouteTable';
const SECURITY_GROUP = 'aws:ec2/securityGroup:SecurityGroup';
const CLUSTER = 'aws:eks/cluster:Cluster';
const NODE_GROUP = 'aws:eks/nodeGroup:NodeGroup';

/** The account's first limits, per region. */
const QUOTAS = { vpcs: 5, addresses: 5, natGatewaysPerZone: 5 };

export const NETWORK_RULES: Record<string, ResourceRules> = {
  [VPC]: {
    replaceOn: ['cidrBlock', 'ipv4IpamPoolId', 'ipv4NetmaskLength'],
    defaults: () => ({ enableDnsSupport: true, instanceTenancy: 'default' }),
    id: () => `vpc-${newHex(17)}`,
    outputs: (_inputs, { id }) => ({
      defaultNetworkAclId: `acl-${hashHex(`${id} acl`, 17)}`,
      defaultRouteTableId: `rtb-${hashHex(`${id} rtb`, 17)}`,
      mainRouteTableId: `rtb-${hashHex(`${id} rtb`, 17)}`,
      defaultSecurityGroupId: `sg-${hashHex(`${id} sg`, 17)}`,
      dhcpOptionsId: `dopt-${hashHex(ACCOUNT_ID, 17)}`,
    }),
    refuseCreate(inputs, scene) {
      const text = textOf(inputs.cidrBlock) ?? '';
      const cidr = parseCidr(text);
      const call = ['creating EC2 VPC', 'EC2 CreateVpc', 400] as const;
      if (!cidr) {
        throw awsError(
          ...call,
          'InvalidParameterValue',
          `Value (${text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.`,
        );
      }
      if (cidr.prefix < 16 || cidr.prefix > 28)
        throw awsError(...call, 'InvalidVpc.Range', `The CIDR '${text}' is invalid.`);
      if (scene.find(VPC).length >= QUOTAS.vpcs) {
        throw awsError(...call, 'VpcLimitExceeded', 'The maximum number of VPCs has been reached.');
      }
    },
    refuseDelete(vpc, scene) {
      const isIn = ({ inputs }: CloudResource): boolean => inputs.vpcId === vpc.id;
      const users = [SUBNET, GATEWAY, ROUTE_TABLE, SECURITY_GROUP].flatMap((type) => scene.find(type).filter(isIn));
      if (users.length > 0) throw dependency('VPC', 'DeleteVpc', 'vpc', vpc.id);
    },
  },
  [SUBNET]: {
    replaceOn: ['vpcId', 'cidrBlock', 'availabilityZone', 'availabilityZoneId'],
    defaults: () => ({ assignIpv6AddressOnCreation: false, mapPublicIpOnLaunch: false }),
    id: () => `subnet-${newHex(17)}`,
    outputs(inputs, { scene, id }) {
      const zone = textOf(inputs.availabilityZone) ?? zonesOf(scene.scope)[0]!;
      return {
        availabilityZone: zone,
        availabilityZoneId: `use1-az${zone.codePointAt(zone.length - 1)! - 96}`,
        arn: ec2Arn('subnet', id, scene),
      };
    },
    refuseCreate: refuseSubnet,
    refuseDelete(subnet, scene) {
      const isUsed =
        scene.find(NAT).some(({ inputs }) => inputs.subnetId === subnet.id) ||
        scene.find(CLUSTER).some(({ inputs }) => textsOf(objectOf(inputs.vpcConfig).subnetIds).includes(subnet.id)) ||
        scene.find(NODE_GROUP).some(({ inputs }) => textsOf(inputs.subnetIds).includes(subnet.id));
      if (isUsed) throw dependency('Subnet', 'DeleteSubnet', 'subnet', subnet.id);
    },
  },
  [GATEWAY]: {
    id: () => `igw-${newHex(17)}`,
    refuseCreate(inputs, scene) {
      const vpcId = textOf(inputs.vpcId);
      if (vpcId === undefined) return;
      requireVpc(vpcId, scene, 'attaching EC2 Internet Gateway', 'EC2 AttachInternetGateway');
      if (scene.find(GATEWAY).some((other) => other.inputs.vpcId === vpcId)) {
        throw awsError(
          'attaching EC2 Internet Gateway',
          'EC2 AttachInternetGateway',
          400,
          'Resource.AlreadyAssociated',
          `Network ${vpcId} already has an internet gateway attached`,
        );
      }
    },
  },
  [EIP]: {
    defaults: () => ({ domain: 'vpc' }),
    replaceOn: ['domain', 'publicIpv4Pool'],
    id: () => `eipalloc-${newHex(17)}`,
    outputs(_inputs, { id, before, scene }) {
      const publicIp =
        textOf(before?.outputs.publicIp) ??
        `54.${[2, 4, 6].map((at) => Number.parseInt(hashHex(id, 8).slice(at, at + 2), 16)).join('.')}`;
      return {
        allocationId: id,
        publicIp,
        publicDns: `ec2-${publicIp.replaceAll('.', '-')}.compute-1.amazonaws.com`,
        arn: ec2Arn('elastic-ip', id, scene),
      };
    },
    refuseCreate(_inputs, scene) {
      if (scene.find(EIP).length >= QUOTAS.addresses) {
        throw awsError(
          'creating EC2 EIP',
          'EC2 AllocateAddress',
          400,
          'AddressLimitExceeded',
          'The maximum number of addresses has been reached.',
        );
      }
    },
    refuseDelete(address, scene) {
      if (scene.find(NAT).some(({ inputs }) => inputs.allocationId === address.id)) {
        throw awsError(
          `deleting EC2 EIP (${address.id})`,
          'EC2 ReleaseAddress',
          400,
          'InvalidIPAddress.InUse',
          `Address ${String(address.outputs.publicIp)} is in use.`,
        );
      }
    },
  },
  [NAT]: {
    replaceOn: ['subnetId', 'allocationId', 'connectivityType', 'privateIp', 'availabilityMode'],
    defaults: () => ({ connectivityType: 'public' }),
    id: () => `nat-${newHex(17)}`,
    seconds: { create: [60, 120], delete: [40, 60] },
    outputs(inputs, { id, scene }) {
      const address = scene.find(EIP).find((one) => one.id === inputs.allocationId);
      const subnet = scene.find(SUBNET).find((one) => one.id === inputs.subnetId);
      const cidr = parseCidr(textOf(subnet?.inputs.cidrBlock) ?? '10.0.0.0/24')!;
      return {
        publicIp: address?.outputs.publicIp ?? '',
        privateIp: addressIn(cidr, 10),
        networkInterfaceId: `eni-${hashHex(id, 17)}`,
        associationId: `eipassoc-${hashHex(id, 17)}`,
        vpcId: subnet?.inputs.vpcId ?? '',
      };
    },
    refuseCreate(inputs, scene) {
      const subnetId = textOf(inputs.subnetId);
      const subnet = scene.find(SUBNET).find(({ id }) => id === subnetId);
      const call = ['creating EC2 NAT Gateway', 'EC2 CreateNatGateway', 400] as const;
      if (!subnet) throw awsError(...call, 'InvalidSubnetID.NotFound', `The subnet ID '${subnetId}' does not exist`);
      const isPublic = scene.find(GATEWAY).some((gateway) => gateway.inputs.vpcId === subnet.inputs.vpcId);
      if (inputs.connectivityType !== 'private' && !isPublic) {
        throw awsError(
          ...call,
          'Gateway.NotAttached',
          `Network ${String(subnet.inputs.vpcId)} has no Internet gateway attached`,
        );
      }
      const allocationId = textOf(inputs.allocationId);
      if (allocationId === undefined) return;
      if (!scene.find(EIP).some(({ id }) => id === allocationId)) {
        throw awsError(...call, 'InvalidAllocationID.NotFound', `The allocation ID '${allocationId}' does not exist`);
      }
      if (scene.find(NAT).some((other) => other.inputs.allocationId === allocationId)) {
        throw awsError(...call, 'Resource.AlreadyAssociated', `resource ${allocationId} is already associated`);
      }
    },
  },
  [ROUTE_TABLE]: {
    replaceOn: ['vpcId'],
    id: () => `rtb-${newHex(17)}`,
    refuseCreate(inputs, scene) {
      requireVpc(textOf(inputs.vpcId) ?? '', scene, 'creating EC2 Route Table', 'EC2 CreateRouteTable');
      for (const route of listOf(inputs.routes)) requireTarget(objectOf(route), scene);
    },
    refuseUpdate(_table, news, _changes, scene) {
      for (const route of listOf(news.routes)) requireTarget(objectOf(route), scene);
    },
    refuseDelete(table, scene) {
      const isUsed = scene
        .find('aws:ec2/routeTableAssociation:RouteTableAssociation')
        .some(({ inputs }) => inputs.routeTableId === table.id);
      if (isUsed) throw dependency('Route Table', 'DeleteRouteTable', 'routeTable', table.id);
    },
  },
  'aws:ec2/route:Route': {
    replaceOn: ['routeTableId', 'destinationCidrBlock', 'destinationIpv6CidrBlock', 'destinationPrefixListId'],
    // As the provider makes it.
    id: (inputs) =>
      `r-${String(inputs.routeTableId)}${crc32(String(inputs.destinationCidrBlock ?? inputs.destinationIpv6CidrBlock ?? inputs.destinationPrefixListId))}`,
    outputs: () => ({ state: 'active', origin: 'CreateRoute' }),
    refuseCreate(inputs, scene) {
      if (!scene.find(ROUTE_TABLE).some(({ id }) => id === inputs.routeTableId)) {
        throw awsError(
          'creating EC2 Route',
          'EC2 CreateRoute',
          400,
          'InvalidRouteTableID.NotFound',
          `The routeTable ID '${String(inputs.routeTableId)}' does not exist`,
        );
      }
      requireTarget(inputs, scene);
    },
  },
  'aws:ec2/routeTableAssociation:RouteTableAssociation': {
    replaceOn: ['subnetId', 'gatewayId'],
    id: () => `rtbassoc-${newHex(17)}`,
    refuseCreate(inputs, scene) {
      const isTaken = scene
        .find('aws:ec2/routeTableAssociation:RouteTableAssociation')
        .some((other) => other.inputs.subnetId !== undefined && other.inputs.subnetId === inputs.subnetId);
      if (isTaken) {
        throw awsError(
          'creating EC2 Route Table Association',
          'EC2 AssociateRouteTable',
          400,
          'Resource.AlreadyAssociated',
          `the specified association for route table ${String(inputs.routeTableId)} conflicts with an existing association`,
        );
      }
    },
  },
  [SECURITY_GROUP]: {
    nameInput: 'name',
    replaceOn: ['vpcId', 'description', 'namePrefix'],
    defaults: () => ({ description: 'Managed by Pulumi', revokeRulesOnDelete: false }),
    id: () => `sg-${newHex(17)}`,
    outputs: (inputs) => ({ name: inputs.name }),
    refuseCreate(inputs, scene) {
      const vpcId = textOf(inputs.vpcId);
      if (vpcId !== undefined) requireVpc(vpcId, scene, 'creating Security Group', 'EC2 CreateSecurityGroup');
      if (
        scene.find(SECURITY_GROUP).some((other) => other.inputs.vpcId === vpcId && other.inputs.name === inputs.name)
      ) {
        throw awsError(
          'creating Security Group',
          'EC2 CreateSecurityGroup',
          400,
          'InvalidGroup.Duplicate',
          `The security group '${String(inputs.name)}' already exists for VPC '${vpcId}'`,
        );
      }
    },
    refuseDelete(group, scene) {
      const isUsed = scene
        .find(CLUSTER)
        .some(({ inputs }) => textsOf(objectOf(inputs.vpcConfig).securityGroupIds).includes(group.id));
      if (isUsed) {
        throw awsError(
          `deleting Security Group (${group.id})`,
          'EC2 DeleteSecurityGroup',
          400,
          'DependencyViolation',
          `resource ${group.id} has a dependent object`,
        );
      }
    },
  },
  'aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule': securityGroupRule(),
  'aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule': securityGroupRule(),
  'aws:ec2/launchTemplate:LaunchTemplate': {
    nameInput: 'name',
    maxNameLength: 128,
    replaceOn: ['namePrefix'],
    id: () => `lt-${newHex(17)}`,
    outputs(_inputs, { before }) {
      const latestVersion = Number(before?.outputs.latestVersion ?? 0) + 1;
      return { latestVersion, defaultVersion: Number(before?.outputs.defaultVersion ?? 1) };
    },
    changingOutputs: () => ['latestVersion'],
    refuseCreate(inputs, scene) {
      const type = textOf(inputs.instanceType);
      if (type !== undefined && instanceTypeTrouble(type, scene.scope) === 'unknown') {
        throw awsError(
          'creating EC2 Launch Template',
          'EC2 CreateLaunchTemplate',
          400,
          'InvalidParameterValue',
          `Invalid value '${type}' for InstanceType.`,
        );
      }
      if (scene.find('aws:ec2/launchTemplate:LaunchTemplate').some((other) => other.inputs.name === inputs.name)) {
        throw awsError(
          'creating EC2 Launch Template',
          'EC2 CreateLaunchTemplate',
          400,
          'InvalidLaunchTemplateName.AlreadyExistsException',
          'Launch template name already in use.',
        );
      }
    },
  },
};

function securityGroupRule(): ResourceRules {
  return {
    replaceOn: ['securityGroupId'],
    id: () => `sgr-${newHex(17)}`,
    outputs: (_inputs, { id, scene }) => ({ securityGroupRuleId: id, arn: ec2Arn('security-group-rule', id, scene) }),
    refuseCreate(inputs, scene) {
      const id = textOf(inputs.securityGroupId) ?? '';
      const isKnown =
        scene.find(SECURITY_GROUP).some((group) => group.id === id) ||
        scene.find(VPC).some(({ outputs }) => outputs.defaultSecurityGroupId === id) ||
        scene.find(CLUSTER).some(({ outputs }) => objectOf(outputs.vpcConfig).clusterSecurityGroupId === id);
      if (!isKnown) {
        throw awsError(
          'creating VPC Security Group Rule',
          'EC2 AuthorizeSecurityGroupIngress',
          400,
          'InvalidGroup.NotFound',
          `The security group '${id}' does not exist`,
        );
      }
    },
  };
}

function refuseSubnet(inputs: Properties, scene: Scene): void {
  const call = ['creating EC2 Subnet', 'EC2 CreateSubnet', 400] as const;
  const vpc = requireVpc(textOf(inputs.vpcId) ?? '', scene, call[0], call[1]);
  const zone = textOf(inputs.availabilityZone);
  if (zone !== undefined && !zonesOf(scene.scope).includes(zone)) {
    throw awsError(
      ...call,
      'InvalidParameterValue',
      `Value (${zone}) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: ${zonesOf(scene.scope).join(', ')}.`,
    );
  }
  const text = textOf(inputs.cidrBlock);
  if (text === undefined) return;
  const cidr = parseCidr(text);
  if (!cidr)
    throw awsError(
      ...call,
      'InvalidParameterValue',
      `Value (${text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.`,
    );
  const outer = parseCidr(textOf(vpc.inputs.cidrBlock) ?? '');
  if (cidr.prefix > 28 || (outer && !isInside(cidr, outer))) {
    throw awsError(...call, 'InvalidSubnet.Range', `The CIDR '${text}' is invalid.`);
  }
  const others = scene.find(SUBNET).filter((other) => other.inputs.vpcId === vpc.id);
  if (others.some((other) => overlaps(parseCidr(textOf(other.inputs.cidrBlock) ?? '0.0.0.0/32')!, cidr))) {
    throw awsError(...call, 'InvalidSubnet.Conflict', `The CIDR '${text}' conflicts with another subnet`);
  }
}

function requireVpc(vpcId: string, scene: Scene, what: string, call: string): CloudResource {
  const vpc = scene.find(VPC).find(({ id }) => id === vpcId);
  if (!vpc) throw awsError(what, call, 400, 'InvalidVpcID.NotFound', `The vpc ID '${vpcId}' does not exist`);
  return vpc;
}

function requireTarget(route: Properties, scene: Scene): void {
  const gatewayId = textOf(route.gatewayId);
  const natId = textOf(route.natGatewayId);
  if (
    gatewayId !== undefined &&
    gatewayId.startsWith('igw-') &&
    !scene.find(GATEWAY).some(({ id }) => id === gatewayId)
  ) {
    throw awsError(
      'creating EC2 Route',
      'EC2 CreateRoute',
      400,
      'InvalidInternetGatewayID.NotFound',
      `The internetGateway ID '${gatewayId}' does not exist`,
    );
  }
  if (natId !== undefined && natId !== '' && !scene.find(NAT).some(({ id }) => id === natId)) {
    throw awsError(
      'creating EC2 Route',
      'EC2 CreateRoute',
      400,
      'InvalidNatGatewayID.NotFound',
      `The natGateway ID '${natId}' does not exist`,
    );
  }
}

function dependency(noun: string, call: string, kind: string, id: string) {
  return awsError(
    `deleting EC2 ${noun} (${id})`,
    `EC2 ${call}`,
    400,
    'DependencyViolation',
    `The ${kind} '${id}' has dependencies and cannot be deleted.`,
  );
}

function ec2Arn(kind: string, id: string, { scope }: Scene): string {
  return `arn:aws:ec2:${scope}:${ACCOUNT_ID}:${kind}/${id}`;
}
