/**
 * A found machine: what a listing said of a machine that a finding is about, as it is kept (JSON: no bigint). It is what an adoption
 * makes its rows from; what the machine costs stands on the finding itself.
 */
import type { ObservedInstance } from './observed-instance.ts';

export interface FoundMachine {
  status: ObservedInstance['status'];
  machineId: string | null;
  gpu: string | null;
  gpuCount: number | null;
  gpuMemoryGib: number | null;
  interruptible: boolean | null;
  image: string | null;
  region: string | null;
  ssh: ObservedInstance['ssh'];
  startedAt: string | null;
}

export function foundMachine(observed: ObservedInstance): FoundMachine {
  const { status, machineId, gpu, gpuCount, gpuMemoryGib, interruptible, image, region, ssh, startedAt } = observed;
  return { status, machineId, gpu, gpuCount, gpuMemoryGib, interruptible, image, region, ssh, startedAt };
}
