/**
 * What the clouds ask for what our stacks make, on demand, Linux, in US dollars. It is a committed table, so that a preview needs no
 * account and no network; every entry says from where and from when it is. What is not in it is `unknown`, never nothing.
 *
 * Entered on 2026-11-21 from the vendors' public price pages as they are widely quoted. This machine could not open the pages
 * themselves; before a budget rests on an entry, compare it with its source.
 */
export type Cloud = 'aws' | 'azure' | 'gcp';

/** Prices of storage and keys are quoted by the month; the vendors turn a month into 730 hours. */
export type PriceUnit = 'hour' | 'month' | 'gib_month';

export interface PriceEntry {
  cloud: Cloud;
  /** `*`: the same everywhere. */
  region: string;
  sku: string;
  unit: PriceUnit;
  microUsd: bigint;
  source: string;
  /** Month of the quoted price. */
  date: string;
}

const AWS_EC2 = 'aws.amazon.com/ec2/pricing/on-demand';
const AWS_EBS = 'aws.amazon.com/ebs/pricing';
const AWS_VPC = 'aws.amazon.com/vpc/pricing';
const AWS_EKS = 'aws.amazon.com/eks/pricing';
const AWS_KMS = 'aws.amazon.com/kms/pricing';
const AZURE_VM = 'azure.microsoft.com/pricing/details/virtual-machines/linux';
const AZURE_AKS = 'azure.microsoft.com/pricing/details/kubernetes-service';
const AZURE_DISK = 'azure.microsoft.com/pricing/details/managed-disks';
const GCP_VM = 'cloud.google.com/compute/vm-instance-pricing';
const GCP_DISK = 'cloud.google.com/compute/disks-image-pricing';
const GCP_IP = 'cloud.google.com/vpc/network-pricing';
const DATE = '2026-11';

/** Regions in one row have one price. */
const AWS_US = ['us-east-1', 'us-east-2', 'us-west-2'];
const AZURE_US = ['eastus', 'eastus2', 'westus2'];
const GCP_US = ['us-central1', 'us-east1', 'us-west1'];

