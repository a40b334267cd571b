/**
 * Real agents on simulated machines: where a machine's start script installs one, the agent that the control plane hands out is downloaded
 * and run (agent-host.ts) with an nvidia-smi that shows the machine's GPUs, and ends with the machine. What the machine has on its disk,
 * its key, stays over restarts of the machine; each boot has a boot id of its own.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { startSimulatedEngine, type SimulatedEngine } from '../docker/engine.ts';
import type { AgentChange, AgentSeat, MachineWatch, RunningMachine } from '../vendor.ts';
import type { HostOrder, HostReport } from './agent-host.ts';
import type { GpuTrouble } from './fake-smi.ts';
import { agentEnvironment, DISK, engineSocket, prepareDisk, writeFiles, type SeatedMachine } from './simulated-disk.ts';
import { openUplink, type Uplink } from './uplink.ts';

/** Each takes some 11 MB. Machines beyond it run without an agent, as if it could not be installed. */
export const MAX_AGENTS = 200;
const INSTALL = '/nodes/install.sh';
const HOST_FLAGS = ['--disable-warning=ExperimentalWarning'];
const RETRY_MS = 2_000;
const DOWNLOAD_MS = 10_000;
/** How soon a machine that has switched itself off is off. */
const LOOK_MS = 250;

export interface AgentRunner extends MachineWatch {
  /** Puts an agent there, whatever a start script says; whoever sat there is gone. false: there are too many. */
  seat(machine: SeatedMachine): boolean;
  unseat(key: string): void;
  /** New contents of files of a machine whose agent runs on. */
  write(key: string, files: Record<string, string>): void;
  /** Machines whose agent runs now, as `provider/instanceId`. */
  running(): string[];
  /** Ends the agent of a machine, and starts none again before the machine boots. */
  kill(key: string): boolean;
  troubleGpus(key: string, trouble: GpuTrouble | null): boolean;
  agents(): AgentSeat[];
  changeAgent(key: string, change: AgentChange): AgentSeat | null;
  onPowerOff(listener: (machine: RunningMachine) => void): void;
  /** Kills the process that all agents run in; false: none runs. */
  crashHost(): boolean;
  close(): void;
}

interface Seat {
  home: string;
  /** null: not there yet. */
  uplink: Uplink | null;
  /** null: not there yet. */
  engine: SimulatedEngine | null;
  timer: NodeJS.Timeout | null;
  isRunning: boolean;
  isEnded: boolean;
}

