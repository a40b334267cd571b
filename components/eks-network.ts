/** The network of an EKS cluster: private subnets for nodes, public ones for the gateways through which nodes reach out. Nothing reaches in. */
import { Eip } from '@pulumi/aws/ec2/eip.js';
import { InternetGateway } from '@pulumi/aws/ec2/internetGateway.js';
import { NatGateway } from '@pulumi/aws/ec2/natGateway.js';
import { Route } from '@pulumi/aws/ec2/route.js';
import { RouteTable } from '@pulumi/aws/ec2/routeTable.js';
import { RouteTableAssociation } from '@pulumi/aws/ec2/routeTableAssociation.js';
import { SecurityGroup } from '@pulumi/aws/ec2/securityGroup.js';
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import { VpcEndpoint } from '@pulumi/aws/ec2/vpcEndpoint.js';
import { getAvailabilityZonesOutput } from '@pulumi/aws/getAvailabilityZones.js';
import { SecurityGroupIngressRule } from '@pulumi/aws/vpc/securityGroupIngressRule.js';
import type { Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions, type Resource } from '@pulumi/pulumi/resource.js';
import { cutCidr, formatCidr, parseCidr, type Cidr } from '../domain/cidr.ts';
import { formatTags, type StackTags } from '../domain/stack-tags.ts';

export interface EksNetworkArgs {
  tags: StackTags;
  /** AWS region. */
  region: string;
  /** A /16 to /20; half of it becomes private subnets. @default 10.60.0.0/16 (free) */
  cidr?: string;
  /** 2 or 3. @default 3 (free; traffic between zones is $0.01 per GB and direction) */
  zoneCount?: number;
  /** One gateway ($0.045 per hour), one in each zone, or none: nodes then reach AWS only, by endpoints ($0.01 per hour, zone and service). @default single */
  nat?: 'single' | 'per_zone' | 'none';
}

/** What nodes without a way out need of AWS. */
const ENDPOINT_SERVICES = ['ec2', 'ecr.api', 'ecr.dkr', 'eks', 'eks-auth', 'logs', 'sts'];

export class EksNetwork extends ComponentResource {
  declare readonly vpcId: Output<string>;
  declare readonly subnetIds: Output<string>[];
  /** Nodes are of use only when these are there, and must go before them. */
  declare readonly waysOut: Resource[];

  constructor(name: string, args: EksNetworkArgs, options?: ComponentResourceOptions) {
    super('muster:eks:Network', name, {}, options);
    const cidr = parseCidr(args.cidr ?? '10.60.0.0/16');
    if (!cidr) throw new RangeError(`cidr: "${args.cidr}" is no IPv4 network`);
    const tagsOf = (part: string) => ({ ...formatTags(args.tags, name), Name: `${name}-${part}` });
    const zones = zoneNames(args.zoneCount ?? 3, { parent: this });
    const vpc = new Vpc(
      `${name}-vpc`,
      { cidrBlock: formatCidr(cidr), enableDnsHostnames: true, enableDnsSupport: true, tags: tagsOf('vpc') },
      { parent: this },
    );
    const subnets = zones.map((zone, index) =>
      this.#makePrivateSubnet(name, vpc, zone, privateCidr(cidr, index), tagsOf),
    );
    const tables = subnets.map(({ table }) => table);
    const nat = args.nat ?? 'single';
    this.vpcId = vpc.id;
    this.subnetIds = subnets.map(({ subnet }) => subnet.id);
    this.waysOut = [
      new VpcEndpoint(
        `${name}-s3`,
        {
          vpcId: vpc.id,
          serviceName: `com.amazonaws.${args.region}.s3`,
          vpcEndpointType: 'Gateway',
          routeTableIds: tables.map((table) => table.id),
          tags: tagsOf('s3'),
        },
        { parent: this },
      ),
      ...subnets.map(({ association }) => association),
      ...(nat === 'none'
        ? this.#makeEndpoints(name, args.region, vpc, formatCidr(cidr), tagsOf)
        : this.#makeGateways(name, vpc, cidr, zones, tables, nat, tagsOf)),
    ];
    this.registerOutputs({ vpcId: this.vpcId, subnetIds: this.subnetIds });
  }

  #makePrivateSubnet(name: string, vpc: Vpc, zone: Zone, cidr: Cidr, tagsOf: TagsOf) {
    const part = `private-${zone.index + 1}`;
    const subnet = new Subnet(
      `${name}-${part}`,
      {
        vpcId: vpc.id,
        cidrBlock: formatCidr(cidr),
        availabilityZone: zone.name,
        tags: { ...tagsOf(part), 'kubernetes.io/role/internal-elb': '1' },
      },
      { parent: this },
    );
    const table = new RouteTable(`${name}-${part}`, { vpcId: vpc.id, tags: tagsOf(part) }, { parent: this });
    const association = new RouteTableAssociation(
      `${name}-${part}`,
      { subnetId: subnet.id, routeTableId: table.id },
      { parent: this },
    );
    return { subnet, table, association };
  }

