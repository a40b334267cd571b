/**
 * What a planned resource will cost, by its inputs. Three answers that are not the same: an amount (which may be zero, when the cloud
 * asks nothing for it), `usage` (paid by what passes through it, which nobody knows before), and `unknown`.
 */
import type { MicroUsd } from '../money.ts';
import { findPrice, type Cloud, type PriceEntry } from './price-table.ts';

export interface PricedInputs {
  type: string;
  /** As the engine shows them in a preview: what is not known yet is absent or the engine's mark of the unknown. */
  inputs: Record<string, unknown>;
}

export interface PriceContext {
  /** Where resources are that do not say it themselves. null: not known. */
  region: string | null;
}

export type ResourcePrice =
  | { kind: 'amount'; microUsdPerHour: MicroUsd; parts: PricePart[] }
  | { kind: 'usage'; why: string }
  /** `atMost`: what it costs at the worst, where that is known. */
  | { kind: 'unknown'; why: string; atMostMicroUsdPerHour?: MicroUsd };

export interface PricePart {
  sku: string;
  quantity: number;
  microUsdPerHour: MicroUsd;
  source: string;
  date: string;
}

/** A month of the vendors' price lists. */
const HOURS_PER_MONTH = 730n;

type Rule = (inputs: Record<string, unknown>, context: PriceContext) => ResourcePrice;

const RULES: Record<string, Rule> = {
  'aws:eks/cluster:Cluster': (inputs, context) => sum('aws', regionOf(inputs, context), [['eks/cluster', 1]]),
  'aws:eks/nodeGroup:NodeGroup': priceNodeGroup,
  'aws:ec2/natGateway:NatGateway': (inputs, context) => sum('aws', regionOf(inputs, context), [['vpc/nat-gateway', 1]]),
  'aws:ec2/eip:Eip': (inputs, context) => sum('aws', regionOf(inputs, context), [['vpc/public-ipv4', 1]]),
  'aws:kms/key:Key': (inputs, context) => sum('aws', regionOf(inputs, context), [['kms/key', 1]]),
  'azure-native:containerservice:ManagedCluster': priceManagedCluster,
  'azure-native:containerservice:AgentPool': (inputs, context) => priceAgentPool(inputs, locationOf(inputs, context)),
  'gcp:compute/instance:Instance': priceGcpInstance,
  'gcp:compute/disk:Disk': (inputs, context) =>
    sum('gcp', gcpRegionOf(inputs, context), [
      [`disk/${textOf(inputs['type']) ?? 'pd-standard'}`, numberOf(inputs['size'])],
    ]),
  // A gateway endpoint costs nothing; an interface costs by the zone it is in.
  'aws:ec2/vpcEndpoint:VpcEndpoint': (inputs, context) =>
    inputs['vpcEndpointType'] === 'Interface'
      ? sum('aws', regionOf(inputs, context), [['vpc/interface-endpoint', listLength(inputs['subnetIds'])]])
      : amount([]),
  // Kept in two zones, and billed for both.
  'gcp:compute/regionDisk:RegionDisk': (inputs, context) => {
    const size = numberOf(inputs['size']);
    const type = textOf(inputs['type']) ?? 'pd-standard';
    return sum('gcp', gcpRegionOf(inputs, context), [[`disk/${type}`, size === null ? null : 2 * size]]);
  },
  'gcp:compute/address:Address': (inputs, context) => sum('gcp', gcpRegionOf(inputs, context), [['ip/reserved', 1]]),
};

const USAGE: Record<string, string> = {
  'aws:cloudwatch/logGroup:LogGroup': 'log data that is taken in and kept',
  'aws:s3/bucket:Bucket': 'stored bytes and requests',
  'azure-native:monitor:DiagnosticSetting': 'log data that is taken in',
  // A gateway is also paid by the VM it serves, which nobody knows before.
  'gcp:compute/routerNat:RouterNat': 'VMs served and data',
  'gcp:storage/bucket:Bucket': 'stored bytes and requests',
  'azure-native:operationalinsights:Workspace': 'log data that is taken in and kept',
};

