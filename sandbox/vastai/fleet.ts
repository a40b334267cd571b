/**
 * All machines at the simulated vendor and what a renter (or a fault) does to them. What happens to them by itself is
 * machine-life.ts; what a request looks like on the wire is routes.ts.
 */
import type { Fault } from '../faults.ts';
import type { Journal, JournalRecord } from '../journal.ts';
import { createRandom } from '../random.ts';
import { startMeter, storageRate } from '../billing.ts';
import { isInterrupted, isScheduling, keepPlan, type Machine, NO_MACHINE_FAULTS } from './machine.ts';
import { createMachineLives, type LifeDependencies, MACHINE_KEY, TIMINGS } from './machine-life.ts';
import type { OfferBook } from './offers.ts';

export interface NewMachine {
  slotId: number;
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
  publicKeys: string[];
}

/** How a new machine begins its life: takes the slot and boots, or waits without it. */
export type Beginning = 'boot' | 'stopped' | 'scheduling' | 'running';

export interface Fleet {
  /** Every machine that ever was, oldest first. */
  all(): Iterable<Machine>;
  /** A machine that exists now. */
  find(id: number): Machine | undefined;
  /** `extra` gives what must be written together with the machine. */
  create(
    input: NewMachine,
    origin: Machine['origin'],
    beginning: Beginning,
    extra: (machineId: number) => JournalRecord[],
  ): Machine;
  start(machine: Machine): void;
  stop(machine: Machine): void;
  reboot(machine: Machine): void;
  recycle(machine: Machine): void;
  setLabel(machine: Machine, label: string): void;
  /** A running machine whose bid is below the floor loses its GPU; an interrupted one above it gets it back. */
  setBid(machine: Machine, microUsdPerHour: number): void;
  destroy(machine: Machine): void;
  attachKey(machine: Machine, publicKey: string): void;
  /** False when the machine has no such key. */
  detachKey(machine: Machine, keyId: number): boolean;
  /** Puts a machine fault on a machine that exists. */
  applyFault(machine: Machine, fault: Fault): void;
  /** Continues the lives of restored machines; resolves when the running ones answer SSH again. */
  resume(): Promise<void>;
}

export interface FleetDependencies extends LifeDependencies {
  /** The faults that hit a new machine. */
  takeMachineFaults: (subject: { label: string; instanceId: number }) => Fault[];
}

