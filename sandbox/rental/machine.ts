/**
 * A machine rented at a simulated vendor other than Vast.ai, as plain data: what the journal keeps.
 *
 *   creating ─▶ booting ─▶ running ─▶ stopping ─▶ stopped ─▶ (start) booting
 *   booting ─▶ failed: its boot failed          running ─▶ (restart) booting
 *   running, stopped ─▶ reclaimed: the vendor took the GPU back
 *   any ─▶ terminating ─▶ destroyed: gone from every answer, after the list's lag
 * `isHostLost` comes on top: its host does not answer, nothing changes by itself and nothing is billed. What a vendor calls
 * these states is the vendor's own file.
 */
import type { Meter } from '../billing.ts';
import type { MachineFaults } from './machine-faults.ts';

export type RentalStatus =
  'creating' | 'booting' | 'running' | 'stopping' | 'stopped' | 'failed' | 'reclaimed' | 'terminating';

export type RentalStep =
  'report_booting' | 'report_running' | 'report_stopped' | 'fail_boot' | 'lose_host' | 'reclaim' | 'vanish';

export interface RentalBilling {
  /** Whether the GPUs are charged before it runs, and when its boot failed. */
  whileBooting: boolean;
  /** What is charged while it is stopped: only the disk (its GPUs are free for others), or everything. */
  whileStopped: 'storage' | 'all';
}

/** `Details`: whatever else the vendor has to remember, as plain data. */
export interface RentalMachine<Details> {
  /** The vendor's id. */
  id: string;
  /** bought through the API, or there before / put there by the admin route. */
  origin: 'bought' | 'foreign' | 'orphan';
  /** The vendor's field that carries our label: a name where it has no labels. */
  label: string;
  /** What it is a machine of, in the vendor's listing: machines that hold GPUs are counted by this. */
  offerKey: string;
  /** A name of GPU_MODELS. */
  gpuName: string;
  gpuCount: number;
  computeMicroUsdPerHour: number;
  storageMicroUsdPerHour: number;
  billing: RentalBilling;
  /** Who may log in over SSH. */
  publicKeys: string[];
  /** What is run at boot, as text of a shell script. */
  startupScript: string | null;
  env: Record<string, string>;
  details: Details;

  status: RentalStatus;
  isHostLost: boolean;
  sshPort: number | null;
  createdAtMs: number;
  /** When it began to run; null unless it runs. */
  runningSinceMs: number | null;
  /** How often it has come up. */
  boots: number;
  destroyedAtMs: number | null;
  plan: { atMs: number; step: RentalStep }[];
  faults: MachineFaults;
  meter: Meter;
}

/** What it costs per hour in its present state. */
export function currentRate(machine: RentalMachine<unknown>): number {
  if (machine.destroyedAtMs !== null || machine.isHostLost) return 0;
  const { billing, computeMicroUsdPerHour, storageMicroUsdPerHour } = machine;
  switch (machine.status) {
    case 'running':
    case 'stopping':
      return computeMicroUsdPerHour + storageMicroUsdPerHour;
    case 'stopped':
      return storageMicroUsdPerHour + (billing.whileStopped === 'all' ? computeMicroUsdPerHour : 0);
    case 'creating':
    case 'booting':
    case 'failed':
      return storageMicroUsdPerHour + (billing.whileBooting ? computeMicroUsdPerHour : 0);
    case 'reclaimed':
      return storageMicroUsdPerHour;
    case 'terminating':
      return 0;
  }
}

/** Whether nobody else can have its GPUs. */
export function holdsGpus(machine: RentalMachine<unknown>): boolean {
  if (machine.destroyedAtMs !== null || machine.status === 'reclaimed') return false;
  return machine.status !== 'stopped' || machine.billing.whileStopped === 'all';
}

/** Forgets what was planned, except these steps. */
export function keepPlan(machine: RentalMachine<unknown>, steps: readonly RentalStep[]): void {
  machine.plan = machine.plan.filter(({ step }) => steps.includes(step));
}
