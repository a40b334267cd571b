/** What lies on a simulated machine's disk, as a folder: programs, what its kernel tells, and files by which it is played with. */
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ReportedGpus } from '../ssh/gpu-report.ts';
import { renderFakeSmi } from './fake-smi.ts';

/** What an agent is put on: a rented machine, or a node of a cluster. */
export interface SeatedMachine {
  provider: string;
  instanceId: number | string;
  boot: number;
  env: Record<string, string>;
  /** null: it has no nvidia-smi. */
  gpus: ReportedGpus | null;
  /** On its disk, by their place below it; variables that end in _FILE name such places. */
  files?: Record<string, string>;
}

/** Paths below the folder. */
export const DISK = {
  agent: 'agent.mjs',
  state: 'state',
  proc: 'proc',
  sys: 'sys',
  bin: 'bin',
  workspace: 'workspace',
  /** Where its container engine listens. */
  docker: 'docker.sock',
  /** What its container engine has. */
  containers: 'docker.json',
  /** What is wrong with its GPUs (fake-smi.ts). */
  trouble: 'trouble',
  /** How busy its GPUs are, in percent; absent: idle. */
  utilization: 'utilization',
  /** The machine has switched itself off. */
  poweredOff: 'powered-off',
  /** Its workspace is read-only; this computer's own mounts are not the machine's. */
  locked: 'workspace-locked',
  /** What its workloads touch to say that they are busy. */
  activity: 'workspace/.muster/active',
} as const;

export function prepareDisk(home: string, machine: SeatedMachine): void {
  const at = (...parts: string[]) => join(home, ...parts);
  const bootId = createHash('sha256').update(`${machine.provider}/${machine.instanceId}/${machine.boot}`).digest('hex');
  mkdirSync(at(DISK.bin), { recursive: true });
  mkdirSync(at(DISK.workspace), { recursive: true });
  mkdirSync(at(DISK.proc, 'sys', 'kernel', 'random'), { recursive: true });
  for (const name of [DISK.poweredOff, DISK.locked]) rmSync(at(name), { force: true });
  if (machine.gpus) writeFileSync(at(DISK.bin, 'nvidia-smi'), renderFakeSmi(machine.gpus), { mode: 0o755 });
  writeFiles(home, machine.files ?? {});
  writeFileSync(at(DISK.proc, 'sys', 'kernel', 'random', 'boot_id'), `${bootId.slice(0, 32)}\n`);
  // Seconds that go on: the sequences of an agent that is started again in one boot go on rising.
  writeFileSync(at(DISK.proc, 'uptime'), `${((Date.now() % 1e12) / 1_000).toFixed(2)} 0\n`);
}

export function writeFiles(home: string, files: Record<string, string>): void {
  for (const [place, text] of Object.entries(files)) {
    mkdirSync(dirname(join(home, place)), { recursive: true });
    writeFileSync(join(home, place), text);
  }
}

/** A socket's path has room for 107 characters: below a folder that is deep it lies elsewhere. */
export function engineSocket(home: string): string {
  const path = join(home, DISK.docker);
  if (path.length <= MAX_SOCKET_PATH) return path;
  return join(tmpdir(), `muster-docker-${createHash('sha256').update(home).digest('hex').slice(0, 16)}.sock`);
}

const MAX_SOCKET_PATH = 100;

/** The agent's environment on that machine. */
export function agentEnvironment(home: string, machine: SeatedMachine, url: string): Record<string, string> {
  return {
    PATH: `${join(home, DISK.bin)}:/usr/bin:/bin`,
    MUSTER_AGENT_URL: url,
    MUSTER_AGENT_TOKEN: machine.env['MUSTER_AGENT_TOKEN'] ?? '',
    MUSTER_AGENT_DIR: join(home, DISK.state),
    MUSTER_AGENT_PROC: join(home, DISK.proc),
    // This computer's own devices are not the machine's.
    MUSTER_AGENT_SYS: join(home, DISK.sys),
    ...Object.fromEntries(
      Object.entries(machine.env).flatMap(([name, place]) =>
        /^MUSTER_AGENT_\w+_FILE$/.test(name) ? [[name, join(home, place)]] : [],
      ),
    ),
    MUSTER_AGENT_WORKSPACE: join(home, DISK.workspace),
    MUSTER_AGENT_DOCKER: engineSocket(home),
    MUSTER_AGENT_POWEROFF: `: > '${join(home, DISK.poweredOff)}'`,
    MUSTER_AGENT_LOCK: `case $1 in lock) : > '${join(home, DISK.locked)}' ;; *) rm -f '${join(home, DISK.locked)}' ;; esac`,
    MUSTER_AGENT_UPDATE_SPREAD: '2',
  };
}
