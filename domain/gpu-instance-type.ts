/**
 * GPU instance types that clouds rent: what is in them and where they are offered. A committed table, because asking the cloud needs
 * credentials that a check of somebody's input has not. It is from the vendors' public pages and no cloud was contacted, so it ages:
 * `checkCatalogue: false` in a stack accepts what it does not know. Prices are elsewhere.
 */
import { nearestNames } from './nearest-name.ts';

export type GpuCloud = 'aws' | 'azure';

export interface GpuInstanceType {
  name: string;
  gpuModel: string;
  gpuCount: number;
  /** Of one GPU, as marketed. */
  gpuMemoryGib: number;
  regions: readonly string[];
}

/**
 * The day to which the table was brought, from https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-regions.html and
 * https://azure.microsoft.com/explore/global-infrastructure/products-by-region/
 */
export const GPU_INSTANCE_TYPES_DATE = '2026-04-24';

/** Regions as one text per family: they are read far more often than they change. */
const AWS_REGIONS = {
  g4dn:
    'us-east-1 us-east-2 us-west-1 us-west-2 ca-central-1 eu-west-1 eu-west-2 eu-west-3 eu-central-1 eu-north-1 eu-south-1 ' +
    'ap-south-1 ap-east-1 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-southeast-1 ap-southeast-2 sa-east-1 me-south-1 af-south-1',
  g5:
    'us-east-1 us-east-2 us-west-2 ca-central-1 eu-west-1 eu-west-2 eu-central-1 eu-north-1 ap-south-1 ap-northeast-1 ' +
    'ap-northeast-2 ap-southeast-2 sa-east-1 me-central-1',
  g6:
    'us-east-1 us-east-2 us-west-2 ca-central-1 eu-west-2 eu-west-3 eu-central-1 eu-central-2 eu-north-1 eu-south-2 ap-south-1 ' +
    'ap-northeast-1 ap-northeast-2 ap-southeast-2 sa-east-1 me-central-1',
  g6e: 'us-east-1 us-east-2 us-west-2 eu-central-1 eu-north-1 eu-south-2 ap-northeast-1 ap-northeast-2 me-central-1',
  p4d: 'us-east-1 us-east-2 us-west-2 eu-west-1 eu-central-1 ap-northeast-1 ap-northeast-2',
  p4de: 'us-east-1 us-west-2',
  p5: 'us-east-1 us-east-2 us-west-2 eu-north-1 eu-west-2 ap-south-1 ap-northeast-1 ap-southeast-2 sa-east-1',
  p5e: 'us-east-2 us-west-2 ap-northeast-2',
  p5en: 'us-east-1 us-east-2 us-west-2 ap-northeast-1 ap-south-1 eu-north-1 eu-south-2',
  'p6-b200': 'us-east-1 us-east-2 us-west-2',
};

const AZURE_REGIONS = {
  t4:
    'eastus eastus2 southcentralus westus2 westus3 canadacentral brazilsouth northeurope westeurope uksouth francecentral ' +
    'germanywestcentral swedencentral switzerlandnorth centralindia japaneast koreacentral southeastasia australiaeast',
  a10: 'eastus eastus2 southcentralus westus2 westus3 northeurope westeurope uksouth swedencentral japaneast southeastasia australiaeast',
  a100:
    'eastus eastus2 southcentralus westus2 westus3 canadacentral northeurope westeurope uksouth francecentral germanywestcentral ' +
    'swedencentral switzerlandnorth italynorth polandcentral centralindia japaneast koreacentral southeastasia australiaeast',
  h100: 'eastus eastus2 southcentralus westus2 westus3 canadaeast westeurope uksouth francecentral swedencentral japaneast australiaeast',
  h200: 'eastus2 southcentralus westus3 swedencentral uksouth francecentral',
};

