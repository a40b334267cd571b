/**
 * All machines at the simulated vendor: what changes them, by request or by itself, with the bill and the journal kept in step.
 * What a request looks like on the wire is not its job.
 */
import type { SandboxClock } from '../clock.ts';
import type { Fault } from '../faults.ts';
import type { Journal, JournalRecord } from '../journal.ts';
import { createRandom } from '../random.ts';
import type { SshFleet } from '../ssh/ssh-fleet.ts';
import { changeRate, startMeter, storageRate } from './billing.ts';
import {
  currentRate,
  isInterrupted,
  isScheduling,
  type Machine,
  NO_MACHINE_FAULTS,
  type PlannedStep,
} from './machine.ts';
import type { OfferBook } from './offers.ts';
import type { VastaiSwitches } from './switches.ts';

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

export interface FleetDependencies {
  seed: number;
  clock: SandboxClock;
  journal: Journal;
  offers: OfferBook;
  ssh: SshFleet;
  switches: () => VastaiSwitches;
  /** The account costs this much more per hour from `atMs` on. */
  onRateChange: (deltaMicroUsdPerHour: number, atMs: number) => void;
  /** The faults that hit a new machine. */
  takeMachineFaults: (subject: { label: string; instanceId: number }) => Fault[];
}

const FIRST_INSTANCE_ID = 27_000_000;
const KEY_PREFIX = 'vastai/machine/';
const NEXT_KEY_ID = 'vastai/next-machine-key';
const FAILED_BOOT_MESSAGE =
  'Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: nvidia-container-cli: device error: unknown';
/** An expired contract is stopped, and deleted this much later. */
const REMOVE_AFTER_EXPIRY_MS = 48 * 3_600_000;
/** A rival bids this much more than the one it pushes out. */
const RIVAL_PERCENT = 120;

const TIMINGS = {
  auto: { boot: [2000, 8000], restart: [1000, 3000], stop: [300, 800], keyDelay: 0, sshDelay: 0 },
  explicit: { boot: [2000, 8000], restart: [1000, 3000], stop: [300, 800], keyDelay: 0, sshDelay: 0 },
  // vastai.md §4: cached image 30 s, typical 1 to 5 min; keys 10 to 15 s; SSH some time after running.
  real: {
    boot: [30_000, 300_000],
    restart: [15_000, 60_000],
    stop: [3000, 10_000],
    keyDelay: 12_000,
    sshDelay: 20_000,
  },
} as const;

