/** What was switched on for one rented machine, and how a fault of the admin route becomes that. */
import type { Fault, MachineFaultKind } from '../faults.ts';

export interface MachineFaults {
  bootFactor: number;
  failsBoot: boolean;
  /** silent: TCP connects and nothing follows; refused: the connection is cut at once. */
  ssh: 'answers' | 'silent' | 'refused';
  wrongGpu: { gpuName: string; numGpus: number } | null;
  /** After how long of running. */
  loseHostAfterMs: number | null;
  reclaimAfterMs: number | null;
}

export const NO_MACHINE_FAULTS: MachineFaults = {
  bootFactor: 1,
  failsBoot: false,
  ssh: 'answers',
  wrongGpu: null,
  loseHostAfterMs: null,
  reclaimAfterMs: null,
};

/** The faults that a rented machine can have; `outbid` needs bids. */
export const RENTAL_MACHINE_FAULTS: readonly MachineFaultKind[] = [
  'slow_boot',
  'failed_boot',
  'ssh_never_answers',
  'wrong_gpu',
  'host_loss',
  'host_return',
  'power_off',
  'reclaim',
];

/** Absent details have the defaults that faults.ts states. */
export function toMachineFaults(fault: Fault): Partial<MachineFaults> {
  switch (fault.kind) {
    case 'slow_boot':
      return { bootFactor: fault.factor ?? 10 };
    case 'failed_boot':
      return { failsBoot: true };
    case 'ssh_never_answers':
      return { ssh: fault.mode ?? 'silent' };
    case 'wrong_gpu':
      return { wrongGpu: { gpuName: fault.gpuName ?? 'RTX 3060', numGpus: fault.numGpus ?? 1 } };
    case 'host_loss':
      return { loseHostAfterMs: fault.delayMs ?? 0 };
    case 'reclaim':
      return { reclaimAfterMs: fault.delayMs ?? 0 };
    default:
      return {};
  }
}