const FIRST_INSTANCE_ID = 27_000_000;
const NEXT_KEY_ID = 'vastai/next-machine-key';
export function createFleet(deps: FleetDependencies): Fleet {
  const { clock, journal, offers, seed, switches } = deps;
  const timings = TIMINGS[clock.mode];
  const machines = restoreMachines(journal);
  const lives = createMachineLives(deps, machines);
  const { commit, planBoot, canHaveSlot, takeSlotBack } = lives;
  let nextId = 1 + Math.max(FIRST_INSTANCE_ID, ...machines.keys());
  let nextKeyId = (journal.restored.get(NEXT_KEY_ID) as number | undefined) ?? 1;

  function addKeys(machine: Machine, publicKeys: readonly string[], fromMs: number): JournalRecord[] {
    for (const publicKey of publicKeys) machine.keys.push({ id: nextKeyId++, publicKey, fromMs });
    return [[NEXT_KEY_ID, nextKeyId]];
  }

  const fleet: Fleet = {
    all: () => machines.values(),
    find(id) {
      const machine = machines.get(id);
      return machine?.destroyedAtMs === null ? machine : undefined;
    },

    create(input, origin, beginning, extra) {
      const atMs = clock.now();
      const id = nextId++;
      const hits = origin === 'bought' ? deps.takeMachineFaults({ label: input.label, instanceId: id }) : [];
      const machine = newMachine(input, id, origin, atMs, offers);
      for (const fault of hits) machine.faults = { ...machine.faults, ...toMachineFaults(fault) };
      machine.plan.push({ atMs: machine.endAtMs, step: 'expire' });
      const records = [...extra(id), ...addKeys(machine, input.publicKeys, atMs)];
      if (beginning === 'boot' || beginning === 'running') {
        records.push(...offers.occupy(machine.slotId, id));
        machine.cur = machine.next = machine.intended = 'running';
        planBoot(machine, atMs, beginning === 'running' ? 'instant' : 'boot');
      } else if (beginning === 'scheduling') {
        machine.next = machine.intended = 'running';
      } else {
        machine.actual = 'stopped';
      }
      machines.set(id, machine);
      commit(machine, atMs, records);
      return machine;
    },

    start(machine) {
      const atMs = clock.now();
      const isStopping = machine.plan.some(({ step }) => step === 'report_stopped');
      if (machine.isHostLost) {
        machine.intended = machine.next = 'running';
      } else if (machine.actual === 'running' && isStopping) {
        keepPlan(machine, ['expire', 'lose_host', 'outbid']);
        machine.intended = machine.next = 'running';
      } else if (machine.cur === 'running' && machine.intended === 'running') {
        return;
      } else if (canHaveSlot(machine)) {
        takeSlotBack(machine, atMs);
        return;
      } else {
        machine.intended = machine.next = 'running';
        machine.cur = 'stopped';
      }
      commit(machine, atMs);
    },

    stop(machine) {
      const atMs = clock.now();
      machine.intended = machine.next = 'stopped';
      if (machine.cur === 'running' && !machine.isHostLost) {
        keepPlan(machine, ['expire']);
        const stopMs = createRandom(seed, `stop ${machine.id} ${atMs}`).int(timings.stop[0], timings.stop[1]);
        machine.plan.push({ atMs: atMs + stopMs, step: 'report_stopped' });
      }
      commit(machine, atMs);
    },

    reboot(machine) {
      rebootFrom(machine, 'rebooting');
    },
    recycle(machine) {
      rebootFrom(machine, 'created');
    },

    setLabel(machine, label) {
      machine.label = label;
      commit(machine, clock.now());
    },

    setBid(machine, microUsdPerHour) {
      const atMs = clock.now();
      const wasInterrupted = isInterrupted(machine) || isScheduling(machine);
      machine.gpuMicroUsdPerHour = microUsdPerHour;
      if (machine.cur === 'running' && microUsdPerHour < offers.bidFloor(machine.slotId))
        commit(machine, atMs, lives.interrupt(machine));
      else if (wasInterrupted && canHaveSlot(machine)) {
        offers.setRivalBid(machine.slotId, null);
        takeSlotBack(machine, atMs);
      } else commit(machine, atMs);
    },

    destroy(machine) {
      const atMs = clock.now();
      commit(machine, atMs, lives.vanish(machine, atMs));
    },

    attachKey(machine, publicKey) {
      const delayMs = switches().keyDelayMs ?? timings.keyDelay;
      commit(machine, clock.now(), addKeys(machine, [publicKey], clock.now() + delayMs));
    },

    detachKey(machine, keyId) {
      const left = machine.keys.filter((key) => key.id !== keyId);
      if (left.length === machine.keys.length) return false;
      machine.keys = left;
      commit(machine, clock.now());
      return true;
    },

    applyFault(machine, fault) {
      const atMs = clock.now();
      if (fault.kind === 'power_off') return this.stop(machine);
      if (fault.kind === 'host_return') returnHost(machine, atMs);
      else if (fault.kind === 'host_loss') planFault(machine, 'lose_host', atMs + (fault.delayMs ?? 0));
      else if (fault.kind === 'outbid') planFault(machine, 'outbid', atMs + (fault.delayMs ?? 0));
      else {
        machine.faults = { ...machine.faults, ...toMachineFaults(fault) };
        if (machine.actual !== 'running' && machine.cur === 'running') {
          keepPlan(machine, ['expire']);
          planBoot(machine, atMs, 'boot');
        }
      }
      commit(machine, atMs);
    },

    resume: () => lives.resume(),
  };

  function rebootFrom(machine: Machine, status: 'rebooting' | 'created'): void {
    const atMs = clock.now();
    if (machine.cur === 'running' && !machine.isHostLost) {
      lives.cutOff(machine);
      machine.actual = status;
      keepPlan(machine, ['expire']);
      planBoot(machine, atMs, 'restart');
      if (status === 'rebooting') machine.plan = machine.plan.filter(({ step }) => step !== 'report_loading');
    }
    commit(machine, atMs);
  }

  function returnHost(machine: Machine, atMs: number): void {
    if (!machine.isHostLost) return;
    machine.isHostLost = false;
    if (machine.intended === 'running') planBoot(machine, atMs, 'restart');
    else machine.actual = machine.cur = 'stopped';
  }

  function planFault(machine: Machine, step: 'lose_host' | 'outbid', atMs: number): void {
    machine.plan.push({ atMs, step });
  }

  return fleet;
}

function restoreMachines(journal: Journal): Map<number, Machine> {
  const machines = new Map<number, Machine>();
  for (const [key, value] of journal.restored) {
    if (key.startsWith(MACHINE_KEY)) machines.set(Number(key.slice(MACHINE_KEY.length)), value as Machine);
  }
  return new Map([...machines].sort(([a], [b]) => a - b));
}

function newMachine(
  input: NewMachine,
  id: number,
  origin: Machine['origin'],
  atMs: number,
  offers: OfferBook,
): Machine {
  const slot = offers.slot(input.slotId);
  const { publicKeys: _publicKeys, ...wanted } = input;
  return {
    ...wanted,
    id,
    origin,
    storageMicroUsdPerHour: storageRate(input.diskGb, slot.storageMicroUsdPerGbMonth),
    actual: null,
    intended: 'stopped',
    cur: 'stopped',
    next: 'stopped',
    statusMessage: null,
    isHostLost: false,
    keys: [],
    sshPort: null,
    createdAtMs: atMs,
    endAtMs: atMs + slot.durationSeconds * 1000,
    runningSinceMs: null,
    destroyedAtMs: null,
    plan: [],
    faults: NO_MACHINE_FAULTS,
    meter: startMeter(atMs, 0),
  };
}

/** Absent details have the defaults that faults.ts states. */
function toMachineFaults(fault: Fault): Partial<Machine['faults']> {
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
    case 'outbid':
      return { outbidAfterMs: fault.delayMs ?? 0 };
    default:
      return {};
  }
}