/** The clouds ask nothing for these themselves. A trailing dot or slash stands for a whole family. */
const FREE = [
  'aws:ec2/vpc:',
  'aws:ec2/subnet:',
  'aws:ec2/internetGateway:',
  'aws:ec2/routeTable:',
  'aws:ec2/route:',
  'aws:ec2/routeTableAssociation:',
  'aws:ec2/securityGroup:',
  'aws:ec2/securityGroupRule:',
  'aws:vpc/securityGroup',
  'aws:ec2/launchTemplate:',
  'aws:iam/',
  'aws:eks/addon:',
  'aws:eks/accessEntry:',
  'aws:eks/accessPolicyAssociation:',
  'aws:eks/podIdentityAssociation:',
  'aws:kms/alias:',
  // Queries are paid by use, and little.
  'aws:route53/record:',
  'aws:s3/bucket',
  'azure-native:resources:ResourceGroup',
  'azure-native:network:VirtualNetwork',
  'azure-native:network:Subnet',
  'azure-native:network:NetworkSecurityGroup',
  'azure-native:managedidentity:',
  'azure-native:authorization:',
  'gcp:compute/network:',
  'gcp:compute/subnetwork:',
  'gcp:compute/firewall:',
  'gcp:compute/router:',
  'gcp:serviceaccount/',
  'gcp:serviceAccount/',
  'gcp:projects/',
  'gcp:storage/bucketIAM',
  // What runs on a cluster runs on nodes that are priced already.
  'kubernetes:',
  'random:',
  'command:',
  'muster:',
  // Hosts of one's own.
  'pulumi-nodejs:dynamic/ssh-host:',
  'pulumi-nodejs:dynamic/k3s:',
  'pulumi-nodejs:dynamic/standby-agent:',
];

export function priceResource(resource: PricedInputs, context: PriceContext): ResourcePrice {
  const rule = RULES[resource.type];
  if (rule) return rule(resource.inputs, context);
  const usage = USAGE[resource.type];
  if (usage !== undefined) return { kind: 'usage', why: `paid by use: ${usage}` };
  if (FREE.some((prefix) => resource.type.startsWith(prefix))) return amount([]);
  return { kind: 'unknown', why: `no price is known of ${resource.type}` };
}

/** Nodes at their desired size, at the dearest of the types they may have, with their disks. */
function priceNodeGroup(inputs: Record<string, unknown>, context: PriceContext): ResourcePrice {
  const nodes = numberOf(recordOf(inputs['scalingConfig'])['desiredSize']);
  if (nodes === null) return { kind: 'unknown', why: 'the number of nodes is not known yet' };
  if (nodes === 0) return amount([]);
  const types = Array.isArray(inputs['instanceTypes']) ? inputs['instanceTypes'].map(String) : ['t3.medium'];
  const region = regionOf(inputs, context);
  const dearest = dearestOf('aws', region, types);
  if (dearest === null) return unpriced('aws', region, types.join(', '));
  // A launch template brings its own disk, which is told by the tags that our components put beside it.
  const diskGib = numberOf(inputs['diskSize']) ?? (inputs['launchTemplate'] === undefined ? 20 : null);
  if (diskGib === null) {
    const template = numberOf(recordOf(inputs['tags'])['muster-disk-gib']);
    if (template === null) return { kind: 'unknown', why: 'the disk of its launch template is not known' };
    return priceNodes(template);
  }
  return priceNodes(diskGib);

  function priceNodes(gib: number): ResourcePrice {
    const price = sum('aws', region, [
      [dearest as string, nodes],
      ['ebs/gp3', (nodes as number) * gib],
    ]);
    return inputs['capacityType'] === 'SPOT' ? asSpot(price) : price;
  }
}

/** A spot price moves below the price on demand. */
function asSpot(price: ResourcePrice): ResourcePrice {
  if (price.kind !== 'amount') return price;
  return { kind: 'unknown', why: 'spot prices move', atMostMicroUsdPerHour: price.microUsdPerHour };
}

/** What a ceiling has to count: the price, or the worst it can be; null: nobody knows. */
export function worstPrice(price: ResourcePrice): MicroUsd | null {
  if (price.kind === 'amount') return price.microUsdPerHour;
  return price.kind === 'unknown' ? (price.atMostMicroUsdPerHour ?? null) : null;
}

function priceManagedCluster(inputs: Record<string, unknown>, context: PriceContext): ResourcePrice {
  const location = locationOf(inputs, context);
  const tier = (textOf(recordOf(inputs['sku'])['tier']) ?? 'Free').toLowerCase();
  const pools = Array.isArray(inputs['agentPoolProfiles']) ? inputs['agentPoolProfiles'].map(recordOf) : [];
  return add([sum('azure', location, [[`aks/${tier}`, 1]]), ...pools.map((pool) => priceAgentPool(pool, location))]);
}

function priceAgentPool(inputs: Record<string, unknown>, location: string | null): ResourcePrice {
  const nodes = numberOf(inputs['count']);
  const vmSize = textOf(inputs['vmSize']);
  if (nodes === null || vmSize === null)
    return { kind: 'unknown', why: 'the number or size of the nodes is not known yet' };
  if (nodes === 0 || recordOf(inputs['powerState'])['code'] === 'Stopped') return amount([]);
  const items: [string, number | null][] = [[vmSize, nodes]];
  if (inputs['osDiskType'] !== 'Ephemeral') {
    const size = premiumSize(numberOf(inputs['osDiskSizeGB']) ?? 128);
    if (size === null) return { kind: 'unknown', why: 'no price is known of so large a disk' };
    items.push([`disk/premium-${size}`, nodes]);
  }
  const price = sum('azure', location, items);
  return inputs['scaleSetPriority'] === 'Spot' ? asSpot(price) : price;
}

