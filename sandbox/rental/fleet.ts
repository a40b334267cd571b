/**
 * All machines at one simulated vendor and what a renter (or a fault) does to them. What happens to them by itself is
 * machine-life.ts; what a request looks like on the wire is the vendor's own folder.
 */
import { readMeter, startMeter } from '../billing.ts';
import type { Fault } from '../faults.ts';
import type { JournalRecord } from '../journal.ts';
import { createRandom, type Random } from '../random.ts';
import { currentRate, holdsGpus, keepPlan, type RentalMachine } from './machine.ts';
import { NO_MACHINE_FAULTS, toMachineFaults } from './machine-faults.ts';
import { createRentalLives, type RentalLifeDependencies } from './machine-life.ts';
import type { Range } from './timings.ts';

/** What a renter chooses; the rest is the vendor's. */
export type NewRentalMachine<Details> = Pick<
  RentalMachine<Details>,
  | 'label'
  | 'offerKey'
  | 'gpuName'
  | 'gpuCount'
  | 'computeMicroUsdPerHour'
  | 'storageMicroUsdPerHour'
  | 'billing'
  | 'publicKeys'
  | 'startupScript'
  | 'env'
  | 'details'
>;

export interface RentalFleet<Details> {
  /** Every machine that ever was, oldest first. */
  all(): Iterable<RentalMachine<Details>>;
  /** A machine that exists now: one being terminated still does. */
  find(id: string): RentalMachine<Details> | undefined;
  /** As a list that lags by `lagMs` tells it: new ones miss, destroyed ones stay (or for `keepGoneMs`), for that long. */
  listed(lagMs: number, keepGoneMs?: number): RentalMachine<Details>[];
  /** How many machines hold GPUs of this offer. */
  occupied(offerKey: string): number;
  /** `extra` gives what must be written together with the machine. It is in the journal when this returns. */
  create(
    input: NewRentalMachine<Details>,
    origin: RentalMachine<Details>['origin'],
    beginning: 'boot' | 'running' | 'stopped',
    extra: (machineId: string) => readonly JournalRecord[],
  ): RentalMachine<Details>;
  /** Boots a machine that is stopped, reclaimed or failed; does nothing for others. */
  start(machine: RentalMachine<Details>): void;
  /** Does nothing unless it runs or boots. */
  stop(machine: RentalMachine<Details>): void;
  /** Does nothing unless it runs. */
  restart(machine: RentalMachine<Details>): void;
  /** It answers no more at once, and is gone after `lagMs` (drawn from the timings when absent). Twice is once. */
  destroy(machine: RentalMachine<Details>, lagMs?: number): void;
  /** Changes fields of the machine that have no consequence of their own, and writes it. */
  update(
    machine: RentalMachine<Details>,
    changes: Partial<Pick<RentalMachine<Details>, 'label' | 'publicKeys' | 'env' | 'details' | 'faults'>>,
  ): void;
  applyFault(machine: RentalMachine<Details>, fault: Fault): void;
  chargedMicroUsd(machine: RentalMachine<Details>): number;
  totalChargedMicroUsd(): number;
  /** What all machines cost per hour now. */
  burnMicroUsdPerHour(): number;
  /** Continues the lives of restored machines; resolves when the running ones answer SSH again. */
  resume(): Promise<void>;
}

export interface RentalFleetDependencies<Details> extends Omit<RentalLifeDependencies<Details>, 'onChange'> {
  /** A new id, always the same for the same stream. */
  makeId: (random: Random) => string;
  /** The faults that hit a new machine. */
  takeMachineFaults: (subject: { label: string; instanceId: string }) => Fault[];
}

const AT_ONCE: Range = [0, 0];

