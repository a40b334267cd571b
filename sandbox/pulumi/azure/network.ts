/** Azure's virtual networks and subnets. */
import { isInside, overlaps, parseCidr } from '../cidr.ts';
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { objectOf, listOf, textOf, textsOf, type Properties } from '../properties.ts';
import { azureError } from './errors.ts';

const NETWORK = 'azure-native:network:VirtualNetwork';
const SUBNET = 'azure-native:network:Subnet';
const CLUSTER = 'azure-native:containerservice:ManagedCluster';
const POOL = 'azure-native:containerservice:AgentPool';

export const AZURE_NETWORK_RULES: Record<string, ResourceRules> = {
  [NETWORK]: {
    nameInput: 'virtualNetworkName',
    maxNameLength: 64,
    replaceOn: ['location'],
    seconds: { create: [3, 8], delete: [5, 12] },
    refuseCreate(inputs) {
      for (const prefix of prefixesOf(inputs)) requireCidr(prefix);
    },
    refuseDelete(network, scene) {
      const isUsed = scene
        .find(SUBNET)
        .some((subnet) => subnet.id.startsWith(`${network.id}/`) && usersOf(subnet, scene).length > 0);
      if (isUsed)
        throw azureError(
          400,
          'InUseSubnetCannotBeDeleted',
          `Virtual network ${network.id} cannot be deleted: a subnet is in use.`,
        );
    },
    afterDelete(network, { scene, remove }) {
      for (const subnet of scene.find(SUBNET)) if (subnet.id.startsWith(`${network.id}/`)) remove(subnet);
    },
  },
  [SUBNET]: {
    nameInput: 'subnetName',
    maxNameLength: 80,
    replaceOn: ['virtualNetworkName'],
    seconds: { create: [3, 8], delete: [5, 12] },
    id: (inputs, scene) => `${networkId(inputs, scene)}/subnets/${String(inputs.subnetName)}`,
    refuseCreate(inputs, scene) {
      const network = scene.find(NETWORK).find(({ id }) => id === networkId(inputs, scene));
      const name = String(inputs.subnetName);
      if (!network)
        throw azureError(
          404,
          'ResourceNotFound',
          `The Resource 'Microsoft.Network/virtualNetworks/${String(inputs.virtualNetworkName)}' was not found.`,
        );
      for (const prefix of subnetPrefixes(inputs)) {
        const cidr = requireCidr(prefix);
        if (!prefixesOf(network.inputs).some((outer) => isInside(cidr, requireCidr(outer)))) {
          throw azureError(
            400,
            'NetcfgSubnetRangeOutsideVnet',
            `Subnet '${name}' is not valid because its IP address range is outside the IP address range of virtual network '${String(inputs.virtualNetworkName)}'.`,
          );
        }
        const isTaken = scene
          .find(SUBNET)
          .some(
            (other) =>
              other.id.startsWith(`${network.id}/`) &&
              subnetPrefixes(other.inputs).some((one) => overlaps(requireCidr(one), cidr)),
          );
        if (isTaken)
          throw azureError(
            400,
            'NetcfgSubnetRangesOverlap',
            `Subnet '${name}' is not valid because its IP address range overlaps with that of an existing subnet in virtual network '${String(inputs.virtualNetworkName)}'.`,
          );
      }
    },
    refuseDelete(subnet, scene) {
      const [user] = usersOf(subnet, scene);
      if (user)
        throw azureError(
          400,
          'InUseSubnetCannotBeDeleted',
          `Subnet ${subnet.id.split('/').at(-1)} is in use by ${user.id} and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet.`,
        );
    },
  },
};

function usersOf(subnet: CloudResource, scene: Scene): CloudResource[] {
  const clusters = scene
    .find(CLUSTER)
    .filter(({ inputs }) => listOf(inputs.agentPoolProfiles).some((pool) => objectOf(pool).vnetSubnetID === subnet.id));
  return [...clusters, ...scene.find(POOL).filter(({ inputs }) => inputs.vnetSubnetID === subnet.id)];
}

function networkId(inputs: Properties, { config }: Scene): string {
  return `/subscriptions/${String(config.subscriptionId)}/resourceGroups/${String(inputs.resourceGroupName)}/providers/Microsoft.Network/virtualNetworks/${String(inputs.virtualNetworkName)}`;
}

function prefixesOf(inputs: Properties): string[] {
  return textsOf(objectOf(inputs.addressSpace).addressPrefixes);
}

function subnetPrefixes(inputs: Properties): string[] {
  const one = textOf(inputs.addressPrefix);
  return one === undefined ? textsOf(inputs.addressPrefixes) : [one];
}

function requireCidr(text: string) {
  const cidr = parseCidr(text);
  if (!cidr?.isAligned)
    throw azureError(
      400,
      'InvalidAddressPrefixFormat',
      `Address prefix ${text} is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.`,
    );
  return cidr;
}