/** Premium SSD is billed by the next size up. */
function premiumSize(gib: number): number | null {
  return [64, 128, 256, 512, 1024].find((size) => size >= gib) ?? null;
}

/** A stopped one costs its disk and its address, no more. */
function priceGcpInstance(inputs: Record<string, unknown>, context: PriceContext): ResourcePrice {
  const region = gcpRegionOf(inputs, context);
  const isSpot = recordOf(inputs['scheduling'])['provisioningModel'] === 'SPOT';
  const isRunning = inputs['desiredStatus'] !== 'TERMINATED';
  const items: [string, number | null][] = [];
  if (isRunning) items.push([textOf(inputs['machineType']) ?? 'unknown', 1]);
  const disk = recordOf(recordOf(inputs['bootDisk'])['initializeParams']);
  if (Object.keys(disk).length > 0)
    items.push([`disk/${textOf(disk['type']) ?? 'pd-standard'}`, numberOf(disk['size']) ?? 10]);
  const interfaces = Array.isArray(inputs['networkInterfaces']) ? inputs['networkInterfaces'].map(recordOf) : [];
  const addresses = interfaces.flatMap((one) => (Array.isArray(one['accessConfigs']) ? one['accessConfigs'] : []));
  if (addresses.length > 0 && isRunning) items.push(['ip/in-use', addresses.length]);
  const price = sum('gcp', region, items);
  return isRunning && isSpot ? asSpot(price) : price;
}

function sum(
  cloud: Cloud,
  region: string | null,
  items: readonly [sku: string, quantity: number | null][],
): ResourcePrice {
  const parts: PricePart[] = [];
  for (const [sku, quantity] of items) {
    if (quantity === null) return { kind: 'unknown', why: `how much of ${sku} is not known yet` };
    const entry = findPrice(cloud, region, sku);
    if (!entry) return unpriced(cloud, region, sku);
    parts.push({ sku, quantity, microUsdPerHour: perHour(entry, quantity), source: entry.source, date: entry.date });
  }
  return amount(parts);
}

function add(prices: readonly ResourcePrice[]): ResourcePrice {
  const open = prices.find((price) => price.kind !== 'amount');
  if (open) return open;
  return amount(prices.flatMap((price) => (price.kind === 'amount' ? price.parts : [])));
}

function amount(parts: PricePart[]): ResourcePrice {
  return { kind: 'amount', microUsdPerHour: parts.reduce((total, part) => total + part.microUsdPerHour, 0n), parts };
}

function unpriced(cloud: Cloud, region: string | null, sku: string): ResourcePrice {
  return { kind: 'unknown', why: `no price is known of ${sku} at ${cloud} in ${region ?? 'an unknown region'}` };
}

/** Rounded up, so that a price is never shown too low. */
function perHour(entry: PriceEntry, quantity: number): MicroUsd {
  const total = entry.microUsd * BigInt(quantity);
  return entry.unit === 'hour' ? total : (total + HOURS_PER_MONTH - 1n) / HOURS_PER_MONTH;
}

function dearestOf(cloud: Cloud, region: string | null, skus: readonly string[]): string | null {
  const found = skus.map((sku) => findPrice(cloud, region, sku));
  if (found.length === 0 || found.includes(null)) return null;
  return (found as PriceEntry[]).reduce((dearest, entry) => (entry.microUsd > dearest.microUsd ? entry : dearest)).sku;
}

function regionOf(inputs: Record<string, unknown>, context: PriceContext): string | null {
  return textOf(inputs['region']) ?? context.region;
}

function locationOf(inputs: Record<string, unknown>, context: PriceContext): string | null {
  return (textOf(inputs['location']) ?? context.region)?.toLowerCase().replaceAll(' ', '') ?? null;
}

/** `us-central1-a` is in `us-central1`. */
function gcpRegionOf(inputs: Record<string, unknown>, context: PriceContext): string | null {
  const region = textOf(inputs['region']);
  if (region !== null) return region;
  const zone = textOf(inputs['zone']) ?? context.region;
  return zone?.replace(/-[a-z]$/, '') ?? null;
}

/** The engine's mark of what only a cloud can tell. */
const UNKNOWN_VALUE = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' && value !== UNKNOWN_VALUE ? value : null;
}

function numberOf(value: unknown): number | null {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isInteger(number) && number >= 0 ? number : null;
}

function listLength(value: unknown): number | null {
  return Array.isArray(value) ? value.length : null;
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
