/** What RunPod sells and where: GPU types by the vendor's names with its prices per GPU, and data centers. The figures are invented. */
import { MODELS, type GpuModel } from '../gpu-models.ts';

export interface GpuType {
  /** What a purchase names: the driver's name. */
  id: string;
  /** What the vendor shows. */
  name: string;
  model: GpuModel;
  pool: string | null;
  memoryGb: number;
  /** Micro-dollars per GPU and hour on the vendor's own hardware, and on that of others. */
  secureMicroUsd: number;
  communityMicroUsd: number;
  /** GPUs of the largest machine; 0: none there. */
  maxSecure: number;
  maxCommunity: number;
}

export interface DataCenter {
  id: string;
  name: string;
  region: 'NORTH_AMERICA' | 'EUROPE' | 'ASIA' | 'OCEANIA';
}

/** The cheapest single RTX 4090 stays well below a dollar an hour. */
export const GPU_TYPES: readonly GpuType[] = [
  type('NVIDIA GeForce RTX 4090', 'RTX 4090', MODELS.rtx4090, 'ADA_24', 24, 0.69, 0.34, 8, 4),
  type('NVIDIA GeForce RTX 3090', 'RTX 3090', MODELS.rtx3090, 'AMPERE_24', 24, 0.46, 0.22, 4, 4),
  type('NVIDIA GeForce RTX 5090', 'RTX 5090', MODELS.rtx5090, 'BLACKWELL_32', 32, 0.94, 0.69, 8, 2),
  type('NVIDIA RTX A4000', 'RTX A4000', MODELS.a4000, 'AMPERE_16', 16, 0.25, 0.17, 4, 2),
  type('NVIDIA RTX A5000', 'RTX A5000', MODELS.a5000, 'AMPERE_24', 24, 0.29, 0.16, 8, 4),
  type('NVIDIA RTX A6000', 'RTX A6000', MODELS.a6000, 'AMPERE_48', 48, 0.49, 0.33, 8, 4),
  type('NVIDIA A40', 'A40', MODELS.a40, 'AMPERE_48', 48, 0.4, 0, 8, 0),
  type('NVIDIA L4', 'L4', MODELS.l4, 'AMPERE_24', 24, 0.43, 0, 8, 0),
  type('NVIDIA L40', 'L40', MODELS.l40, 'ADA_48_PRO', 48, 0.99, 0.69, 4, 2),
  type('NVIDIA L40S', 'L40S', MODELS.l40s, 'ADA_48_PRO', 48, 0.86, 0.79, 8, 2),
  type('NVIDIA RTX 6000 Ada Generation', 'RTX 6000 Ada', MODELS.rtx6000ada, 'ADA_48_PRO', 48, 0.77, 0.74, 8, 2),
  type('NVIDIA A100 80GB PCIe', 'A100 PCIe', MODELS.a100pcie, 'AMPERE_80', 80, 1.64, 1.19, 8, 1),
  type('NVIDIA A100-SXM4-80GB', 'A100 SXM', MODELS.a100sxm, 'AMPERE_80', 80, 1.74, 0, 8, 0),
  type('NVIDIA H100 PCIe', 'H100 PCIe', MODELS.h100pcie, 'ADA_80_PRO', 80, 2.39, 1.99, 8, 1),
  type('NVIDIA H100 NVL', 'H100 NVL', MODELS.h100nvl, null, 94, 2.79, 0, 4, 0),
  type('NVIDIA H100 80GB HBM3', 'H100 SXM', MODELS.h100sxm, 'ADA_80_PRO', 80, 2.99, 0, 8, 0),
  type('NVIDIA H200', 'H200 SXM', MODELS.h200, 'HOPPER_141', 141, 3.99, 0, 8, 0),
  type('NVIDIA B200', 'B200', MODELS.b200, null, 180, 5.99, 0, 8, 0),
];

export const DATA_CENTERS: readonly DataCenter[] = [
  { id: 'EU-RO-1', name: 'EU Romania 1', region: 'EUROPE' },
  { id: 'US-KS-2', name: 'US Kansas 2', region: 'NORTH_AMERICA' },
  { id: 'EU-SE-1', name: 'EU Sweden 1', region: 'EUROPE' },
  { id: 'US-TX-3', name: 'US Texas 3', region: 'NORTH_AMERICA' },
  { id: 'CA-MTL-1', name: 'CA Montreal 1', region: 'NORTH_AMERICA' },
  { id: 'EUR-IS-1', name: 'EUR Iceland 1', region: 'EUROPE' },
  { id: 'US-GA-2', name: 'US Georgia 2', region: 'NORTH_AMERICA' },
  { id: 'EU-CZ-1', name: 'EU Czechia 1', region: 'EUROPE' },
  { id: 'EU-NL-1', name: 'EU Netherlands 1', region: 'EUROPE' },
  { id: 'US-CA-2', name: 'US California 2', region: 'NORTH_AMERICA' },
  { id: 'EUR-NO-1', name: 'EUR Norway 1', region: 'EUROPE' },
  { id: 'AP-JP-1', name: 'AP Japan 1', region: 'ASIA' },
  { id: 'EU-FR-1', name: 'EU France 1', region: 'EUROPE' },
  { id: 'OC-AU-1', name: 'OC Australia 1', region: 'OCEANIA' },
  { id: 'US-WA-1', name: 'US Washington 1', region: 'NORTH_AMERICA' },
  { id: 'CA-MTL-3', name: 'CA Montreal 3', region: 'NORTH_AMERICA' },
];

/** Country of a data center, for the vendor's filter by country. */
export function countryOf({ id }: DataCenter): string {
  const [first = '', second = ''] = id.split('-');
  return first.length === 2 && !['EU', 'AP', 'OC'].includes(first) ? first : second;
}

function type(
  id: string,
  name: string,
  model: GpuModel,
  pool: string | null,
  memoryGb: number,
  secureUsd: number,
  communityUsd: number,
  maxSecure: number,
  maxCommunity: number,
): GpuType {
  const secureMicroUsd = Math.round(secureUsd * 1e6);
  const communityMicroUsd = Math.round(communityUsd * 1e6);
  return { id, name, model, pool, memoryGb, secureMicroUsd, communityMicroUsd, maxSecure, maxCommunity };
}
