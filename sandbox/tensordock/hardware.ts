/** What TensorDock's hosts are: always the same for one seed. Who holds their GPUs is stock.ts. The figures are invented. */
import { type GpuModel, MODELS } from '../gpu-models.ts';
import { createRandom, type Random } from '../random.ts';

export interface SoldGpu {
  /** What a purchase names. */
  v0Name: string;
  displayName: string;
  model: GpuModel;
  /** Share of the hosts. */
  weight: number;
  /** Dollars per GPU and hour, from … to. */
  priceUsd: readonly [number, number];
  /** GPUs in one host. */
  counts: readonly number[];
  ramGbPerGpu: number;
}

export interface Place {
  id: string;
  city: string;
  stateprovince: string;
  country: string;
  /** 0 to 4; 0 is somebody's home. */
  tier: number;
  gbps: number;
}

export interface Host {
  id: string;
  place: Place;
  gpu: SoldGpu;
  totalGpus: number;
  /** GPUs that others than this account hold. */
  takenByOthers: number;
  vcpusPerGpu: number;
  storageGbPerGpu: number;
  priceUsd: number;
  uptimePercentage: number;
  hasPublicIps: boolean;
  freePorts: number[];
  /** Hosts that are not shown are sold by their place only. */
  isShown: boolean;
  organization: number;
}

export const PRICING = { per_vcpu_hr: 0.003, per_gb_ram_hr: 0.002, per_gb_storage_hr: 0.00005 };

/** Single RTX 4090s are the largest share, far below a dollar an hour. */
export const SOLD_GPUS: readonly SoldGpu[] = [
  sold(
    'geforcertx4090-pcie-24gb',
    'NVIDIA GeForce RTX 4090 PCIe 24GB',
    MODELS.rtx4090,
    40,
    [0.33, 0.48],
    [2, 4, 8],
    48,
  ),
  sold('geforcertx3090-pcie-24gb', 'NVIDIA GeForce RTX 3090 PCIe 24GB', MODELS.rtx3090, 12, [0.18, 0.26], [2, 4], 48),
  sold('geforcertx5090-pcie-32gb', 'NVIDIA GeForce RTX 5090 PCIe 32GB', MODELS.rtx5090, 8, [0.55, 0.75], [2, 4], 64),
  sold('rtxa4000-pcie-16gb', 'NVIDIA RTX A4000 PCIe 16GB', MODELS.a4000, 6, [0.09, 0.13], [2, 4, 8], 32),
  sold('rtxa5000-pcie-24gb', 'NVIDIA RTX A5000 PCIe 24GB', MODELS.a5000, 5, [0.15, 0.22], [2, 4], 48),
  sold('rtxa6000-pcie-48gb', 'NVIDIA RTX A6000 PCIe 48GB', MODELS.a6000, 6, [0.4, 0.55], [2, 4, 8], 64),
  sold('l40-pcie-48gb', 'NVIDIA L40 PCIe 48GB', MODELS.l40, 3, [0.9, 1.1], [2, 4], 64),
  sold('rtx6000ada-pcie-48gb', 'NVIDIA RTX 6000 Ada PCIe 48GB', MODELS.rtx6000ada, 3, [0.75, 0.95], [2, 4], 64),
  sold('v100-sxm2-16gb', 'NVIDIA Tesla V100 SXM2 16GB', MODELS.v100, 3, [0.15, 0.22], [4, 8], 32),
  sold('a100-pcie-80gb', 'NVIDIA A100 PCIe 80GB', MODELS.a100pcie, 5, [1.3, 1.6], [2, 4, 8], 128),
  sold('a100-sxm4-80gb', 'NVIDIA A100 SXM4 80GB', MODELS.a100sxm, 3, [1.6, 1.85], [8], 128),
  sold('h100-sxm5-80gb', 'NVIDIA H100 SXM5 80GB', MODELS.h100sxm, 6, [2.2, 2.6], [8], 128),
];

const PLACES: readonly (readonly [city: string, state: string, country: string, tier: number, gbps: number])[] = [
  ['Chicago', 'Illinois', 'United States', 3, 10],
  ['Joplin', 'Missouri', 'United States', 2, 10],
  ['Dallas', 'Texas', 'United States', 3, 10],
  ['Wilmington', 'Delaware', 'United States', 1, 1],
  ['Boise', 'Idaho', 'United States', 0, 1],
  ['Montreal', 'Quebec', 'Canada', 3, 10],
  ['London', 'England', 'United Kingdom', 4, 25],
  ['Amsterdam', 'North Holland', 'The Netherlands', 4, 25],
  ['Frankfurt', 'Hesse', 'Germany', 3, 10],
  ['Warsaw', 'Mazovia', 'Poland', 2, 10],
  ['Stockholm', 'Stockholm', 'Sweden', 3, 10],
  ['Mumbai', 'Maharashtra', 'India', 2, 1],
  ['Seoul', 'Seoul', 'South Korea', 3, 10],
  ['Singapore', 'Singapore', 'Singapore', 4, 25],
];
/** The last places show no hosts: they are in the listing of locations only. */
const PLACES_WITHOUT_SHOWN_HOSTS = 2;

export function makePlaces(seed: number): Place[] {
  return PLACES.map(([city, stateprovince, country, tier, gbps]) => ({
    id: makeUuid(createRandom(seed, `tensordock place ${city}`)),
    city,
    stateprovince,
    country,
    tier,
    gbps,
  }));
}

/** Host number `index` of the market. */
export function makeHost(seed: number, places: readonly Place[], index: number): Host {
  const random = createRandom(seed, `tensordock host ${index}`);
  const gpu = pickGpu(random);
  const [fromUsd, toUsd] = gpu.priceUsd;
  const totalGpus = random.pick(gpu.counts);
  const placeIndex = index % places.length;
  return {
    id: makeUuid(random),
    place: places[placeIndex]!,
    gpu,
    totalGpus,
    takenByOthers: random.int(0, Math.floor(totalGpus / 2)),
    vcpusPerGpu: random.pick([8, 12, 16]),
    storageGbPerGpu: random.pick([500, 750, 1_000]),
    priceUsd: Math.round((fromUsd + random.next() * (toUsd - fromUsd)) * 1_000) / 1_000,
    uptimePercentage: Math.round((96 + random.next() * 4) * 100) / 100,
    hasPublicIps: random.next() < 0.6,
    freePorts: Array.from({ length: random.int(3, 9) }, (_, each) => 20_000 + each),
    isShown: placeIndex < places.length - PLACES_WITHOUT_SHOWN_HOSTS,
    organization: random.int(1, 12),
  };
}

/** A random UUID of version 4, always the same for the same stream. */
export function makeUuid(random: Random): string {
  const hex = Array.from({ length: 32 }, () => random.int(0, 15).toString(16));
  hex[12] = '4';
  hex[16] = random.pick(['8', '9', 'a', 'b']);
  const text = hex.join('');
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-');
}

const TOTAL_WEIGHT = SOLD_GPUS.reduce((sum, { weight }) => sum + weight, 0);

function pickGpu(random: Random): SoldGpu {
  let left = random.next() * TOTAL_WEIGHT;
  for (const gpu of SOLD_GPUS) {
    left -= gpu.weight;
    if (left < 0) return gpu;
  }
  return SOLD_GPUS[0]!;
}

function sold(
  v0Name: string,
  displayName: string,
  model: GpuModel,
  weight: number,
  priceUsd: readonly [number, number],
  counts: readonly number[],
  ramGbPerGpu: number,
): SoldGpu {
  return { v0Name, displayName, model, weight, priceUsd, counts, ramGbPerGpu };
}
