import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readDevices } from '../../../agent/gpu/devices.ts';
import { createGpuReader } from '../../../agent/gpu/gpu-reader.ts';
import { gpuReading } from '../../../api/contract/nodes.ts';

let sys: string;
beforeEach(() => void (sys = mkdtempSync(join(tmpdir(), 'muster-sys-'))));
afterEach(() => rmSync(sys, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(join(sys, path, '..'), { recursive: true });
  writeFileSync(join(sys, path), `${text}\n`);
}
function addPci(slot: string, vendor: string): void {
  put(`bus/pci/devices/${slot}/vendor`, vendor);
}
function addGaudi(
  index: number,
  change: Record<string, string> = {},
  place = `class/accel/accel${index}/device`,
): void {
  const files = {
    device_type: 'GAUDI2',
    status: 'Operational',
    pci_addr: `0000:3${index}:00.0`,
    driver_ver: '1.21.0-abc',
  };
  for (const [name, text] of Object.entries({ ...files, ...change })) put(`${place}/${name}`, text);
}

let asked = 0;
const read = () =>
  createGpuReader(
    () => {
      asked++;
      return Promise.resolve({ code: null, stdout: '', stderr: 'not there', end: 'missing' });
    },
    () => new Date('2026-11-21T09:00:00Z'),
    () => readDevices(sys),
  ).read();

describe('the devices of a machine', () => {
  it('with Gaudi are hpu: each with its name, address and state, without nvidia-smi', async () => {
    asked = 0;
    for (let index = 0; index < 12; index++) addGaudi(index);
    addPci('0000:30:00.0', '0x1da3');
    const reading = await read();
    expect(gpuReading.safeParse(reading).error).toBeUndefined();
    expect(reading).toMatchObject({ hardwareType: 'hpu', verdict: 'healthy', driverVersion: '1.21.0-abc' });
    expect(reading.gpus?.map(({ index }) => index)).toEqual(Array.from({ length: 12 }, (_, index) => index));
    expect(reading.gpus?.[1]).toMatchObject({
      name: 'GAUDI2',
      busId: '0000:31:00.0',
      memoryTotalMib: null,
      problem: null,
    });
    expect(asked).toBe(0);
  });

  it.each([
    ['Malfunction', 'failed'],
    ['In reset', 'degraded'],
    ['Operational', 'healthy'],
  ])('with one that is "%s" are %s', async (status, verdict) => {
    addGaudi(0);
    addGaudi(1, { status });
    expect(await read()).toMatchObject({
      verdict,
      reason: verdict === 'healthy' ? null : `GPU 1: its driver says: ${status}`,
    });
  });

  it('of an older driver are found in its own class, and those of other vendors in `accel` are left alone', async () => {
    addGaudi(0, { device_type: 'GAUDI' }, 'class/habanalabs/hl0');
    put('class/accel/accel0/device/vendor', '0x8086');
    expect((await read()).gpus).toMatchObject([{ name: 'GAUDI' }]);
  });

  it('are failed where a Gaudi is on the bus and no driver shows it', async () => {
    addPci('0000:30:00.0', '0x1da3');
    expect(await read()).toMatchObject({ hardwareType: 'hpu', verdict: 'failed', gpus: null });
  });

  it('are none, proven, where the bus has neither vendor', async () => {
    addPci('0000:00:00.0', '0x8086');
    expect(await read()).toMatchObject({ hardwareType: 'cpu', verdict: 'healthy', gpus: [] });
  });

  it('are those of nvidia-smi where the bus has neither vendor and it shows some: WSL hands them over beside the bus', async () => {
    addPci('0000:00:00.0', '0x1414');
    const known: Record<string, string> = {
      index: '0',
      uuid: 'GPU-1f',
      name: 'NVIDIA RTX A2000',
      'memory.total': '4096',
    };
    const reader = createGpuReader(
      (args) => {
        const fields = /^--query-gpu=(.*)$/.exec(args[0] ?? '')?.[1]?.split(',') ?? [];
        const stdout = `${fields.map((field) => known[field] ?? '[N/A]').join(', ')}\n`;
        return Promise.resolve({ code: 0, stdout, stderr: '', end: 'exited' });
      },
      () => new Date('2026-11-21T09:00:00Z'),
      () => readDevices(sys),
    );
    expect(await reader.read()).toMatchObject({ hardwareType: 'cuda', gpus: [{ uuid: 'GPU-1f' }] });
  });

  it.each([
    ['has NVIDIA', () => addPci('0000:01:00.0', '0x10de')],
    ['is empty, as in some sandboxes', () => mkdirSync(join(sys, 'bus/pci/devices'), { recursive: true })],
    ['is not shown', () => {}],
  ])('are asked of nvidia-smi where the bus %s', async (_name, prepare) => {
    asked = 0;
    prepare();
    expect(await read()).toMatchObject({ hardwareType: null, verdict: 'unknown', gpus: null });
    expect(asked).toBe(1);
  });
});