const TABLE: Record<GpuCloud, readonly GpuInstanceType[]> = {
  aws: [
    ...family('g4dn', 'T4', 16, {
      xlarge: 1,
      '2xlarge': 1,
      '4xlarge': 1,
      '8xlarge': 1,
      '12xlarge': 4,
      '16xlarge': 1,
      metal: 8,
    }),
    ...family('g5', 'A10G', 24, {
      xlarge: 1,
      '2xlarge': 1,
      '4xlarge': 1,
      '8xlarge': 1,
      '12xlarge': 4,
      '16xlarge': 1,
      '24xlarge': 4,
      '48xlarge': 8,
    }),
    ...family('g6', 'L4', 24, {
      xlarge: 1,
      '2xlarge': 1,
      '4xlarge': 1,
      '8xlarge': 1,
      '12xlarge': 4,
      '16xlarge': 1,
      '24xlarge': 4,
      '48xlarge': 8,
    }),
    ...family('g6e', 'L40S', 48, {
      xlarge: 1,
      '2xlarge': 1,
      '4xlarge': 1,
      '8xlarge': 1,
      '12xlarge': 4,
      '16xlarge': 1,
      '24xlarge': 4,
      '48xlarge': 8,
    }),
    ...family('p4d', 'A100 SXM4', 40, { '24xlarge': 8 }),
    ...family('p4de', 'A100 SXM4', 80, { '24xlarge': 8 }),
    ...family('p5', 'H100 SXM', 80, { '4xlarge': 1, '48xlarge': 8 }),
    ...family('p5e', 'H200', 141, { '48xlarge': 8 }),
    ...family('p5en', 'H200', 141, { '48xlarge': 8 }),
    ...family('p6-b200', 'B200', 192, { '48xlarge': 8 }),
  ],
  azure: [
    azure('Standard_NC4as_T4_v3', 'T4', 1, 16, 't4'),
    azure('Standard_NC8as_T4_v3', 'T4', 1, 16, 't4'),
    azure('Standard_NC16as_T4_v3', 'T4', 1, 16, 't4'),
    azure('Standard_NC64as_T4_v3', 'T4', 4, 16, 't4'),
    azure('Standard_NV36ads_A10_v5', 'A10', 1, 24, 'a10'),
    azure('Standard_NV72ads_A10_v5', 'A10', 2, 24, 'a10'),
    azure('Standard_NC24ads_A100_v4', 'A100 PCIe', 1, 80, 'a100'),
    azure('Standard_NC48ads_A100_v4', 'A100 PCIe', 2, 80, 'a100'),
    azure('Standard_NC96ads_A100_v4', 'A100 PCIe', 4, 80, 'a100'),
    azure('Standard_ND96asr_v4', 'A100 SXM4', 8, 40, 'a100'),
    azure('Standard_ND96amsr_A100_v4', 'A100 SXM4', 8, 80, 'a100'),
    azure('Standard_NC40ads_H100_v5', 'H100 NVL', 1, 94, 'h100'),
    azure('Standard_NC80adis_H100_v5', 'H100 NVL', 2, 94, 'h100'),
    azure('Standard_ND96isr_H100_v5', 'H100 SXM', 8, 80, 'h100'),
    azure('Standard_ND96isr_H200_v5', 'H200', 8, 141, 'h200'),
  ],
};

export function findGpuInstanceType(cloud: GpuCloud, name: string): GpuInstanceType | null {
  return TABLE[cloud].find((type) => type.name === name) ?? null;
}

export function listGpuInstanceTypes(cloud: GpuCloud): readonly GpuInstanceType[] {
  return TABLE[cloud];
}

/** What is wrong with renting this type there; null: nothing that the table knows of. */
export function describeGpuTypeProblem(cloud: GpuCloud, name: string, region: string): string | null {
  const type = findGpuInstanceType(cloud, name);
  const hint = '(checkCatalogue: false accepts what the table does not know)';
  if (!type) {
    const near = nearestNames(
      name,
      TABLE[cloud].map((each) => each.name),
      3,
    );
    return `"${name}" is no GPU instance type of ${cloud} in the table of ${GPU_INSTANCE_TYPES_DATE}; near it: ${near.join(', ')} ${hint}`;
  }
  if (type.regions.includes(region)) return null;
  return `${name} (${type.gpuModel}) is not offered in ${region}; it is in ${type.regions.join(', ')} ${hint}`;
}

function family(
  name: keyof typeof AWS_REGIONS,
  gpuModel: string,
  gpuMemoryGib: number,
  sizes: Record<string, number>,
): GpuInstanceType[] {
  const regions = AWS_REGIONS[name].split(' ');
  return Object.entries(sizes).map(([size, gpuCount]) => ({
    name: `${name}.${size}`,
    gpuModel,
    gpuCount,
    gpuMemoryGib,
    regions,
  }));
}

function azure(
  name: string,
  gpuModel: string,
  gpuCount: number,
  gpuMemoryGib: number,
  regions: keyof typeof AZURE_REGIONS,
): GpuInstanceType {
  return { name, gpuModel, gpuCount, gpuMemoryGib, regions: AZURE_REGIONS[regions].split(' ') };
}
