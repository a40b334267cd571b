/**
 * A machine rented at the simulated vendor (its "contract"), as plain data: what the journal keeps.
 *
 * actual_status, and what leads where:
 *   null ─▶ created ─▶ loading ─▶ running ─▶ stopped ─▶ (start) loading
 *   created: stays there when its boot fails            running ─▶ rebooting ─▶ running; recycle ─▶ created
 *   running ─▶ exited: outbid                           any ─▶ offline: its host is lost; back by host_return
 *   any ─▶ destroyed: the machine is gone from every answer, after the list's lag
 * Two more words of the vendor: "interrupted" is cur = intended = next = stopped without our stop; "scheduling" is
 * intended = next = running with cur = stopped.
 */
import type { Meter } from '../billing.ts';

export type ActualStatus = 'created' | 'loading' | 'running' | 'stopped' | 'exited' | 'rebooting' | 'offline';
export type ContractState = 'running' | 'stopped';

export type PlannedStep =
  | 'report_created'
  | 'report_loading'
  | 'report_running'
  | 'report_stopped'
  | 'fail_boot'
  | 'lose_host'
  | 'outbid'
  | 'expire'
  | 'remove_expired';

export interface AttachedKey {
  id: number;
  publicKey: string;
  /** From when it works. */
  fromMs: number;
}

/** What was switched on for this machine. */
export interface MachineFaults {
  bootFactor: number;
  failsBoot: boolean;
  /** silent: TCP connects and nothing follows; refused: the connection is cut at once. */
  ssh: 'answers' | 'silent' | 'refused';
  wrongGpu: { gpuName: string; numGpus: number } | null;
  /** After how long of running. */
  loseHostAfterMs: number | null;
  outbidAfterMs: number | null;
}

export interface Machine {
  id: number;
  slotId: number;
  /** bought through the API, or there before / put there by the admin route. */
  origin: 'bought' | 'foreign' | 'orphan';
  label: string;
  image: string;
  imageArgs: string[];
  env: [string, string][];
  onstart: string | null;
  runtype: string;
  templateHashId: string | null;
  diskGb: number;
  isBid: boolean;
  gpuMicroUsdPerHour: number;
  storageMicroUsdPerHour: number;
  actual: ActualStatus | null;
  intended: ContractState;
  cur: ContractState;
  next: ContractState;
  statusMessage: string | null;
  /** Its host does not answer: nothing is billed, nothing changes by itself. */
  isHostLost: boolean;
  keys: AttachedKey[];
  sshPort: number | null;
  createdAtMs: number;
  endAtMs: number;
  runningSinceMs: number | null;
  /** How often it has come up; absent in a journal from before this was counted. */
  boots?: number;
  destroyedAtMs: number | null;
  plan: { atMs: number; step: PlannedStep }[];
  faults: MachineFaults;
  meter: Meter;
}

export const NO_MACHINE_FAULTS: MachineFaults = {
  bootFactor: 1,
  failsBoot: false,
  ssh: 'answers',
  wrongGpu: null,
  loseHostAfterMs: null,
  outbidAfterMs: null,
};

/** What it costs per hour in its present state. */
export function currentRate(machine: Machine): number {
  if (machine.destroyedAtMs !== null || machine.isHostLost) return 0;
  return machine.storageMicroUsdPerHour + (machine.actual === 'running' ? machine.gpuMicroUsdPerHour : 0);
}

export function isLive(machine: Machine): boolean {
  return machine.destroyedAtMs === null;
}

/** Intended to run, and the scheduler has no GPU for it. */
export function isScheduling(machine: Machine): boolean {
  return machine.destroyedAtMs === null && machine.intended === 'running' && machine.cur === 'stopped';
}

/** Stopped by the market, not by its renter. */
export function isInterrupted(machine: Machine): boolean {
  return machine.isBid && machine.actual === 'exited' && machine.intended === 'stopped';
}

/** Forgets what was planned, except these steps. */
export function keepPlan(machine: Machine, steps: readonly PlannedStep[]): void {
  machine.plan = machine.plan.filter(({ step }) => steps.includes(step));
}
