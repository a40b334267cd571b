/** What the machine says about itself. What it does not tell is null. */
import { readFileSync, statfsSync, statSync } from 'node:fs';
import { arch, availableParallelism, cpus, hostname, loadavg, release } from 'node:os';
import { join } from 'node:path';
import type { SystemFacts } from '../api/contract/nodes.ts';

const MIB = 1024 * 1024;

/** Never throws. @param procDirectory usually /proc @param directories whose disks are told besides the first one */
export function createSystemReader(
  procDirectory: string,
  options: { directories?: readonly string[]; monotonicMs?: () => number } = {},
): () => SystemFacts {
  const { directories = [], monotonicMs = () => performance.now() } = options;
  const rateOf = createRates(monotonicMs);
  const constant = {
    os: shorten(/^PRETTY_NAME="?([^"\n]+)"?$/m.exec(readFile('/etc/os-release') ?? '')?.[1]),
    kernel: shorten(release()),
    architecture: arch(),
    cpuModel: shorten(cpus()[0]?.model.trim()),
  };
  return () => {
    const memory = readMemory(procDirectory);
    const cpuCount = availableParallelism();
    const network = readNetwork(procDirectory);
    const { memoryTotalMib: total, memoryAvailableMib: available } = memory;
    const cpuPerSecond = rateOf('cpu', readCpuSeconds(procDirectory));
    return {
      hostname: shorten(hostname()),
      ...constant,
      cpuCount,
      load1: loadavg()[0] ?? null,
      ...memory,
      ...readDisk('/'),
      uptimeSeconds: readUptime(procDirectory),
      agentRssMib: Math.round(process.memoryUsage.rss() / MIB),
      cpuPercent: cpuPerSecond === null ? null : Math.min(100, round((cpuPerSecond / cpuCount) * 100)),
      memoryUsedMib: total === null || available === null ? null : Math.max(0, total - available),
      disks: readDisks(['/', ...directories]),
      networkReceivedBytes: network?.received ?? null,
      networkSentBytes: network?.sent ?? null,
      networkReceivedBytesPerSecond: rateOf('received', network?.received ?? null),
      networkSentBytesPerSecond: rateOf('sent', network?.sent ?? null),
    };
  };
}

/**
 * Names this boot: another one after every start of the machine, and of the container, whose first process then has started at another
 * moment. null: the kernel does not tell.
 */
export function readBootId(procDirectory: string): string | null {
  const kernelBoot = readFile(join(procDirectory, 'sys/kernel/random/boot_id'))?.trim();
  if (!kernelBoot) return null;
  // Field 22 of stat; the name in parentheses before it may contain anything.
  const firstProcess = readFile(join(procDirectory, '1/stat'))?.split(') ').at(-1)?.split(' ')[19] ?? '';
  return `${kernelBoot}-${firstProcess}`.slice(0, 128);
}

/** Seconds since the kernel started; null: not told. */
export function readUptime(procDirectory: string): number | null {
  const seconds = Number.parseFloat(readFile(join(procDirectory, 'uptime')) ?? '');
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

/** A container's own limit counts where it is the lower one. */
function readMemory(procDirectory: string): Pick<SystemFacts, 'memoryTotalMib' | 'memoryAvailableMib'> {
  const text = readFile(join(procDirectory, 'meminfo')) ?? '';
  const totalMib = readKib(text, 'MemTotal');
  const availableMib = readKib(text, 'MemAvailable');
  const limit = process.constrainedMemory();
  const limitMib = limit > 0 ? Math.round(limit / MIB) : Infinity;
  if (totalMib === null || limitMib >= totalMib) return { memoryTotalMib: totalMib, memoryAvailableMib: availableMib };
  return { memoryTotalMib: limitMib, memoryAvailableMib: Math.min(availableMib ?? limitMib, limitMib) };
}

/** Growth per second since the call before; null: not known, or it shrank, as after a restart of the machine. */
function createRates(monotonicMs: () => number): (name: string, total: number | null) => number | null {
  const last = new Map<string, { atMs: number; total: number }>();
  return (name, total) => {
    const before = last.get(name);
    const atMs = monotonicMs();
    if (total === null) last.delete(name);
    else last.set(name, { atMs, total });
    if (total === null || before === undefined || atMs <= before.atMs || total < before.total) return null;
    return round(((total - before.total) * 1_000) / (atMs - before.atMs));
  };
}

/** Of our own control group where the kernel tells it, so that of a container only its own; else of all processors. */
function readCpuSeconds(procDirectory: string): number | null {
  const group = procDirectory === '/proc' ? readFile('/sys/fs/cgroup/cpu.stat') : null;
  const micros = /^usage_usec (\d+)$/m.exec(group ?? '')?.[1];
  if (micros !== undefined) return Number(micros) / 1e6;
  // user nice system idle iowait irq softirq steal, in hundredths of a second
  const ticks = /^cpu +(.+)$/m
    .exec(readFile(join(procDirectory, 'stat')) ?? '')?.[1]
    ?.split(' ')
    .map(Number);
  if (ticks === undefined) return null;
  const [user, nice, system, , , irq, softirq] = ticks;
  const busy = [user, nice, system, irq, softirq].reduce<number>((sum, value) => sum + (value ?? 0), 0);
  return Number.isFinite(busy) ? busy / 100 : null;
}

/** What is counted twice: pairs and bridges of containers. */
const INNER_INTERFACES = /^(lo|veth.*|docker.*|br-.*|cni.*|virbr.*|podman.*|flannel.*|cali.*)$/;

function readNetwork(procDirectory: string): { received: number; sent: number } | null {
  const text = readFile(join(procDirectory, 'net/dev'));
  if (text === null) return null;
  const total = { received: 0, sent: 0 };
  for (const line of text.split('\n')) {
    const [, name, rest] = /^\s*(\S+):\s*(.+)$/.exec(line) ?? [];
    if (name === undefined || rest === undefined || INNER_INTERFACES.test(name)) continue;
    const numbers = rest.trim().split(/\s+/).map(Number);
    total.received += numbers[0] ?? 0;
    total.sent += numbers[8] ?? 0;
  }
  return Number.isFinite(total.received + total.sent) ? total : null;
}

/** One of each file system: the first path that lies on it. */
function readDisks(paths: readonly string[]): NonNullable<SystemFacts['disks']> {
  const devices = new Set<number>();
  return paths.flatMap((path) => {
    try {
      const { dev } = statSync(path);
      if (devices.has(dev)) return [];
      devices.add(dev);
    } catch {
      return [];
    }
    const { diskTotalMib: totalMib, diskFreeMib: freeMib } = readDisk(path);
    return [{ path, totalMib, freeMib }];
  });
}

function readDisk(path: string): Pick<SystemFacts, 'diskTotalMib' | 'diskFreeMib'> {
  try {
    const { blocks, bavail, bsize } = statfsSync(path);
    return { diskTotalMib: Math.round((blocks * bsize) / MIB), diskFreeMib: Math.round((bavail * bsize) / MIB) };
  } catch {
    return { diskTotalMib: null, diskFreeMib: null };
  }
}

function readKib(meminfo: string, name: string): number | null {
  const match = new RegExp(`^${name}:\\s+(\\d{1,15}) kB$`, 'm').exec(meminfo);
  return match === null ? null : Math.round(Number(match[1]) / 1024);
}

function readFile(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function shorten(text: string | undefined): string | null {
  return text === undefined || text === '' ? null : text.slice(0, 200);
}
