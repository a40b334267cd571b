/**
 * What the simulated vendor sells: instance types, regions, and how many of a type a region has. Names and form follow the vendor;
 * some types are invented, so that there is enough to choose from.
 */
import { type GpuModel, MODELS } from '../gpu-models.ts';
import { createRandom } from '../random.ts';

export interface InstanceType {
  name: string;
  /** As the vendor shows it: "A10 (24 GB PCIe)". */
  gpuDescription: string;
  gpu: GpuModel | null;
  gpus: number;
  centsPerHour: number;
  vcpus: number;
  memoryGib: number;
  storageGib: number;
}

export const REGIONS: Readonly<Record<string, string>> = {
  'us-west-1': 'California, USA',
  'us-west-2': 'Arizona, USA',
  'us-west-3': 'Utah, USA',
  'us-east-1': 'Virginia, USA',
  'us-east-2': 'Washington DC, USA',
  'us-east-3': 'Washington DC, USA',
  'us-south-1': 'Texas, USA',
  'us-south-2': 'North Texas, USA',
  'us-south-3': 'Central Texas, USA',
  'us-midwest-1': 'Illinois, USA',
  'us-midwest-2': 'Ohio, USA',
  'europe-central-1': 'Germany',
  'asia-south-1': 'India',
  'asia-northeast-1': 'Osaka, Japan',
  'asia-northeast-2': 'Tokyo, Japan',
  'australia-east-1': 'Australia',
  'me-west-1': 'Israel',
};

type Row = readonly [
  suffix: string,
  description: string,
  gpu: GpuModel,
  centsPerGpu: number,
  counts: readonly number[],
];

const ROWS: readonly Row[] = [
  ['rtx4090', 'RTX 4090 (24 GB PCIe)', MODELS.rtx4090, 69, [1, 2, 4]],
  ['rtx6000', 'RTX 6000 (24 GB)', MODELS.rtx6000, 50, [1]],
  ['a10', 'A10 (24 GB PCIe)', MODELS.a10, 75, [1, 2, 4]],
  ['a6000', 'A6000 (48 GB PCIe)', MODELS.a6000, 80, [1, 2, 4]],
  ['l40s', 'L40S (48 GB PCIe)', MODELS.l40s, 119, [1, 4]],
  ['v100', 'Tesla V100 (16 GB)', MODELS.v100, 55, [8]],
  ['a100', 'A100 (40 GB PCIe)', MODELS.a100pcie40, 129, [1, 2, 4]],
  ['a100_sxm4', 'A100 (40 GB SXM4)', MODELS.a100sxm40, 129, [1, 8]],
  ['a100_80gb_sxm4', 'A100 (80 GB SXM4)', MODELS.a100sxm, 179, [1, 8]],
  ['h100_pcie', 'H100 (80 GB PCIe)', MODELS.h100pcie, 249, [1]],
  ['h100_sxm5', 'H100 (80 GB SXM5)', MODELS.h100sxm, 299, [1, 2, 4, 8]],
  ['gh200', 'GH200 (96 GB)', MODELS.gh200, 149, [1]],
  ['b200_sxm6', 'B200 (180 GB SXM6)', MODELS.b200, 499, [1, 2, 4, 8]],
];

/** A type without GPUs: it is in the vendor's list, and no offer of ours. */
const CPU_TYPE: InstanceType = {
  name: 'cpu_4x_general',
  gpuDescription: 'N/A',
  gpu: null,
  gpus: 0,
  centsPerHour: 8,
  vcpus: 4,
  memoryGib: 16,
  storageGib: 100,
};

export const INSTANCE_TYPES: ReadonlyMap<string, InstanceType> = new Map(
  [...ROWS.flatMap(toTypes), CPU_TYPE].map((type) => [type.name, type]),
);

/** Most types are in most regions; a few regions lack a type for good. */
const REGIONS_WITH_TYPE = 0.6;
const MACHINES_PER_REGION = { from: 2, to: 8 };

/** How many machines of the type the region has, always the same for one seed. */
export function capacityOf(seed: number, typeName: string, region: string): number {
  const random = createRandom(seed, `lambda capacity ${typeName} ${region}`);
  // The fixture's region always has the cheap single ones, so that there is always something to rent.
  const isCertain = region === 'us-west-1' && typeName.startsWith('gpu_1x_');
  if (random.next() > REGIONS_WITH_TYPE && !isCertain) return 0;
  return random.int(MACHINES_PER_REGION.from, MACHINES_PER_REGION.to);
}

function toTypes([suffix, gpuDescription, gpu, centsPerGpu, counts]: Row): InstanceType[] {
  return counts.map((gpus) => ({
    name: `gpu_${gpus}x_${suffix}`,
    gpuDescription,
    gpu,
    gpus,
    centsPerHour: centsPerGpu * gpus,
    vcpus: Math.min(26 * gpus, 208),
    memoryGib: Math.min(200 * gpus, 1800),
    storageGib: 512 * gpus,
  }));
}
