/**
 * Real agents on simulated machines: where a machine's start script installs one, the agent that the control plane hands out is downloaded
 * and run (agent-host.ts) with an nvidia-smi that shows the machine's GPUs, and ends with the machine. What the machine has on its disk,
 * its key, stays over restarts of the machine; each boot has a boot id of its own.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineWatch, RunningMachine } from '../vendor.ts';
import type { HostOrder, HostReport } from './agent-host.ts';
import { renderFakeSmi, type GpuTrouble } from './fake-smi.ts';

/** Each takes some 11 MB. Machines beyond it run without an agent, as if it could not be installed. */
export const MAX_AGENTS = 200;
const INSTALL = '/nodes/install.sh';
const HOST_FLAGS = ['--disable-warning=ExperimentalWarning'];
const RETRY_MS = 2_000;
const DOWNLOAD_MS = 10_000;

export interface AgentRunner extends MachineWatch {
  /** Machines whose agent runs now, as `provider/instanceId`. */
  running(): string[];
  /** Ends the agent of a machine, and starts none again before the machine boots. */
  kill(key: string): boolean;
  troubleGpus(key: string, trouble: GpuTrouble | null): boolean;
  /** Kills the process that all agents run in; false: none runs. */
  crashHost(): boolean;
  close(): void;
}

interface Seat {
  home: string;
  timer: NodeJS.Timeout | null;
  isRunning: boolean;
  isEnded: boolean;
}

/** @param dir where machines' disks are; null: a temporary folder, removed at the close */
export function createAgentRunner(dir: string | null): AgentRunner {
  const root = dir ?? mkdtempSync(join(tmpdir(), 'muster-sandbox-agents-'));
  const seats = new Map<string, { machine: RunningMachine; seat: Seat }>();
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
  }

  async function start(machine: RunningMachine, seat: Seat): Promise<void> {
    try {
      const { home } = seat;
      prepareMachine(home, machine);
      const program = await download(machine.env['MUSTER_AGENT_URL'] ?? '', join(home, 'agent.mjs'));
      if (seat.isEnded) return;
      const env = {
        PATH: `${join(home, 'bin')}:/usr/bin:/bin`,
        MUSTER_AGENT_URL: machine.env['MUSTER_AGENT_URL'] ?? '',
        MUSTER_AGENT_TOKEN: machine.env['MUSTER_AGENT_TOKEN'] ?? '',
        MUSTER_AGENT_DIR: join(home, 'state'),
        MUSTER_AGENT_PROC: join(home, 'proc'),
      };
      seat.isRunning = true;
      host.send({ kind: 'start', key: keyOf(machine), program, env });
    } catch {
      again(machine, seat);
    }
  }

  /** As the installer's own service would. */
  function again(machine: RunningMachine, seat: Seat): void {
    seat.isRunning = false;
    if (!seat.isEnded) seat.timer = setTimeout(() => void start(machine, seat), RETRY_MS).unref();
  }

  return {
    onRunning(machine) {
      const hasAgent =
        machine.startupScript?.includes(INSTALL) === true && machine.env['MUSTER_AGENT_URL'] !== undefined;
      const key = keyOf(machine);
      end(key);
      if (!hasAgent || seats.size >= MAX_AGENTS) return;
      const home = join(root, `${machine.provider}-${machine.filesOf ?? machine.instanceId}`);
      const seat: Seat = { home, timer: null, isRunning: false, isEnded: false };
      seats.set(key, { machine, seat });
      void start(machine, seat);
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
      writeFileSync(join(found.seat.home, 'trouble'), trouble ?? '');
      return true;
    },
    crashHost: () => host.crash(),
    close() {
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

function keyOf({ provider, instanceId }: RunningMachine): string {
  return `${provider}/${instanceId}`;
}

function prepareMachine(home: string, machine: RunningMachine): void {
  const bootId = createHash('sha256').update(`${machine.provider}/${machine.instanceId}/${machine.boot}`).digest('hex');
  mkdirSync(join(home, 'bin'), { recursive: true });
  mkdirSync(join(home, 'proc', 'sys', 'kernel', 'random'), { recursive: true });
  if (machine.gpus) writeFileSync(join(home, 'bin', 'nvidia-smi'), renderFakeSmi(machine.gpus), { mode: 0o755 });
  writeFileSync(join(home, 'proc', 'sys', 'kernel', 'random', 'boot_id'), `${bootId.slice(0, 32)}\n`);
  // So the sequences of an agent that is started again in one boot go on rising.
  writeFileSync(join(home, 'proc', 'uptime'), `${Math.floor(Date.now() / 100) % 1e9} 0\n`);
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
