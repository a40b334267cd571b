/**
 * The hosts of the simulated market: what slot number N is, always the same for one seed.
 * A slot is what one renter can have of a host. Who has it, and under which offer id it is listed, is offers.ts.
 */
import { type GpuModel, MODELS } from '../gpu-models.ts';
import { createRandom, type Random } from '../random.ts';

export interface Slot {
  slotId: number;
  machineId: number;
  hostId: number;
  bundleId: number;
  gpu: GpuModel;
  numGpus: number;
  /** Share of the host that this slot is. */
  gpuFrac: number;
  /** Whole slot, without disk. */
  priceMicroUsdPerHour: number;
  /** Lowest bid that runs, whole slot, without disk. */
  minBidMicroUsdPerHour: number;
  storageMicroUsdPerGbMonth: number;
  geolocation: string;
  geolocode: number;
  verification: 'verified' | 'unverified' | 'deverified';
  hostingType: 0 | 1;
  reliability: number;
  inetDownMbps: number;
  inetUpMbps: number;
  cpuName: string;
  cpuCores: number | null;
  cpuCoresEffective: number;
  cpuRamMb: number;
  diskGb: number;
  driverVersion: string;
  cudaMax: number;
  durationSeconds: number;
  staticIp: boolean;
}

/** The market's mix: weight, model, GPUs, cents per GPU and hour from … to. Single RTX 4090s are the largest share. */
const MIX: readonly (readonly [weight: number, model: GpuModel, gpus: number, fromCents: number, toCents: number])[] = [
  [48, MODELS.rtx4090, 1, 26, 68],
  [4, MODELS.rtx4090, 2, 28, 60],
  [3, MODELS.rtx4090, 4, 28, 60],
  [2, MODELS.rtx4090, 8, 30, 62],
  [8, MODELS.rtx5090, 1, 42, 95],
  [8, MODELS.rtx3090, 1, 12, 30],
  [3, MODELS.rtx3060, 1, 5, 11],
  [3, MODELS.rtx4080, 1, 18, 36],
  [4, MODELS.a6000, 1, 38, 62],
  [4, MODELS.l40s, 1, 55, 98],
  [4, MODELS.a100pcie, 1, 70, 130],
  [2, MODELS.a100sxm, 8, 80, 140],
  [4, MODELS.h100sxm, 1, 160, 290],
  [2, MODELS.h100sxm, 8, 170, 280],
  [1, MODELS.h200, 8, 220, 380],
];
/** Every model that is sold here. */
export const SOLD_MODELS: readonly GpuModel[] = [...new Set(MIX.map(([, model]) => model))];
const MIX_TOTAL = MIX.reduce((sum, [weight]) => sum + weight, 0);

const PLACES: readonly (readonly [geolocation: string, geolocode: number])[] = [
  ['Sweden, SE', 83_886_080],
  ['Texas, US', 16_777_216],
  ['California, US', 16_777_217],
  ['Quebec, CA', 33_554_432],
  ['Germany, DE', 83_886_081],
  ['Netherlands, NL', 83_886_082],
  ['France, FR', 83_886_083],
  ['Poland, PL', 83_886_084],
  ['Japan, JP', 50_331_648],
  ['South Korea, KR', 50_331_649],
  // The vendor leaves the state out where it does not know it.
  [', CN', 50_331_650],
];

const CPUS = ['AMD EPYC 7402P', 'AMD EPYC 7763', 'AMD Ryzen 9 7950X', 'Intel Xeon Gold 6330', 'AMD EPYC 9354'];
/** Two slots in twenty are halves of one machine; all others have a machine to themselves. */
const TWIN_PERIOD = 20;

/** What slot number `slotId` (1, 2, …) is. */
export function describeSlot(seed: number, slotId: number): Slot {
  const isSecondTwin = slotId % TWIN_PERIOD === 0;
  const isTwin = isSecondTwin || slotId % TWIN_PERIOD === TWIN_PERIOD - 1;
  // Both halves draw from one stream: they are the same hardware.
  const hostNumber = isSecondTwin ? slotId - 1 : slotId;
  const random = createRandom(seed, `slot ${hostNumber}`);
  const [, gpu, mixedGpus, fromCents, toCents] = pickMix(random);
  const numGpus = isTwin ? 1 : mixedGpus;
  const microPerGpu = random.int(fromCents * 1000, toCents * 1000) * 10;
  const [geolocation, geolocode] = random.pick(PLACES);
  const cores = random.pick([16, 24, 32, 48, 64, 96]);
  const verificationDraw = random.next();
  const isDatacenter = random.next() < 0.4;
  return {
    slotId,
    machineId: 20_000 + hostNumber,
    hostId: 3000 + Math.ceil(hostNumber / 3),
    bundleId: 40_000 + slotId,
    gpu,
    numGpus,
    gpuFrac: isTwin ? 0.5 : 1,
    priceMicroUsdPerHour: microPerGpu * numGpus,
    minBidMicroUsdPerHour: Math.floor((microPerGpu * numGpus * random.int(45, 70)) / 100),
    storageMicroUsdPerGbMonth: random.int(8, 30) * 10_000,
    geolocation,
    geolocode,
    verification: verificationDraw < 0.95 ? 'verified' : verificationDraw < 0.99 ? 'unverified' : 'deverified',
    hostingType: isDatacenter ? 1 : 0,
    reliability: random.int(9500, 9999) / 10_000,
    inetDownMbps: random.int(200, 5000),
    inetUpMbps: random.int(100, 3000),
    cpuName: random.pick(CPUS),
    // The vendor does not always know it.
    cpuCores: random.next() < 0.05 ? null : cores,
    cpuCoresEffective: isTwin ? cores / 2 : cores,
    cpuRamMb: random.pick([64_000, 96_000, 128_000, 256_000, 512_000]),
    diskGb: random.int(200, 3000),
    ...random.pick([
      { driverVersion: '570.86.15', cudaMax: 12.8 },
      { driverVersion: '560.35.03', cudaMax: 12.6 },
      { driverVersion: '550.127.05', cudaMax: 12.4 },
    ]),
    durationSeconds: random.int(20, 400) * 86_400,
    staticIp: isDatacenter,
  };
}

/** The padded integer in which the vendor compares drivers: 535.86.05 → 535086005. */
export function toDriverNumber(version: string): number {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  return major * 1_000_000 + minor * 1000 + patch;
}

function pickMix(random: Random): (typeof MIX)[number] {
  let draw = random.next() * MIX_TOTAL;
  for (const entry of MIX) {
    draw -= entry[0];
    if (draw < 0) return entry;
  }
  return MIX[0]!;
}
