/**
 * The GPUs that the simulated vendors have: what the card is and what its driver says. What a vendor calls it, and what it
 * costs there, is the vendor's own file.
 */

export interface GpuModel {
  /** Vast.ai's name, which is also our name for it in faults and reports. */
  name: string;
  /** What nvidia-smi calls it. */
  smiName: string;
  memoryMib: number;
  computeCap: number;
  powerWatts: number;
  teraflops: number;
  dlperf: number;
}

export const MODELS = {
  rtx3060: model('RTX 3060', 'NVIDIA GeForce RTX 3060', 12_288, 860, 170, 12.7, 20),
  rtx3090: model('RTX 3090', 'NVIDIA GeForce RTX 3090', 24_576, 860, 350, 35.6, 60),
  rtx4080: model('RTX 4080', 'NVIDIA GeForce RTX 4080', 16_376, 890, 320, 48.7, 70),
  rtx4090: model('RTX 4090', 'NVIDIA GeForce RTX 4090', 24_564, 890, 450, 82.6, 95),
  rtx5090: model('RTX 5090', 'NVIDIA GeForce RTX 5090', 32_607, 1200, 575, 104.8, 160),
  a6000: model('RTX A6000', 'NVIDIA RTX A6000', 49_140, 860, 300, 38.7, 62),
  l40s: model('L40S', 'NVIDIA L40S', 46_068, 890, 350, 91.6, 110),
  a100pcie: model('A100 PCIE', 'NVIDIA A100 80GB PCIe', 81_920, 800, 300, 19.5, 120),
  a100sxm: model('A100 SXM4', 'NVIDIA A100-SXM4-80GB', 81_920, 800, 400, 19.5, 130),
  h100sxm: model('H100 SXM', 'NVIDIA H100 80GB HBM3', 81_559, 900, 700, 66.9, 250),
  h200: model('H200', 'NVIDIA H200', 143_771, 900, 700, 66.9, 290),
  v100: model('Tesla V100', 'Tesla V100-SXM2-16GB', 16_384, 700, 300, 15.7, 34),
  a4000: model('RTX A4000', 'NVIDIA RTX A4000', 16_376, 860, 140, 19.2, 30),
  a5000: model('RTX A5000', 'NVIDIA RTX A5000', 24_564, 860, 230, 27.8, 45),
  a10: model('A10', 'NVIDIA A10', 23_028, 860, 150, 31.2, 45),
  a40: model('A40', 'NVIDIA A40', 46_068, 860, 300, 37.4, 58),
  l4: model('L4', 'NVIDIA L4', 23_034, 890, 72, 30.3, 40),
  l40: model('L40', 'NVIDIA L40', 46_068, 890, 300, 90.5, 100),
  rtx6000: model('Q RTX 6000', 'Quadro RTX 6000', 24_576, 750, 260, 16.3, 32),
  rtx6000ada: model('RTX 6000Ada', 'NVIDIA RTX 6000 Ada Generation', 49_140, 890, 300, 91.1, 105),
  a100pcie40: model('A100 PCIE 40GB', 'NVIDIA A100-PCIE-40GB', 40_960, 800, 250, 19.5, 112),
  a100sxm40: model('A100 SXM4 40GB', 'NVIDIA A100-SXM4-40GB', 40_960, 800, 400, 19.5, 120),
  h100pcie: model('H100 PCIE', 'NVIDIA H100 PCIe', 81_559, 900, 350, 51.2, 200),
  h100nvl: model('H100 NVL', 'NVIDIA H100 NVL', 95_830, 900, 400, 60, 220),
  gh200: model('GH200', 'NVIDIA GH200 480GB', 97_871, 900, 900, 66.9, 260),
  b200: model('B200', 'NVIDIA B200', 183_359, 1000, 1000, 80, 450),
};

/** Undefined when nobody has such a GPU. */
export function findGpuModel(name: string): GpuModel | undefined {
  return Object.values(MODELS).find((candidate) => candidate.name === name);
}

function model(
  name: string,
  smiName: string,
  memoryMib: number,
  computeCap: number,
  powerWatts: number,
  teraflops: number,
  dlperf: number,
): GpuModel {
  return { name, smiName, memoryMib, computeCap, powerWatts, teraflops, dlperf };
}