export function createFleet(deps: FleetDependencies): Fleet {
  const { clock, journal, offers, ssh, seed, switches } = deps;
  const timings = TIMINGS[clock.mode];
  const machines = restoreMachines(journal);
  const timers = new Map<number, () => void>();
  let nextId = 1 + Math.max(FIRST_INSTANCE_ID, ...machines.keys());
  let nextKeyId = (journal.restored.get(NEXT_KEY_ID) as number | undefined) ?? 1;

  /** Ends every change: bills up to now, writes, and sets the alarm for what comes next. */
  function commit(machine: Machine, atMs: number, extra: JournalRecord[] = []): void {
    const rate = currentRate(machine);
    deps.onRateChange(rate - machine.meter.microUsdPerHour, atMs);
    changeRate(machine.meter, atMs, rate);
    journal.put([[`${KEY_PREFIX}${machine.id}`, machine], ...extra]);
    setAlarm(machine);
  }

  function setAlarm(machine: Machine): void {
    timers.get(machine.id)?.();
    timers.delete(machine.id);
    machine.plan.sort((a, b) => a.atMs - b.atMs);
    const first = machine.plan[0];
    if (first === undefined) return;
    timers.set(
      machine.id,
      clock.schedule(first.atMs, (dueMs) => perform(machine, dueMs)),
    );
  }

  async function perform(machine: Machine, atMs: number): Promise<void> {
    const planned = machine.plan[0];
    if (planned === undefined || machine.destroyedAtMs !== null) return;
    if (planned.step === 'report_running') {
      const port = await openSsh(machine);
      // While the port opened the machine may have been stopped or destroyed.
      if (machine.plan[0] !== planned || machine.destroyedAtMs !== null) return ssh.close(machine.id);
      machine.sshPort = port;
    }
    machine.plan.shift();
    commit(machine, atMs, takeStep(machine, planned.step, atMs));
  }

  function takeStep(machine: Machine, step: PlannedStep, atMs: number): JournalRecord[] {
    switch (step) {
      case 'report_created':
        machine.actual = 'created';
        return [];
      case 'report_loading':
        machine.actual = 'loading';
        machine.statusMessage = 'Pulling fs layer';
        return [];
      case 'report_running':
        beginRunning(machine, atMs);
        return [];
      case 'fail_boot':
        machine.actual = 'created';
        machine.statusMessage = FAILED_BOOT_MESSAGE;
        return [];
      case 'report_stopped':
        machine.actual = 'stopped';
        machine.cur = 'stopped';
        return leaveSlot(machine);
      case 'lose_host':
        machine.actual = 'offline';
        machine.isHostLost = true;
        keepPlan(machine, ['expire', 'remove_expired']);
        machine.runningSinceMs = null;
        ssh.close(machine.id);
        return [];
      case 'outbid':
        return machine.isBid && machine.cur === 'running' ? interrupt(machine) : [];
      case 'expire':
        machine.intended = machine.cur = machine.next = machine.actual = 'stopped';
        machine.plan = [{ atMs: atMs + REMOVE_AFTER_EXPIRY_MS, step: 'remove_expired' }];
        return leaveSlot(machine);
      case 'remove_expired':
        return vanish(machine, atMs);
    }
  }

  function beginRunning(machine: Machine, atMs: number): void {
    machine.actual = 'running';
    machine.cur = machine.next = 'running';
    machine.runningSinceMs = atMs;
    machine.statusMessage = `success, running ${machine.image}/ssh`;
    const { loseHostAfterMs, outbidAfterMs } = machine.faults;
    if (loseHostAfterMs !== null) machine.plan.push({ atMs: atMs + loseHostAfterMs, step: 'lose_host' });
    if (outbidAfterMs !== null) machine.plan.push({ atMs: atMs + outbidAfterMs, step: 'outbid' });
    machine.faults = { ...machine.faults, loseHostAfterMs: null, outbidAfterMs: null };
  }

  function openSsh(machine: Machine): Promise<number> {
    return ssh.open(machine.id, machine.sshPort, clock.now() + timings.sshDelay);
  }

  function planBoot(machine: Machine, atMs: number, range: readonly [number, number]): void {
    const random = createRandom(seed, `boot ${machine.id} ${machine.plan.length} ${machine.runningSinceMs ?? 0}`);
    const bootMs = random.int(range[0], range[1]) * machine.faults.bootFactor;
    const isFirst = machine.actual === null;
    if (isFirst) machine.plan.push({ atMs: atMs + Math.floor(bootMs * 0.1), step: 'report_created' });
    if (machine.faults.failsBoot) {
      machine.plan.push({ atMs: atMs + Math.floor(bootMs * 0.5), step: 'fail_boot' });
      return;
    }
    machine.plan.push({ atMs: atMs + Math.floor(bootMs * 0.25), step: 'report_loading' });
    machine.plan.push({ atMs: atMs + Math.floor(bootMs), step: 'report_running' });
  }

  /** Gives the slot back to the market, or to the machine that waits for it. */
  function leaveSlot(machine: Machine): JournalRecord[] {
    ssh.close(machine.id);
    machine.runningSinceMs = null;
    // A rival that pushed this machine out goes with it: otherwise the slot would be lost to the market for ever.
    const hasRival = isInterrupted(machine) && offers.occupant(machine.slotId) === 'other';
    if (!isOccupiedBy(machine) && !hasRival) return [];
    const records = offers.release(machine.slotId);
    const waiting = [...machines.values()].find(
      (other) => other !== machine && other.slotId === machine.slotId && isScheduling(other),
    );
    if (waiting === undefined || switches().isStartStuck) return records;
    return [...records, ...takeSlotBack(waiting, clock.now())];
  }

  function isOccupiedBy(machine: Machine): boolean {
    return offers.occupant(machine.slotId) === machine.id;
  }

  /** Boots again in its old slot, which must be free or its own. Writes the machine itself. */
  function takeSlotBack(machine: Machine, atMs: number): JournalRecord[] {
    const records = isOccupiedBy(machine) ? [] : offers.occupy(machine.slotId, machine.id);
    machine.intended = machine.next = machine.cur = 'running';
    keepPlan(machine, ['expire']);
    planBoot(machine, atMs, switches().bootMs ?? timings.restart);
    commit(machine, atMs, records);
    return [];
  }

  function interrupt(machine: Machine): JournalRecord[] {
    machine.intended = machine.cur = machine.next = 'stopped';
    machine.actual = 'exited';
    machine.runningSinceMs = null;
    keepPlan(machine, ['expire']);
    ssh.close(machine.id);
    const rivalBid = Math.floor((machine.gpuMicroUsdPerHour * RIVAL_PERCENT) / 100);
    return [...offers.occupy(machine.slotId, 'other'), ...offers.setRivalBid(machine.slotId, rivalBid)];
  }

  function vanish(machine: Machine, atMs: number): JournalRecord[] {
    const records = leaveSlot(machine);
    machine.destroyedAtMs = atMs;
    machine.plan = [];
    return records;
  }

  function canHaveSlot(machine: Machine): boolean {
    if (switches().isStartStuck) return false;
    if (isOccupiedBy(machine)) return true;
    if (machine.isBid && machine.gpuMicroUsdPerHour < offers.bidFloor(machine.slotId)) return false;
    const occupant = offers.occupant(machine.slotId);
    // A rival bidder leaves as soon as it is topped.
    return occupant === null || (machine.isBid && occupant === 'other');
  }

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
        planBoot(machine, atMs, beginning === 'running' ? [0, 0] : (switches().bootMs ?? timings.boot));
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
      const wasInterrupted = isInterrupted(machine) || (machine.cur === 'stopped' && machine.intended === 'running');
      machine.gpuMicroUsdPerHour = microUsdPerHour;
      if (machine.cur === 'running' && microUsdPerHour < offers.bidFloor(machine.slotId))
        commit(machine, atMs, interrupt(machine));
      else if (wasInterrupted && canHaveSlot(machine)) {
        offers.setRivalBid(machine.slotId, null);
        takeSlotBack(machine, atMs);
      } else commit(machine, atMs);
    },

    destroy(machine) {
      const atMs = clock.now();
      commit(machine, atMs, vanish(machine, atMs));
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
      if (fault.kind === 'host_return') returnHost(machine, atMs);
      else if (fault.kind === 'host_loss') planFault(machine, 'lose_host', atMs + (fault.delayMs ?? 0));
      else if (fault.kind === 'outbid') planFault(machine, 'outbid', atMs + (fault.delayMs ?? 0));
      else {
        machine.faults = { ...machine.faults, ...toMachineFaults(fault) };
        if (machine.actual !== 'running' && machine.cur === 'running') {
          keepPlan(machine, ['expire']);
          planBoot(machine, atMs, switches().bootMs ?? timings.boot);
        }
      }
      commit(machine, atMs);
    },

    async resume() {
      const running = [...machines.values()].filter(
        (machine) => machine.destroyedAtMs === null && machine.actual === 'running',
      );
      await Promise.all(
        running.map(async (machine) => {
          machine.sshPort = await openSsh(machine);
        }),
      );
      for (const machine of machines.values()) if (machine.destroyedAtMs === null) setAlarm(machine);
      await clock.settle();
    },
  };

  function rebootFrom(machine: Machine, status: 'rebooting' | 'created'): void {
    const atMs = clock.now();
    if (machine.cur === 'running' && !machine.isHostLost) {
      ssh.close(machine.id);
      machine.actual = status;
      machine.runningSinceMs = null;
      keepPlan(machine, ['expire']);
      planBoot(machine, atMs, switches().bootMs ?? timings.restart);
      if (status === 'rebooting') machine.plan = machine.plan.filter(({ step }) => step !== 'report_loading');
    }
    commit(machine, atMs);
  }

  function returnHost(machine: Machine, atMs: number): void {
    if (!machine.isHostLost) return;
    machine.isHostLost = false;
    if (machine.intended === 'running') planBoot(machine, atMs, switches().bootMs ?? timings.restart);
    else machine.actual = machine.cur = 'stopped';
  }

  function planFault(machine: Machine, step: 'lose_host' | 'outbid', atMs: number): void {
    machine.plan.push({ atMs, step });
  }

  return fleet;
}

function keepPlan(machine: Machine, steps: readonly PlannedStep[]): void {
  machine.plan = machine.plan.filter(({ step }) => steps.includes(step));
}

function restoreMachines(journal: Journal): Map<number, Machine> {
  const machines = new Map<number, Machine>();
  for (const [key, value] of journal.restored) {
    if (key.startsWith(KEY_PREFIX)) machines.set(Number(key.slice(KEY_PREFIX.length)), value as Machine);
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