export function createRentalFleet<Details>(deps: RentalFleetDependencies<Details>): RentalFleet<Details> {
  type Machine = RentalMachine<Details>;
  const { clock, provider, seed, timings } = deps;
  const machines = restoreMachines<Details>(deps);
  const holders = new Map<string, Set<string>>();
  const lives = createRentalLives({ ...deps, onChange: countHolder }, machines);
  const { commit } = lives;
  for (const machine of machines.values()) countHolder(machine);

  function countHolder(machine: Machine): void {
    let holding = holders.get(machine.offerKey);
    if (holding === undefined) holders.set(machine.offerKey, (holding = new Set()));
    if (holdsGpus(machine)) holding.add(machine.id);
    else holding.delete(machine.id);
  }

  return {
    all: () => machines.values(),
    find(id) {
      const machine = machines.get(id);
      return machine?.destroyedAtMs === null ? machine : undefined;
    },
    listed(lagMs, keepGoneMs = lagMs) {
      const nowMs = clock.now();
      return [...machines.values()].filter(({ origin, createdAtMs, destroyedAtMs }) => {
        if (destroyedAtMs !== null && destroyedAtMs + keepGoneMs <= nowMs) return false;
        return lagMs === 0 || origin !== 'bought' || createdAtMs + lagMs <= nowMs;
      });
    },
    occupied: (offerKey) => holders.get(offerKey)?.size ?? 0,

    create(input, origin, beginning, extra) {
      const atMs = clock.now();
      const id = deps.makeId(createRandom(seed, `${provider} machine ${machines.size + 1}`));
      const machine: Machine = { ...input, id, origin, ...newLife(atMs) };
      const hits = origin === 'bought' ? deps.takeMachineFaults({ label: input.label, instanceId: id }) : [];
      for (const fault of hits) machine.faults = { ...machine.faults, ...toMachineFaults(fault) };
      if (beginning === 'stopped') machine.status = 'stopped';
      else lives.planBoot(machine, atMs, beginning === 'running' ? 'instant' : 'boot');
      machines.set(id, machine);
      commit(machine, atMs, extra(id));
      return machine;
    },

    start(machine) {
      if (!['stopped', 'reclaimed', 'failed', 'stopping'].includes(machine.status)) return;
      const atMs = clock.now();
      if (machine.status === 'stopping') lives.cutOff(machine);
      lives.planBoot(machine, atMs, 'restart');
      commit(machine, atMs);
    },

    stop(machine) {
      if (!['running', 'booting', 'creating'].includes(machine.status) || machine.isHostLost) return;
      const atMs = clock.now();
      keepPlan(machine, []);
      machine.status = 'stopping';
      lives.planAfter(machine, atMs, 'report_stopped', timings.stop);
      commit(machine, atMs);
    },

    restart(machine) {
      if (machine.status !== 'running' || machine.isHostLost) return;
      const atMs = clock.now();
      lives.cutOff(machine);
      lives.planBoot(machine, atMs, 'restart');
      commit(machine, atMs);
    },

    destroy(machine, lagMs) {
      if (machine.status === 'terminating') return;
      const atMs = clock.now();
      lives.cutOff(machine);
      keepPlan(machine, []);
      machine.status = 'terminating';
      if (lagMs === 0) machine.destroyedAtMs = atMs;
      else lives.planAfter(machine, atMs, 'vanish', lagMs === undefined ? timings.terminate : [lagMs, lagMs]);
      commit(machine, atMs);
    },

    update(machine, changes) {
      Object.assign(machine, changes);
      commit(machine, clock.now());
    },

    applyFault(machine, fault) {
      const atMs = clock.now();
      if (fault.kind === 'power_off') return this.stop(machine);
      if (fault.kind === 'host_return') returnHost(machine, atMs);
      else if (fault.kind === 'host_loss') machine.plan.push({ atMs: atMs + (fault.delayMs ?? 0), step: 'lose_host' });
      else if (fault.kind === 'reclaim') machine.plan.push({ atMs: atMs + (fault.delayMs ?? 0), step: 'reclaim' });
      else {
        machine.faults = { ...machine.faults, ...toMachineFaults(fault) };
        if (machine.status === 'creating' || machine.status === 'booting') lives.planBoot(machine, atMs, 'boot');
      }
      commit(machine, atMs);
    },

    chargedMicroUsd: (machine) => readMeter(machine.meter, clock.now()).chargedMicroUsd,
    totalChargedMicroUsd() {
      let total = 0;
      for (const machine of machines.values()) total += readMeter(machine.meter, clock.now()).chargedMicroUsd;
      return total;
    },
    burnMicroUsdPerHour() {
      let total = 0;
      for (const machine of machines.values()) total += currentRate(machine);
      return total;
    },
    resume: () => lives.resume(),
  };

  function returnHost(machine: Machine, atMs: number): void {
    if (!machine.isHostLost) return;
    machine.isHostLost = false;
    if (machine.status === 'stopping') lives.planAfter(machine, atMs, 'report_stopped', AT_ONCE);
    else if (['creating', 'booting', 'running'].includes(machine.status)) lives.planBoot(machine, atMs, 'restart');
  }
}

function restoreMachines<Details>({
  journal,
  provider,
}: RentalFleetDependencies<Details>): Map<string, RentalMachine<Details>> {
  const prefix = `${provider}/machine/`;
  const machines: RentalMachine<Details>[] = [];
  for (const [key, value] of journal.restored) {
    if (key.startsWith(prefix)) machines.push(value as RentalMachine<Details>);
  }
  // The journal keeps the order of the first writes; equal times keep it.
  machines.sort((a, b) => a.createdAtMs - b.createdAtMs);
  return new Map(machines.map((machine) => [machine.id, machine]));
}

function newLife(atMs: number) {
  return {
    status: 'creating',
    isHostLost: false,
    sshPort: null,
    createdAtMs: atMs,
    runningSinceMs: null,
    boots: 0,
    destroyedAtMs: null,
    plan: [],
    faults: NO_MACHINE_FAULTS,
    meter: startMeter(atMs, 0),
  } satisfies Partial<RentalMachine<unknown>>;
}
