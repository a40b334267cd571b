/**
 * What the sandbox needs of a simulated vendor: this is all that server.ts, the admin routes and the page know of one.
 * A vendor listens once and keeps its port; its world is opened at the start and again at each reset.
 */
import type { z } from 'zod';
import type { ProviderName } from '../domain/provider.ts';
import type { GpuTrouble } from './agent/fake-smi.ts';
import type { SandboxClock } from './clock.ts';
import type { Fault, FaultBook, MachineFaultKind } from './faults.ts';
import type { HttpListener } from './http-listener.ts';
import type { Journal } from './journal.ts';
import type { PurchaseCount } from './purchase-counts.ts';
import type { ReportedGpus } from './ssh/gpu-report.ts';

export interface SandboxVendor {
  readonly name: ProviderName;
  /** As the vendor writes itself. */
  readonly title: string;
  /** Our names of its calls: faults and counts go by them. */
  readonly endpoints: readonly string[];
  readonly machineFaults: readonly MachineFaultKind[];
  /** Every switch; a change gives some of them. */
  readonly switchesSchema: z.ZodObject;
  /** Takes the port. Calls before the first `open` are answered 503. Throws PortInUseError. */
  listen(options: ListenOptions): Promise<HttpListener>;
  /** Builds the world from the journal and resolves when its machines live again. */
  open(world: VendorWorld): Promise<void>;
  /** Ends the present world; the port stays. */
  stop(): void;
  state(): VendorReport;
  switches(): Record<string, unknown>;
  /** `changes` has passed `switchesSchema.partial()`. */
  setSwitches(changes: Record<string, unknown>): void;
  /** Puts a machine there that nobody bought through the API; returns the vendor's id. */
  placeMachine(input: PlacedMachine): number | string;
  /** A machine fault at once; false when there is no such machine. */
  applyFault(instanceId: number | string, fault: Fault): boolean;
  /** Forgets the counts of calls. */
  resetCounts(): void;
}

export interface ListenOptions {
  port: number;
  apiKey: string;
  /** Per call, half before and half after it is executed. */
  latencyMs: number;
}

export interface VendorWorld {
  seed: number;
  clock: SandboxClock;
  journal: Journal;
  faults: FaultBook;
  /** How many offers are listed at first, where the vendor's listing has single offers. */
  offerCount: number;
  /** Where the switches start; those stored win. */
  switches: Record<string, unknown>;
  /** Null makes a host key for this run. */
  hostKeyPath: string | null;
  /** Whether a fresh account has three machines that are not ours. */
  hasForeignMachines: boolean;
  machineWatch: MachineWatch;
}

export interface PlacedMachine {
  label: string;
  origin: 'foreign' | 'orphan';
  isStopped: boolean;
}

/** Where a real program can be put on simulated machines. Called on the sandbox's clock, in order for each machine. */
export interface MachineWatch {
  /** It has booted and answers SSH; again after each restart of the machine, and of the sandbox for those that run. */
  onRunning(machine: RunningMachine): void;
  /** It runs no more: stopped, rebooting, its host lost, or destroyed. Once for each onRunning. */
  onGone(machine: RunningMachine): void;
  /** Makes the GPUs that its program sees fail, or (null) work again. false: no program runs on that machine. Absent: none does at all. */
  troubleGpus?(machine: string, trouble: GpuTrouble | null): boolean;
  /** The programs on machines that run now. */
  agents?(): AgentSeat[];
  /** `machine` as `provider/instanceId`. null: no program is on it. */
  changeAgent?(machine: string, change: AgentChange): AgentSeat | null;
  /** Tells of machines that switch themselves off; one listener. */
  onPowerOff?(listener: (machine: RunningMachine) => void): void;
}

/** The agent on a simulated machine, and what is played with it. */
export interface AgentSeat {
  /** `kubernetes` and its kin for nodes of clusters. */
  provider: string;
  instanceId: number | string;
  isRunning: boolean;
  isPartitioned: boolean;
  /** What its nvidia-smi shows; null: idle. */
  gpuPercent: number | null;
  /** The folder that is the machine's disk; its workspace is `workspace` in it. */
  home: string;
}

/** What is absent stays as it is. */
export interface AgentChange {
  /** It cannot reach the control plane, while its machine lives. */
  isPartitioned?: boolean | undefined;
  /** How busy its GPUs are; null: idle. */
  gpuPercent?: number | null | undefined;
  /** A workload says now that it is busy. */
  declareActivity?: true | undefined;
  /** true: it ends, and is not started again; false: it is started again. The machine lives on. */
  isKilled?: boolean | undefined;
}

/** What runs on a machine may know, as it is while the machine runs. */
export interface RunningMachine {
  provider: ProviderName | 'gcp';
  instanceId: number | string;
  label: string;
  origin: 'bought' | 'foreign' | 'orphan';
  /** Rises with every boot of this machine, over restarts of the sandbox too. */
  boot: number;
  /** What the renter gave to be run at boot, as text of a shell script, or null. */
  startupScript: string | null;
  /** The renter's variables: of the container, or those that the script exports. */
  env: Record<string, string>;
  /** What its nvidia-smi shows: the wrong GPUs where a fault says so. null: it has none, and no nvidia-smi. */
  gpus: ReportedGpus | null;
  sshPort: number;
  /** Whose files it finds at its boot. Absent: its own of before. */
  filesOf?: string;
}

export interface VendorReport {
  /** Every machine that ever was, the destroyed ones too. */
  machines: VendorMachineReport[];
  offersListed: number;
  /** Purchase calls per label. */
  purchases: Record<string, PurchaseCount>;
  /** Calls per endpoint since this process started. */
  calls: Record<string, number>;
  totalChargedMicroUsd: number;
  burnMicroUsdPerHour: number;
}

/** What is told of a machine whoever the vendor is. */
export interface VendorMachineReport {
  id: number | string;
  label: string;
  origin: 'bought' | 'foreign' | 'orphan';
  gpuName: string;
  numGpus: number;
  /** The vendor's own words for its state. */
  statusText: string;
  isInterruptible: boolean;
  isHostLost: boolean;
  sshPort: number | null;
  /** What it costs in its usual state, all in all. */
  priceMicroUsdPerHour: number;
  chargedMicroUsd: number;
  createdAtMs: number;
  destroyedAtMs: number | null;
  /** API calls that would change it since this process started: 0 for a machine that nobody touched. */
  changeCalls: number;
}