export const PRICE_TABLE: readonly PriceEntry[] = [
  ...entries('aws', ['*'], 'hour', AWS_EKS, { 'eks/cluster': 100_000n, 'eks/cluster-extended-support': 600_000n }),
  ...entries('aws', ['*'], 'month', AWS_KMS, { 'kms/key': 1_000_000n }),
  ...entries('aws', ['*'], 'hour', AWS_VPC, { 'vpc/public-ipv4': 5_000n }),
  ...entries('aws', AWS_US, 'hour', AWS_VPC, { 'vpc/nat-gateway': 45_000n, 'vpc/interface-endpoint': 10_000n }),
  ...entries('aws', ['eu-west-1'], 'hour', AWS_VPC, { 'vpc/nat-gateway': 48_000n }),
  ...entries('aws', ['eu-central-1'], 'hour', AWS_VPC, { 'vpc/nat-gateway': 52_000n }),
  ...entries('aws', AWS_US, 'gib_month', AWS_EBS, { 'ebs/gp3': 80_000n, 'ebs/gp2': 100_000n }),
  ...entries('aws', ['eu-west-1'], 'gib_month', AWS_EBS, { 'ebs/gp3': 88_000n, 'ebs/gp2': 110_000n }),
  ...entries('aws', AWS_US, 'hour', AWS_EC2, {
    't3.medium': 41_600n,
    't3.large': 83_200n,
    'm5.large': 96_000n,
    'm6i.large': 96_000n,
    'm6i.xlarge': 192_000n,
    'm7i.large': 100_800n,
    'm7i.xlarge': 201_600n,
    'g4dn.xlarge': 526_000n,
    'g4dn.2xlarge': 752_000n,
    'g4dn.12xlarge': 3_912_000n,
    'g5.xlarge': 1_006_000n,
    'g5.2xlarge': 1_212_000n,
    'g5.4xlarge': 1_624_000n,
    'g5.12xlarge': 5_672_000n,
    'g5.48xlarge': 16_288_000n,
    'g6.xlarge': 804_800n,
    'g6.2xlarge': 977_600n,
    'g6.12xlarge': 4_601_600n,
    'g6e.xlarge': 1_861_000n,
    'g6e.2xlarge': 2_242_080n,
    'g6e.12xlarge': 10_492_640n,
    'p4d.24xlarge': 21_957_642n,
    'p5.48xlarge': 55_040_000n,
  }),
  ...entries('aws', ['eu-west-1'], 'hour', AWS_EC2, {
    't3.medium': 45_600n,
    't3.large': 91_200n,
    'm5.large': 107_000n,
    'm6i.large': 107_000n,
    'm6i.xlarge': 214_000n,
    'm7i.large': 112_350n,
    'm7i.xlarge': 224_700n,
    'g4dn.xlarge': 587_000n,
    'g5.xlarge': 1_123_000n,
  }),
  ...entries('azure', ['*'], 'hour', AZURE_AKS, { 'aks/free': 0n, 'aks/standard': 100_000n, 'aks/premium': 600_000n }),
  ...entries('azure', AZURE_US, 'hour', AZURE_VM, {
    Standard_D2s_v5: 96_000n,
    Standard_D4s_v5: 192_000n,
    Standard_D8s_v5: 384_000n,
    Standard_NC4as_T4_v3: 526_000n,
    Standard_NC8as_T4_v3: 752_000n,
    Standard_NC16as_T4_v3: 1_204_000n,
    Standard_NC64as_T4_v3: 4_352_000n,
    Standard_NV36ads_A10_v5: 3_200_000n,
    Standard_NC24ads_A100_v4: 3_673_000n,
    Standard_NC40ads_H100_v5: 6_980_000n,
  }),
  // Premium SSD comes in sizes: the next one up is billed.
  ...entries('azure', AZURE_US, 'month', AZURE_DISK, {
    'disk/premium-64': 10_210_000n,
    'disk/premium-128': 19_710_000n,
    'disk/premium-256': 38_020_000n,
    'disk/premium-512': 73_220_000n,
    'disk/premium-1024': 135_170_000n,
  }),
  ...entries('gcp', GCP_US, 'hour', GCP_VM, {
    'e2-small': 16_751n,
    'e2-medium': 33_503n,
    'e2-standard-2': 67_006n,
    'e2-standard-4': 134_012n,
    'e2-standard-8': 268_024n,
    'n2-standard-2': 97_118n,
    'n2-standard-4': 194_236n,
    'n2-standard-8': 388_472n,
  }),
  ...entries('gcp', GCP_US, 'gib_month', GCP_DISK, {
    'disk/pd-standard': 40_000n,
    'disk/pd-balanced': 100_000n,
    'disk/pd-ssd': 170_000n,
  }),
  ...entries('gcp', ['*'], 'hour', GCP_IP, { 'ip/in-use': 5_000n, 'ip/in-use-spot': 2_500n, 'ip/reserved': 10_000n }),
];

const INDEX = new Map(PRICE_TABLE.map((entry) => [keyOf(entry.cloud, entry.region, entry.sku), entry]));

/** The entry of this region, else the one for everywhere; null: not in the table. */
export function findPrice(cloud: Cloud, region: string | null, sku: string): PriceEntry | null {
  const here = region === null ? undefined : INDEX.get(keyOf(cloud, region, sku));
  return here ?? INDEX.get(keyOf(cloud, '*', sku)) ?? null;
}

function entries(
  cloud: Cloud,
  regions: readonly string[],
  unit: PriceUnit,
  source: string,
  prices: Record<string, bigint>,
): PriceEntry[] {
  return regions.flatMap((region) =>
    Object.entries(prices).map(([sku, microUsd]) => ({ cloud, region, sku, unit, microUsd, source, date: DATE })),
  );
}

function keyOf(cloud: Cloud, region: string, sku: string): string {
  return `${cloud}/${region}/${sku}`;
}