/** @param dir where machines' disks are; null: a temporary folder, removed at the close */
export function createAgentRunner(dir: string | null): AgentRunner {
  const root = dir ?? mkdtempSync(join(tmpdir(), 'muster-sandbox-agents-'));
  const seats = new Map<string, { machine: SeatedMachine; seat: Seat; rented: RunningMachine | null }>();
  let poweredOff: (machine: RunningMachine) => void = () => {};
  const looking = setInterval(lookForPowerOff, LOOK_MS).unref();
  const host = createHost((key) => {
    const found = seats.get(key);
    if (found) again(found.machine, found.seat);
  });

  function stop(key: string, seat: Seat): void {
    seat.isEnded = true;
    seat.isRunning = false;
    if (seat.timer !== null) clearTimeout(seat.timer);
    host.send({ kind: 'stop', key });
  }

  function end(key: string): void {
    const found = seats.get(key);
    if (found === undefined) return;
    seats.delete(key);
    stop(key, found.seat);
    found.seat.uplink?.close();
    void found.seat.engine?.close();
  }

  function lookForPowerOff(): void {
    for (const [key, { seat, rented }] of seats) {
      if (!existsSync(join(seat.home, DISK.poweredOff))) continue;
      rmSync(join(seat.home, DISK.poweredOff), { force: true });
      end(key);
      if (rented) poweredOff(rented);
    }
  }

  async function start(machine: SeatedMachine, seat: Seat): Promise<void> {
    try {
      const { home } = seat;
      prepareDisk(home, machine);
      seat.engine ??= await startSimulatedEngine({
        socket: engineSocket(home),
        file: join(home, DISK.containers),
        boot: String(machine.boot),
      });
      if (seat.isEnded) return void seat.engine.close();
      seat.uplink ??= await openUplink(machine.env['MUSTER_AGENT_URL'] ?? '');
      if (seat.isEnded) return seat.uplink.close();
      const program = await download(seat.uplink.url, join(home, DISK.agent));
      if (seat.isEnded) return;
      const env = agentEnvironment(home, machine, seat.uplink.url);
      seat.isRunning = true;
      host.send({ kind: 'start', key: keyOf(machine), program, env });
    } catch {
      again(machine, seat);
    }
  }

  function seatAgent(machine: SeatedMachine, rented: RunningMachine | null = null): boolean {
    const key = keyOf(machine);
    end(key);
    if (seats.size >= MAX_AGENTS) return false;
    const home = join(root, `${machine.provider}-${rented?.filesOf ?? machine.instanceId}`.replaceAll('/', '_'));
    const seat: Seat = { home, uplink: null, engine: null, timer: null, isRunning: false, isEnded: false };
    seats.set(key, { machine, seat, rented });
    void start(machine, seat);
    return true;
  }

  /** As the installer's own service would. */
  function again(machine: SeatedMachine, seat: Seat): void {
    seat.isRunning = false;
    if (!seat.isEnded) seat.timer = setTimeout(() => void start(machine, seat), RETRY_MS).unref();
  }

  return {
    onRunning(machine) {
      const hasAgent =
        machine.startupScript?.includes(INSTALL) === true && machine.env['MUSTER_AGENT_URL'] !== undefined;
      end(keyOf(machine));
      if (hasAgent) seatAgent(machine, machine);
    },
    seat: (machine) => seatAgent(machine),
    unseat: end,
    write(key, files) {
      const found = seats.get(key);
      if (found !== undefined) writeFiles(found.seat.home, files);
    },
    onGone: (machine) => end(keyOf(machine)),
    running: () => [...seats].flatMap(([key, { seat }]) => (seat.isRunning ? [key] : [])),
    kill(key) {
      const found = seats.get(key);
      if (found === undefined) return false;
      stop(key, found.seat);
      return true;
    },
    troubleGpus(key, trouble) {
      const found = seats.get(key);
      if (found === undefined) return false;
      writeFileSync(join(found.seat.home, DISK.trouble), trouble ?? '');
      return true;
    },
    agents: () => [...seats.values()].map(({ machine, seat }) => describeSeat(machine, seat)),
    changeAgent(key, change) {
      const found = seats.get(key);
      if (found === undefined) return null;
      const { machine, seat } = found;
      if (change.isPartitioned !== undefined) seat.uplink?.partition(change.isPartitioned);
      if (change.gpuPercent !== undefined) {
        const file = join(seat.home, DISK.utilization);
        if (change.gpuPercent === null) rmSync(file, { force: true });
        else writeFileSync(file, String(change.gpuPercent));
      }
      if (change.declareActivity === true) {
        const file = join(seat.home, DISK.activity);
        mkdirSync(dirname(file), { recursive: true });
        writeFileSync(file, '');
      }
      if (change.isKilled === true) stop(key, seat);
      if (change.isKilled === false && seat.isEnded) {
        seat.isEnded = false;
        void start(machine, seat);
      }
      return describeSeat(machine, seat);
    },
    onPowerOff: (listener) => void (poweredOff = listener),
    crashHost: () => host.crash(),
    close() {
      clearInterval(looking);
      for (const key of seats.keys()) end(key);
      host.close();
      if (dir === null) rmSync(root, { recursive: true, force: true });
    },
  };
}

/** Started with the first agent; where it dies, its agents have ended. */
function createHost(onEnded: (key: string) => void): { send(order: HostOrder): void; crash(): boolean; close(): void } {
  let child: ChildProcess | null = null;
  const running = new Set<string>();

  function started(): ChildProcess {
    const host = fork(join(import.meta.dirname, 'agent-host.ts'), [], {
      execArgv: HOST_FLAGS,
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    const end = () => {
      if (child !== host) return;
      child = null;
      const ended = [...running];
      running.clear();
      for (const key of ended) onEnded(key);
    };
    host.on('error', end);
    host.on('exit', end);
    host.on('message', ({ ended }: HostReport) => {
      if (running.delete(ended)) onEnded(ended);
    });
    return host;
  }

  return {
    send(order) {
      if (order.kind === 'stop' && !running.delete(order.key)) return;
      if (order.kind === 'start') running.add(order.key);
      child ??= started();
      if (child.connected) child.send(order);
    },
    crash: () => child?.kill('SIGKILL') ?? false,
    close() {
      const host = child;
      child = null;
      host?.kill('SIGKILL');
    },
  };
}

function keyOf({ provider, instanceId }: SeatedMachine): string {
  return `${provider}/${instanceId}`;
}

function describeSeat({ provider, instanceId }: SeatedMachine, seat: Seat): AgentSeat {
  const utilization = join(seat.home, DISK.utilization);
  return {
    provider,
    instanceId,
    isRunning: seat.isRunning,
    isPartitioned: seat.uplink?.isPartitioned ?? false,
    gpuPercent: existsSync(utilization) ? Number(readFileSync(utilization, 'utf8')) : null,
    home: seat.home,
  };
}

/** What the installer downloads, checked as the installer checks it. */
async function download(url: string, file: string): Promise<string> {
  const signal = AbortSignal.timeout(DOWNLOAD_MS);
  const script = await (await fetch(`${url}/api/v1${INSTALL}`, { signal })).text();
  const text = await (await fetch(`${url}/api/v1/nodes/agent.mjs`, { signal })).text();
  const sha256 = createHash('sha256').update(text).digest('hex');
  if (!script.includes(`sha256=${sha256}`)) throw new Error('the agent has another checksum than its installer says');
  writeFileSync(file, text);
  return file;
}
