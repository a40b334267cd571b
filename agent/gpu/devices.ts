/**
 * Which accelerators a machine has, by what the kernel shows in sysfs: vendors on the PCI bus, and Habana's devices with what their driver
 * tells of itself. It needs no program and no right beyond reading.
 * Sources: Documentation/ABI/testing/sysfs-bus-pci and sysfs-driver-habanalabs of the kernel (/sys/class/accel/accel<n>/device/ since 6.2,
 * /sys/class/habanalabs/hl<n>/ before).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Gpu } from '../../api/contract/nodes.ts';
import type { JudgedGpu } from './gpu-health.ts';

export interface Devices {
  /** Vendors' ids of what is on the bus; null: the kernel does not tell. */
  pciVendors: ReadonlySet<string> | null;
  gaudi: { judged: JudgedGpu[]; driverVersion: string | null };
}

export const NVIDIA_PCI = '0x10de';
export const HABANA_PCI = '0x1da3';
const MAX_DEVICES = 64;

/** Never throws. @param sysDirectory usually /sys */
export function readDevices(sysDirectory: string): Devices {
  const found = [...habanaDevices(sysDirectory)].slice(0, MAX_DEVICES);
  return {
    pciVendors: readPciVendors(sysDirectory),
    gaudi: {
      judged: found.map(({ directory, index }) => judgeDevice(directory, index)),
      driverVersion: found.map(({ directory }) => read(directory, 'driver_ver')).find((text) => text !== null) ?? null,
    },
  };
}

function readPciVendors(sysDirectory: string): Set<string> | null {
  const bus = join(sysDirectory, 'bus/pci/devices');
  const slots = list(bus);
  if (slots === null) return null;
  return new Set(slots.flatMap((slot) => read(join(bus, slot), 'vendor') ?? []));
}

/** `accel` holds devices of other vendors too, so that those are taken whose files only Habana's driver has. */
function* habanaDevices(sysDirectory: string): Generator<{ directory: string; index: number }> {
  const places = [
    { parent: join(sysDirectory, 'class/accel'), pattern: /^accel(\d+)$/, below: 'device' },
    { parent: join(sysDirectory, 'class/habanalabs'), pattern: /^hl(\d+)$/, below: '' },
  ];
  for (const { parent, pattern, below } of places) {
    const names = list(parent) ?? [];
    for (const name of names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))) {
      const index = pattern.exec(name)?.[1];
      const directory = join(parent, name, below);
      if (index === undefined || read(directory, 'device_type') === null || read(directory, 'status') === null)
        continue;
      yield { directory, index: Number(index) };
    }
  }
}

function judgeDevice(directory: string, index: number): JudgedGpu {
  const status = read(directory, 'status') ?? 'unknown';
  const isGood = /^operational$/i.test(status);
  const isBack = /^(in reset|needs reset|in device creation)/i.test(status);
  const gpu: Gpu = {
    index,
    uuid: null,
    name: read(directory, 'device_type'),
    busId: read(directory, 'pci_addr'),
    memoryTotalMib: null,
    memoryUsedMib: null,
    memoryFreeMib: null,
    utilizationPercent: null,
    memoryUtilizationPercent: null,
    temperatureC: null,
    memoryTemperatureC: null,
    powerW: null,
    powerLimitW: null,
    pstate: null,
    eccUncorrected: null,
    migMode: null,
    migDevices: null,
    problem: isGood ? null : `its driver says: ${status}`,
  };
  return { gpu, verdict: isGood ? 'healthy' : isBack ? 'degraded' : 'failed' };
}

function list(directory: string): string[] | null {
  try {
    return readdirSync(directory);
  } catch {
    return null;
  }
}

/** The first line; null: not there, or empty. */
function read(directory: string, name: string): string | null {
  try {
    return readFileSync(join(directory, name), 'utf8').split('\n')[0]?.trim().slice(0, 200) || null;
  } catch {
    return null;
  }
}
