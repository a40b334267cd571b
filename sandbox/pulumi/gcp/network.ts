/** Google's networks, subnetworks, firewalls and addresses. */
import { addressIn, overlaps, parseCidr } from '../cidr.ts';
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { hashHex } from '../names.ts';
import { listOf, objectOf, textOf, type Properties } from '../properties.ts';
import { gcpError } from './errors.ts';
import { isRegion } from './places.ts';

const NETWORK = 'gcp:compute/network:Network';
const SUBNETWORK = 'gcp:compute/subnetwork:Subnetwork';
const FIREWALL = 'gcp:compute/firewall:Firewall';
const INSTANCE = 'gcp:compute/instance:Instance';

export const GCP_NETWORK_RULES: Record<string, ResourceRules> = {
  [NETWORK]: {
    nameInput: 'name',
    replaceOn: ['autoCreateSubnetworks', 'description', 'internalIpv6Range'],
    defaults: () => ({ autoCreateSubnetworks: true, routingMode: undefined }),
    seconds: { create: [10, 20], delete: [10, 30] },
    outputs: () => ({ gatewayIpv4: '', mtu: 1460, routingMode: 'REGIONAL' }),
    refuseCreate: (inputs) => requireName(inputs, 'Network'),
    refuseDelete(network, scene) {
      const user = [SUBNETWORK, FIREWALL]
        .flatMap((type) => scene.find(type))
        .find(({ inputs }) => isReference(inputs.network, network));
      if (user) throw inUse('Network', network, user);
    },
  },
  [SUBNETWORK]: {
    nameInput: 'name',
    replaceOn: ['network', 'description', 'purpose'],
    seconds: { create: [10, 20], delete: [10, 30] },
    outputs: (inputs) => ({
      gatewayAddress: addressIn(parseCidr(String(inputs.ipCidrRange)) ?? parseCidr('10.0.0.0/20')!, 1),
      purpose: 'PRIVATE',
      stackType: 'IPV4_ONLY',
      privateIpGoogleAccess: false,
    }),
    refuseCreate(inputs, scene) {
      const what = 'Error creating Subnetwork';
      requireName(inputs, 'Subnetwork');
      const region = String(inputs.region);
      if (!isRegion(region))
        throw gcpError(what, 400, 'invalid', `Invalid value for field 'region': '${region}'. Unknown region.`);
      requireNetwork(inputs.network, scene, what);
      const text = String(inputs.ipCidrRange);
      const cidr = parseCidr(text);
      if (!cidr?.isAligned || cidr.prefix > 29) {
        throw gcpError(
          what,
          400,
          'invalid',
          `Invalid value for field 'resource.ipCidrRange': '${text}'. Must be a CIDR address range that is contained in the RFC range.`,
        );
      }
      const others = scene.find(SUBNETWORK).filter((other) => isSameNetwork(other.inputs.network, inputs.network));
      const conflict = others.find((other) =>
        overlaps(parseCidr(String(other.inputs.ipCidrRange)) ?? parseCidr('0.0.0.0/32')!, cidr),
      );
      if (conflict) {
        throw gcpError(
          what,
          400,
          'invalid',
          `Invalid IPCidrRange: ${text} conflicts with existing subnetwork '${String(conflict.inputs.name)}' in region '${String(conflict.inputs.region)}'.`,
        );
      }
    },
    refuseDelete(subnetwork, scene) {
      const user = scene
        .find(INSTANCE)
        .find(({ inputs }) =>
          listOf(inputs.networkInterfaces).some((one) => isReference(objectOf(one).subnetwork, subnetwork)),
        );
      if (user) throw inUse('Subnetwork', subnetwork, user);
    },
  },
  [FIREWALL]: {
    nameInput: 'name',
    replaceOn: ['network', 'direction'],
    seconds: { create: [8, 15], delete: [8, 15] },
    outputs: () => ({ direction: 'INGRESS', priority: 1000, enableLogging: false }),
    refuseCreate(inputs, scene) {
      requireName(inputs, 'Firewall');
      requireNetwork(inputs.network, scene, 'Error creating Firewall');
      if (listOf(inputs.allows).length === 0 && listOf(inputs.denies).length === 0) {
        throw gcpError(
          'Error creating Firewall',
          400,
          'invalid',
          "Invalid value for field 'resource': one of 'allowed' or 'denied' is needed.",
        );
      }
    },
  },
  'gcp:compute/address:Address': {
    nameInput: 'name',
    replaceOn: ['address', 'addressType', 'subnetwork', 'networkTier', 'purpose', 'ipVersion', 'prefixLength'],
    defaults: () => ({ addressType: 'EXTERNAL' }),
    seconds: { create: [3, 8], delete: [3, 8] },
    outputs: (_inputs, { id }) => ({ address: externalAddress(id), users: [], networkTier: 'PREMIUM' }),
    refuseCreate: (inputs) => requireName(inputs, 'Address'),
  },
  'gcp:compute/routerNat:RouterNat': {
    nameInput: 'name',
    replaceOn: ['router'],
    id: ({ project, region, router, name }) => [project, region, router, name].map(String).join('/'),
  },
  'gcp:compute/resourcePolicy:ResourcePolicy': {
    nameInput: 'name',
    replaceOn: [
      'instanceSchedulePolicy',
      'groupPlacementPolicy',
      'diskConsistencyGroupPolicy',
      'workloadPolicy',
      'description',
    ],
    refuseCreate: (inputs) => requireName(inputs, 'ResourcePolicy'),
  },
};

export function requireName({ name }: Properties, noun: string): void {
  if (/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/.test(String(name))) return;
  throw gcpError(
    `Error creating ${noun}`,
    400,
    'invalid',
    `Invalid value for field 'resource.name': '${String(name)}'. Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'`,
  );
}

/** `default` is a network that every project has. */
export function requireNetwork(value: unknown, scene: Scene, what: string): void {
  const text = textOf(value);
  if (text === undefined || text === 'default' || text.endsWith('/networks/default')) return;
  if (scene.find(NETWORK).some((network) => isReference(text, network))) return;
  throw gcpError(what, 404, 'notFound', `The resource 'global/networks/${text.split('/').at(-1)}' was not found`);
}

/** By name, by path or by link. */
export function isReference(value: unknown, { id, inputs, outputs }: CloudResource): boolean {
  const text = textOf(value);
  return (
    text !== undefined && (text === id || text === inputs.name || text === outputs.selfLink || text.endsWith(`/${id}`))
  );
}

function isSameNetwork(a: unknown, b: unknown): boolean {
  return String(a).split('/').at(-1) === String(b).split('/').at(-1);
}

function inUse(noun: string, resource: CloudResource, user: CloudResource) {
  return gcpError(
    `Error deleting ${noun}`,
    400,
    'resourceInUseByAnotherResource',
    `The ${noun.toLowerCase()} resource '${resource.id}' is already being used by '${user.id}'`,
  );
}

/** An address of Google's, the same for the same name. */
export function externalAddress(name: string): string {
  const mark = hashHex(name, 6);
  return ['34', ...[0, 2, 4].map((at) => String(Number.parseInt(mark.slice(at, at + 2), 16)))].join('.');
}