  #makeGateways(
    name: string,
    vpc: Vpc,
    cidr: Cidr,
    zones: Zone[],
    tables: RouteTable[],
    nat: 'single' | 'per_zone',
    tagsOf: TagsOf,
  ): Resource[] {
    const internet = new InternetGateway(
      `${name}-internet`,
      { vpcId: vpc.id, tags: tagsOf('internet') },
      { parent: this },
    );
    const table = new RouteTable(`${name}-public`, { vpcId: vpc.id, tags: tagsOf('public') }, { parent: this });
    const out = new Route(
      `${name}-public`,
      { routeTableId: table.id, destinationCidrBlock: '0.0.0.0/0', gatewayId: internet.id },
      { parent: this },
    );
    const gateways = zones.slice(0, nat === 'single' ? 1 : zones.length).map((zone) => {
      const part = `public-${zone.index + 1}`;
      const subnet = new Subnet(
        `${name}-${part}`,
        {
          vpcId: vpc.id,
          cidrBlock: formatCidr(publicCidr(cidr, zone.index)),
          availabilityZone: zone.name,
          tags: { ...tagsOf(part), 'kubernetes.io/role/elb': '1' },
        },
        { parent: this },
      );
      new RouteTableAssociation(`${name}-${part}`, { subnetId: subnet.id, routeTableId: table.id }, { parent: this });
      const address = new Eip(
        `${name}-nat-${zone.index + 1}`,
        { domain: 'vpc', tags: tagsOf(`nat-${zone.index + 1}`) },
        { parent: this, dependsOn: [internet] },
      );
      return new NatGateway(
        `${name}-nat-${zone.index + 1}`,
        { allocationId: address.id, subnetId: subnet.id, tags: tagsOf(`nat-${zone.index + 1}`) },
        { parent: this, dependsOn: [out] },
      );
    });
    return tables.map(
      (privateTable, index) =>
        new Route(
          `${name}-private-${index + 1}`,
          {
            routeTableId: privateTable.id,
            destinationCidrBlock: '0.0.0.0/0',
            natGatewayId: (gateways[index] ?? (gateways[0] as NatGateway)).id,
          },
          { parent: this },
        ),
    );
  }

  #makeEndpoints(name: string, region: string, vpc: Vpc, cidr: string, tagsOf: TagsOf): Resource[] {
    const group = new SecurityGroup(
      `${name}-endpoints`,
      { name: `${name}-endpoints`, description: 'Nodes to AWS', vpcId: vpc.id, tags: tagsOf('endpoints') },
      { parent: this },
    );
    const rule = new SecurityGroupIngressRule(
      `${name}-endpoints`,
      {
        securityGroupId: group.id,
        ipProtocol: 'tcp',
        fromPort: 443,
        toPort: 443,
        cidrIpv4: cidr,
        tags: tagsOf('endpoints'),
      },
      { parent: this },
    );
    const endpoints = ENDPOINT_SERVICES.map(
      (service) =>
        new VpcEndpoint(
          `${name}-${service.replace('.', '-')}`,
          {
            vpcId: vpc.id,
            serviceName: `com.amazonaws.${region}.${service}`,
            vpcEndpointType: 'Interface',
            privateDnsEnabled: true,
            subnetIds: this.subnetIds,
            securityGroupIds: [group.id],
            tags: tagsOf(service),
          },
          { parent: this },
        ),
    );
    return [rule, ...endpoints];
  }
}

interface Zone {
  index: number;
  name: Output<string>;
}

type TagsOf = (part: string) => Record<string, string>;

/** Names sorted, so that the same zones come first each time. Local zones have other services and are left out. */
function zoneNames(count: number, options: { parent: ComponentResource }): Zone[] {
  const { names } = getAvailabilityZonesOutput(
    { state: 'available', filters: [{ name: 'opt-in-status', values: ['opt-in-not-required'] }] },
    options,
  );
  return Array.from({ length: count }, (_, index) => ({
    index,
    name: names.apply((all) => {
      const zone = [...all].sort()[index];
      if (zone === undefined) throw new Error(`zoneCount: the region has ${all.length} zones, not ${count}`);
      return zone;
    }),
  }));
}

/** Quarters of the network, the last of which is for what is public. */
function privateCidr(cidr: Cidr, index: number): Cidr {
  return cutCidr(cidr, cidr.prefix + 2, index);
}

function publicCidr(cidr: Cidr, index: number): Cidr {
  return cutCidr(cutCidr(cidr, cidr.prefix + 2, 3), cidr.prefix + 6, index);
}
