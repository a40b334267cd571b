/**
 * How large a virtual machine is rented with its GPUs. TensorDock sells processors, memory and disk apart from the GPUs, so an
 * offer needs a choice: enough to feed the GPUs, in the sizes that the vendor takes.
 */

/** What a host or location can give one machine; null: it does not say. */
export interface SizeLimits {
  vcpus: number | null;
  ramGb: number | null;
  storageGb: number | null;
}

export interface MachineSize {
  vcpus: number;
  ramGb: number;
}

/** The vendor's own sizes: those of its modify call, which its create call takes too. */
export const RAM_SIZES_GB = [
  2, 4, 6, 8, 10, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 512,
];
/** The vendor's smallest disk. */
export const MIN_STORAGE_GB = 100;

const VCPUS_PER_GPU = 8;
/** Below these a machine cannot keep its GPUs busy; it is not offered. */
const MIN_VCPUS_PER_GPU = 2;
const MIN_RAM_GB_PER_GPU = 8;
/** A model is loaded through memory before it is on the GPU. */
const RAM_PER_GPU_MEMORY = 1.2;
const USUAL_GPU_MEMORY_GIB = 24;

/** null: what is left there is too small for so many GPUs, or for the disk. Odd numbers of processors are refused by the vendor. */
export function chooseSize(
  gpuCount: number,
  gpuMemoryGib: number | null,
  storageGb: number,
  limits: SizeLimits,
): MachineSize | null {
  const vcpus = evenDown(Math.min(VCPUS_PER_GPU * gpuCount, limits.vcpus ?? Infinity));
  const wantedRam = RAM_PER_GPU_MEMORY * gpuCount * (gpuMemoryGib ?? USUAL_GPU_MEMORY_GIB);
  const sizes = RAM_SIZES_GB.filter((size) => size <= (limits.ramGb ?? Infinity));
  const ramGb = sizes.find((size) => size >= wantedRam) ?? sizes.at(-1) ?? 0;
  const isTooSmall = vcpus < MIN_VCPUS_PER_GPU * gpuCount || ramGb < MIN_RAM_GB_PER_GPU * gpuCount;
  return isTooSmall || storageGb > (limits.storageGb ?? Infinity) ? null : { vcpus, ramGb };
}

function evenDown(count: number): number {
  return Math.floor(count / 2) * 2;
}
