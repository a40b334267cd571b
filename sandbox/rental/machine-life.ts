/**
 * What happens to a rented machine by itself. Every change ends in `commit`, which keeps the bill, the journal and the
 * alarm clock in step. What a renter asks for is fleet.ts.
 */
import { changeRate } from '../billing.ts';
import type { SandboxClock } from '../clock.ts';
import type { Journal, JournalRecord } from '../journal.ts';
import { createRandom } from '../random.ts';
import type { RunningMachines } from '../running-machines.ts';
import type { SshFleet } from '../ssh/ssh-fleet.ts';
import { currentRate, keepPlan, type RentalMachine, type RentalStep } from './machine.ts';
import type { Range, RentalTimings } from './timings.ts';

export type BootKind = 'boot' | 'restart' | 'instant';

export interface RentalLives<Details> {
  /** Ends every change: bills up to `atMs`, writes the machine and `extra` in one line, sets its next alarm. */
  commit(machine: RentalMachine<Details>, atMs: number, extra?: readonly JournalRecord[]): void;
  /** Boots from now on, whatever was planned before. The caller commits. */
  planBoot(machine: RentalMachine<Details>, atMs: number, kind: BootKind): void;
  planAfter(machine: RentalMachine<Details>, atMs: number, step: RentalStep, range: Range): void;
  /** It answers no more. The caller commits. */
  cutOff(machine: RentalMachine<Details>): void;
  /** Continues restored lives; resolves when the running machines answer SSH again. */
  resume(): Promise<void>;
}

export interface RentalLifeDependencies<Details> {
  /** The vendor's name: begins the journal's keys. */
  provider: string;
  seed: number;
  clock: SandboxClock;
  journal: Journal;
  ssh: SshFleet;
  running: RunningMachines;
  timings: RentalTimings;
  /** From purchase to running; null follows the timings. */
  bootMs: () => Range | null;
  /** Its GPUs may have become free, or taken. */
  onChange: (machine: RentalMachine<Details>) => void;
}

export function createRentalLives<Details>(
  deps: RentalLifeDependencies<Details>,
  machines: ReadonlyMap<string, RentalMachine<Details>>,
): RentalLives<Details> {
  type Machine = RentalMachine<Details>;
  const { clock, journal, provider, running, seed, ssh, timings } = deps;
  const timers = new Map<string, () => void>();

  function commit(machine: Machine, atMs: number, extra: readonly JournalRecord[] = []): void {
    changeRate(machine.meter, atMs, currentRate(machine));
    journal.put([[`${provider}/machine/${machine.id}`, machine], ...extra]);
    deps.onChange(machine);
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
    takeStep(machine, planned.step, atMs);
    commit(machine, atMs);
    if (planned.step === 'report_running') running.begin(machine.id);
  }

  function takeStep(machine: Machine, step: RentalStep, atMs: number): void {
    switch (step) {
      case 'report_booting':
        machine.status = 'booting';
        return;
      case 'report_running':
        return beginRunning(machine, atMs);
      case 'fail_boot':
        machine.status = 'failed';
        return;
      case 'report_stopped':
        machine.status = 'stopped';
        return cutOff(machine);
      case 'lose_host':
        machine.isHostLost = true;
        keepPlan(machine, ['vanish']);
        return cutOff(machine);
      case 'reclaim':
        machine.status = 'reclaimed';
        keepPlan(machine, []);
        return cutOff(machine);
      case 'vanish':
        machine.destroyedAtMs = atMs;
        machine.plan = [];
        return cutOff(machine);
    }
  }

  function beginRunning(machine: Machine, atMs: number): void {
    machine.status = 'running';
    machine.runningSinceMs = atMs;
    machine.boots++;
    const { loseHostAfterMs, reclaimAfterMs } = machine.faults;
    if (loseHostAfterMs !== null) machine.plan.push({ atMs: atMs + loseHostAfterMs, step: 'lose_host' });
    if (reclaimAfterMs !== null) machine.plan.push({ atMs: atMs + reclaimAfterMs, step: 'reclaim' });
    machine.faults = { ...machine.faults, loseHostAfterMs: null, reclaimAfterMs: null };
  }

  function cutOff(machine: Machine): void {
    machine.runningSinceMs = null;
    ssh.close(machine.id);
    running.end(machine.id);
  }

  function openSsh(machine: Machine): Promise<number> {
    return ssh.open(machine.id, machine.sshPort, clock.now() + timings.sshDelayMs);
  }

  function planBoot(machine: Machine, atMs: number, kind: BootKind): void {
    keepPlan(machine, []);
    const bootMs = kind === 'instant' ? 0 : draw(machine, kind, deps.bootMs() ?? timings[kind]);
    const lastsMs = bootMs * machine.faults.bootFactor;
    // Only a new machine is being created; one that comes back boots at once.
    if (kind === 'restart') machine.status = 'booting';
    else machine.plan.push({ atMs: atMs + Math.floor(lastsMs * 0.1), step: 'report_booting' });
    const step = machine.faults.failsBoot ? 'fail_boot' : 'report_running';
    machine.plan.push({ atMs: atMs + Math.floor(machine.faults.failsBoot ? lastsMs / 2 : lastsMs), step });
  }

  function planAfter(machine: Machine, atMs: number, step: RentalStep, range: Range): void {
    machine.plan.push({ atMs: atMs + draw(machine, step, range), step });
  }

  function draw(machine: Machine, what: string, [fromMs, toMs]: Range): number {
    return createRandom(seed, `${provider} ${machine.id} ${what} ${machine.boots}`).int(fromMs, toMs);
  }

  async function resume(): Promise<void> {
    const alive = [...machines.values()].filter((machine) => machine.destroyedAtMs === null);
    await Promise.all(
      alive
        .filter((machine) => !machine.isHostLost && ['running', 'stopping'].includes(machine.status))
        .map(async (machine) => {
          machine.sshPort = await openSsh(machine);
          running.begin(machine.id);
        }),
    );
    for (const machine of alive) setAlarm(machine);
    await clock.settle();
  }

  return { commit, planBoot, planAfter, cutOff, resume };
}
