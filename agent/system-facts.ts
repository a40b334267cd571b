/** What the machine says about itself. What it does not tell is null. */
import { readFileSync, statfsSync } from 'node:fs';
import { arch, cpus, hostname, loadavg, release } from 'node:os';
import { join } from 'node:path';
import type { SystemFacts } from '../api/contract/nodes.ts';

const MIB = 1024 * 1024;

/** Never throws. @param procDirectory usually /proc */
export function readSystemFacts(procDirectory: string): SystemFacts {
  const memory = readMemory(procDirectory);
  const disk = readDisk();
  const processors = cpus();
  return {
    hostname: shorten(hostname()),
    os: shorten(/^PRETTY_NAME="?([^"\n]+)"?$/m.exec(readFile('/etc/os-release') ?? '')?.[1]),
    kernel: shorten(release()),
    architecture: arch(),
    cpuModel: shorten(processors[0]?.model.trim()),
    cpuCount: processors.length > 0 ? processors.length : null,
    load1: loadavg()[0] ?? null,
    ...memory,
    ...disk,
    uptimeSeconds: readUptime(procDirectory),
    agentRssMib: Math.round(process.memoryUsage.rss() / MIB),
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

function readDisk(): Pick<SystemFacts, 'diskTotalMib' | 'diskFreeMib'> {
  try {
    const { blocks, bavail, bsize } = statfsSync('/');
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

function shorten(text: string | undefined): string | null {
  return text === undefined || text === '' ? null : text.slice(0, 200);
}
