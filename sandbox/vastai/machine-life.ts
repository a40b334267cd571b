/**
 * What happens to a machine at the simulated vendor by itself, and how it gets and leaves its slot. Every change ends
 * in `commit`, which keeps the bill, the journal and the alarm clock in step. What a renter asks for is fleet.ts.
 */
import type { SandboxClock } from '../clock.ts';
import type { Journal, JournalRecord } from '../journal.ts';
import { createRandom } from '../random.ts';
import type { RunningMachines } from '../running-machines.ts';
import type { SshFleet } from '../ssh/ssh-fleet.ts';
import { changeRate } from '../billing.ts';
import { currentRate, isScheduling, keepPlan, type Machine, type PlannedStep } from './machine.ts';
import type { OfferBook } from './offers.ts';
import type { VastaiSwitches } from './switches.ts';

export type BootKind = 'boot' | 'restart' | 'instant';

export interface MachineLives {
  /** Ends every change: bills up to `atMs`, writes the machine and `extra` in one line, sets its next alarm. */
  commit(machine: Machine, atMs: number, extra?: JournalRecord[]): void;
  planBoot(machine: Machine, atMs: number, kind: BootKind): void;
  canHaveSlot(machine: Machine): boolean;
  /** Boots again in its old slot, which must be free or its own. Commits. */
  takeSlotBack(machine: Machine, atMs: number): void;
  /** Loses its GPU to a higher bid. The caller commits what this returns, as for the next one. */
  interrupt(machine: Machine): JournalRecord[];
  vanish(machine: Machine, atMs: number): JournalRecord[];
  /** It answers no more. The caller commits. */
  cutOff(machine: Machine): void;
  /** Continues restored lives; resolves when the running machines answer SSH again. */
  resume(): Promise<void>;
}

export interface LifeDependencies {
  seed: number;
  clock: SandboxClock;
  journal: Journal;
  offers: OfferBook;
  ssh: SshFleet;
  running: RunningMachines;
  switches: () => VastaiSwitches;
  /** The account costs this much more per hour from `atMs` on. */
  onRateChange: (deltaMicroUsdPerHour: number, atMs: number) => void;
}

export const MACHINE_KEY = 'vastai/machine/';
const FAILED_BOOT_MESSAGE =
  'Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: nvidia-container-cli: device error: unknown';
/** An expired contract is stopped, and deleted this much later. */
const REMOVE_AFTER_EXPIRY_MS = 48 * 3_600_000;
/** A rival bids this much more than the one it pushes out. */
const RIVAL_PERCENT = 120;

export const TIMINGS = {
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

export function createMachineLives(deps: LifeDependencies, machines: ReadonlyMap<number, Machine>): MachineLives {
  const { clock, journal, offers, ssh, seed, switches } = deps;
  const timings = TIMINGS[clock.mode];
  const timers = new Map<number, () => void>();

  function commit(machine: Machine, atMs: number, extra: JournalRecord[] = []): void {
    const rate = currentRate(machine);
    deps.onRateChange(rate - machine.meter.microUsdPerHour, atMs);
    changeRate(machine.meter, atMs, rate);
    journal.put([[`${MACHINE_KEY}${machine.id}`, machine], ...extra]);
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
    if (planned.step === 'report_running') deps.running.begin(machine.id);
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
        cutOff(machine);
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
    machine.boots = (machine.boots ?? 0) + 1;
    machine.statusMessage = `success, running ${machine.image}/ssh`;
    const { loseHostAfterMs, outbidAfterMs } = machine.faults;
    if (loseHostAfterMs !== null) machine.plan.push({ atMs: atMs + loseHostAfterMs, step: 'lose_host' });
    if (outbidAfterMs !== null) machine.plan.push({ atMs: atMs + outbidAfterMs, step: 'outbid' });
    machine.faults = { ...machine.faults, loseHostAfterMs: null, outbidAfterMs: null };
  }

  function cutOff(machine: Machine): void {
    machine.runningSinceMs = null;
    ssh.close(machine.id);
    deps.running.end(machine.id);
  }

  function openSsh(machine: Machine): Promise<number> {
    return ssh.open(machine.id, machine.sshPort, clock.now() + timings.sshDelay);
  }

  function planBoot(machine: Machine, atMs: number, kind: BootKind): void {
    const range = kind === 'instant' ? [0, 0] : (switches().bootMs ?? timings[kind]);
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

  /** Gives the slot back to the market. */
  function leaveSlot(machine: Machine): JournalRecord[] {
    cutOff(machine);
    // A rival that pushed this machine out goes with it: otherwise the slot would be lost to the market for ever.
    const hasRival = machine.isBid && offers.occupant(machine.slotId) === 'other';
    if (!isOccupiedBy(machine) && !hasRival) return [];
    const records = offers.release(machine.slotId);
    clock.schedule(clock.now(), () => serveWaiting(machine.slotId));
    return records;
  }

  /** A machine that waits in scheduling gets the slot, unless somebody was faster. */
  function serveWaiting(slotId: number): void {
    for (const machine of machines.values()) {
      if (machine.slotId !== slotId || !isScheduling(machine) || !canHaveSlot(machine)) continue;
      takeSlotBack(machine, clock.now());
      return;
    }
  }

  function isOccupiedBy(machine: Machine): boolean {
    return offers.occupant(machine.slotId) === machine.id;
  }

  /** Boots again in its old slot, which must be free or its own. Writes the machine itself. */
  function takeSlotBack(machine: Machine, atMs: number): void {
    const records = isOccupiedBy(machine) ? [] : offers.occupy(machine.slotId, machine.id);
    machine.intended = machine.next = machine.cur = 'running';
    keepPlan(machine, ['expire']);
    planBoot(machine, atMs, 'restart');
    commit(machine, atMs, records);
  }

  function interrupt(machine: Machine): JournalRecord[] {
    machine.intended = machine.cur = machine.next = 'stopped';
    machine.actual = 'exited';
    keepPlan(machine, ['expire']);
    cutOff(machine);
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

  async function resume(): Promise<void> {
    const running = [...machines.values()].filter(
      (machine) => machine.destroyedAtMs === null && machine.actual === 'running',
    );
    await Promise.all(
      running.map(async (machine) => {
        machine.sshPort = await openSsh(machine);
        deps.running.begin(machine.id);
      }),
    );
    for (const machine of machines.values()) {
      if (machine.destroyedAtMs === null) setAlarm(machine);
      if (isScheduling(machine)) serveWaiting(machine.slotId);
    }
    await clock.settle();
  }

  return { commit, planBoot, canHaveSlot, takeSlotBack, interrupt, vanish, cutOff, resume };
}
