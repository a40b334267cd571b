/** The network of an AKS cluster, with the one subnet that its nodes are in. Pods have addresses of an overlay. */
import { Subnet } from '@pulumi/azure-native/network/subnet.js';
import { VirtualNetwork } from '@pulumi/azure-native/network/virtualNetwork.js';
import type { Input, Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions } from '@pulumi/pulumi/resource.js';
import { cutCidr, formatCidr, parseCidr } from '../domain/cidr.ts';
import { formatTags, type StackTags } from '../domain/stack-tags.ts';

export interface AksNetworkArgs {
  tags: StackTags;
  resourceGroupName: Input<string>;
  location: string;
  /** Half of it becomes the nodes' subnet. @default 10.61.0.0/16 (free) */
  cidr?: string;
}

export class AksNetwork extends ComponentResource {
  declare readonly subnetId: Output<string>;

  constructor(name: string, args: AksNetworkArgs, options?: ComponentResourceOptions) {
    super('muster:aks:Network', name, {}, options);
    const cidr = parseCidr(args.cidr ?? '10.61.0.0/16');
    if (!cidr) throw new RangeError(`cidr: "${args.cidr}" is no IPv4 network`);
    const { resourceGroupName, location } = args;
    const network = new VirtualNetwork(
      `${name}-vnet`,
      {
        virtualNetworkName: `${name}-vnet`,
        resourceGroupName,
        location,
        addressSpace: { addressPrefixes: [formatCidr(cidr)] },
        tags: formatTags(args.tags, name),
      },
      // Subnets are resources of their own; the network lists them all the same.
      { parent: this, ignoreChanges: ['subnets'] },
    );
    const subnet = new Subnet(
      `${name}-nodes`,
      {
        subnetName: 'nodes',
        resourceGroupName,
        virtualNetworkName: network.name,
        addressPrefix: formatCidr(cutCidr(cidr, cidr.prefix + 1, 0)),
        // Nodes reach out through the cluster's load balancer, not through an address that Azure lends unasked.
        defaultOutboundAccess: false,
      },
      { parent: this },
    );
    this.subnetId = subnet.id;
    this.registerOutputs({ subnetId: this.subnetId });
  }
}
