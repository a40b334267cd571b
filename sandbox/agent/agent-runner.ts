/**
 * Real agents on simulated machines: where a machine's start script installs one, the agent that the control plane hands out is started
 * as a process of ours, with an nvidia-smi that shows the machine's GPUs, and ends with the machine. What the machine has on its disk,
 * its key, stays over restarts of the machine; each boot has a boot id of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineWatch, RunningMachine } from '../vendor.ts';
import { renderFakeSmi } from './fake-smi.ts';

/** Each takes some 55 MB. Machines beyond it run without an agent, as if it could not be installed. */
export const MAX_AGENTS = 24;
const INSTALL = '/nodes/install.sh';
const FLAGS = ['--jitless', '--v8-pool-size=1', '--max-semi-space-size=1', '--max-old-space-size=24'];
const RETRY_MS = 2_000;
const DOWNLOAD_MS = 10_000;

export interface AgentRunner extends MachineWatch {
  /** Machines whose agent runs now, as `provider/instanceId`, with its process. */
  running(): Map<string, number>;
  /** Ends the agent of a machine, and starts none again before the machine boots. */
  kill(key: string): boolean;
  close(): void;
}

interface Seat {
  child: ChildProcess | null;
  timer: NodeJS.Timeout | null;
  isEnded: boolean;
}

/** @param dir where machines' disks are; null: a temporary folder, removed at the close */
export function createAgentRunner(dir: string | null): AgentRunner {
  const root = dir ?? mkdtempSync(join(tmpdir(), 'muster-sandbox-agents-'));
  const seats = new Map<string, Seat>();

  function end(key: string): void {
    const seat = seats.get(key);
    if (seat === undefined) return;
    seats.delete(key);
    stop(seat);
  }

  async function start(machine: RunningMachine, seat: Seat): Promise<void> {
    try {
      const home = prepareMachine(join(root, `${machine.provider}-${machine.instanceId}`), machine);
      const program = await download(machine.env['MUSTER_AGENT_URL'] ?? '', join(home, 'agent.mjs'));
      if (seat.isEnded) return;
      const child = spawn(process.execPath, [...FLAGS, program], {
        cwd: home,
        env: {
          PATH: `${join(home, 'bin')}:/usr/bin:/bin`,
          MUSTER_AGENT_URL: machine.env['MUSTER_AGENT_URL'],
          MUSTER_AGENT_TOKEN: machine.env['MUSTER_AGENT_TOKEN'],
          MUSTER_AGENT_DIR: join(home, 'state'),
          MUSTER_AGENT_PROC: join(home, 'proc'),
        },
        stdio: 'ignore',
      });
      seat.child = child;
      child.once('error', () => again(machine, seat));
      child.once('exit', () => again(machine, seat));
    } catch {
      again(machine, seat);
    }
  }

  /** As the installer's own service would. */
  function again(machine: RunningMachine, seat: Seat): void {
    seat.child = null;
    if (!seat.isEnded) seat.timer = setTimeout(() => void start(machine, seat), RETRY_MS).unref();
  }

  return {
    onRunning(machine) {
      const hasAgent =
        machine.startupScript?.includes(INSTALL) === true && machine.env['MUSTER_AGENT_URL'] !== undefined;
      if (!hasAgent || seats.size >= MAX_AGENTS) return;
      const seat: Seat = { child: null, timer: null, isEnded: false };
      end(keyOf(machine));
      seats.set(keyOf(machine), seat);
      void start(machine, seat);
    },
    onGone: (machine) => end(keyOf(machine)),
    running: () =>
      new Map([...seats].flatMap(([key, { child }]) => (child?.pid === undefined ? [] : [[key, child.pid]]))),
    kill(key) {
      const seat = seats.get(key);
      if (seat === undefined) return false;
      stop(seat);
      return true;
    },
    close() {
      for (const key of seats.keys()) end(key);
      if (dir === null) rmSync(root, { recursive: true, force: true });
    },
  };
}

function stop(seat: Seat): void {
  seat.isEnded = true;
  if (seat.timer !== null) clearTimeout(seat.timer);
  // A machine that is switched off says no goodbye.
  seat.child?.kill('SIGKILL');
}

function keyOf({ provider, instanceId }: RunningMachine): string {
  return `${provider}/${instanceId}`;
}

function prepareMachine(home: string, machine: RunningMachine): string {
  const bootId = createHash('sha256').update(`${machine.provider}/${machine.instanceId}/${machine.boot}`).digest('hex');
  mkdirSync(join(home, 'bin'), { recursive: true });
  mkdirSync(join(home, 'proc', 'sys', 'kernel', 'random'), { recursive: true });
  writeFileSync(join(home, 'bin', 'nvidia-smi'), renderFakeSmi(machine.gpus), { mode: 0o755 });
  writeFileSync(join(home, 'proc', 'sys', 'kernel', 'random', 'boot_id'), `${bootId.slice(0, 32)}\n`);
  // So the sequences of an agent that is started again in one boot go on rising.
  writeFileSync(join(home, 'proc', 'uptime'), `${Math.floor(Date.now() / 100) % 1e9} 0\n`);
  return home;
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
