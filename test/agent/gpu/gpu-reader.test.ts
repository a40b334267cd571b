import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { gpuReading } from '../../../api/contract/nodes.ts';
import { createGpuReader } from '../../../agent/gpu/gpu-reader.ts';
import { createSmiRunner } from '../../../agent/gpu/run-smi.ts';
import type { SmiResult } from '../../../agent/gpu/smi-failure.ts';
import { answerFromTable, asResult, exited, failures, fixture, scriptedSmi } from './fixtures.ts';

const NOW = new Date('2026-11-21T12:00:00.000Z');
const read = (...answers: ((args: readonly string[]) => SmiResult | undefined)[]) =>
  createGpuReader(scriptedSmi(...answers), () => NOW).read();
const table = (name: string) => answerFromTable(fixture(name));

describe('a reading', () => {
  it('of two healthy GPUs', async () => {
    const reading = await read(table('healthy-2xh100.csv'));
    expect(reading).toMatchObject({ verdict: 'healthy', reason: null, readAt: NOW.toISOString() });
    expect(reading.gpus).toHaveLength(2);
    expect(reading.gpus?.[1]).toMatchObject({
      index: 1,
      name: 'NVIDIA H100 80GB HBM3',
      memoryTotalMib: 81559,
      memoryUsedMib: 60211,
      utilizationPercent: 97,
      powerW: 655.2,
      eccUncorrected: 0,
      migMode: 'disabled',
      problem: null,
    });
  });

  it('of a consumer GPU has null where the driver has no value', async () => {
    const { verdict, gpus } = await read(table('consumer.csv'));
    expect(verdict).toBe('healthy');
    expect(gpus?.[0]).toMatchObject({ eccUncorrected: null, migMode: null, powerLimitW: null });
  });

  it('of a lost GPU is a failure with nulls, never with zeros', async () => {
    const { verdict, reason, gpus } = await read(table('gpu-lost.csv'));
    expect({ verdict, reason }).toEqual({ verdict: 'failed', reason: 'GPU 0: GPU is lost' });
    expect(gpus?.[0]).toMatchObject({ memoryTotalMib: null, memoryUsedMib: null, temperatureC: null });
  });

  it.each([
    ['gpu_lost', exited(15, 'Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.')],
    ['hang', { code: null, stdout: '', stderr: '', end: 'timeout' } satisfies SmiResult],
    ['driver', exited(9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")],
    ['driver', exited(18, 'Failed to initialize NVML: Driver/library version mismatch')],
    ['driver', exited(255, 'Failed to initialize NVML: Unknown Error')],
    ['no_devices', exited(6, 'No devices were found')],
    ['hardware', exited(8, '')],
    ['other', exited(77, '')],
  ] as const)('that failed names its trouble: %s', async (trouble, result) => {
    expect(await read(() => result)).toMatchObject({ verdict: 'failed', trouble });
  });

  it('names none where nothing failed', async () => {
    expect(await read(table('consumer.csv'))).not.toHaveProperty('trouble');
    expect(await read(() => exited(4, 'insufficient permissions'))).not.toHaveProperty('trouble');
  });

  it('with an unknown error in some fields is degraded, and these fields are null', async () => {
    const { verdict, gpus } = await read(table('unknown-error.csv'));
    expect(verdict).toBe('degraded');
    expect(gpus?.[0]).toMatchObject({ utilizationPercent: null, powerW: null, temperatureC: 41 });
  });

  it('of a sliced GPU has its MIG devices, named by the list and measured by the report', async () => {
    const reading = await read(
      (args) => (args[0] === '-L' ? exited(0, fixture('mig-L.txt')) : undefined),
      (args) => (args[0] === '-q' ? exited(0, fixture('mig-min.xml')) : undefined),
      table('mig.csv'),
    );
    expect(reading.gpus?.[0]).toMatchObject({ migMode: 'enabled', utilizationPercent: null });
    expect(reading.gpus?.[0]?.migDevices).toEqual([
      {
        index: 0,
        uuid: 'MIG-aaaaaaaa-aaaa-5aaa-8aaa-aaaaaaaaaaaa',
        profile: '3g.40gb',
        memoryTotalMib: 40448,
        memoryUsedMib: 26,
      },
      {
        index: 1,
        uuid: 'MIG-bbbbbbbb-bbbb-5bbb-8bbb-bbbbbbbbbbbb',
        profile: '1g.10gb',
        memoryTotalMib: 9984,
        memoryUsedMib: 9,
      },
    ]);
    expect(gpuReading.safeParse(reading).success).toBe(true);
  });

  it.each(failures.map((one) => [`${one.rc ?? 'hang'}`, one] as const))(
    'that fails with %s has no GPUs instead of none, and says why',
    async (_name, failure) => {
      const reading = await read(() => asResult(failure));
      expect(reading.gpus).toBeNull();
      expect(reading.reason).toMatch(/./);
      expect(reading.verdict).not.toBe('healthy');
      expect(gpuReading.safeParse(reading).success).toBe(true);
    },
  );

  it('falls back to the XML report where the query is refused or cannot be read', async () => {
    for (const refusal of [exited(2, 'Field "pstate" is not a valid field to query.\n'), exited(0, 'what?')]) {
      const reading = await read(
        (args) => (args[0] === '-q' ? exited(0, fixture('mig-min.xml')) : undefined),
        (args) => (args[0]?.startsWith('--query') ? refusal : undefined),
      );
      expect(reading).toMatchObject({ verdict: 'healthy', driverVersion: '550.90.07' });
      expect(reading.gpus?.[0]).toMatchObject({ name: 'NVIDIA H100 80GB HBM3', memoryTotalMib: 81559 });
    }
  });

  it('asks the GPUs one by one when a lost one makes the query of all fail', async () => {
    const lost = exited(15, 'Unable to determine the device handle for GPU0000:BA:00.0: Unknown Error\n');
    const smi = scriptedSmi(
      (args) => (args.includes('-i') ? undefined : lost),
      (args) => (args.includes('-i') && args.at(-1) === '1' ? lost : undefined),
      (args) => (args.at(-1) === '0' ? table('healthy-2xh100.csv')(args) : undefined),
      (args) => (args.includes('-i') ? exited(6, 'No devices were found\n') : undefined),
    );
    const { verdict, reason, gpus } = await createGpuReader(smi, () => NOW).read();
    expect({ verdict, reason }).toEqual({ verdict: 'failed', reason: 'GPU 1: GPU is lost' });
    expect(gpus?.map(({ index, memoryTotalMib }) => ({ index, memoryTotalMib }))).toEqual([
      { index: 0, memoryTotalMib: 81559 },
      { index: 1, memoryTotalMib: null },
    ]);
  });

  it('knows a lost GPU by what was read before', async () => {
    let isLost = false;
    const lost = exited(15, 'GPU is lost. Reboot the system\n');
    const smi = scriptedSmi(
      (args) => (isLost && (!args.includes('-i') || args.at(-1) === '1') ? lost : undefined),
      table('healthy-2xh100.csv'),
    );
    const reader = createGpuReader(smi, () => NOW);
    await reader.read();
    isLost = true;
    const { gpus } = await reader.read();
    expect(gpus?.[1]).toMatchObject({ uuid: 'GPU-22222222-2222-4222-8222-222222222222', problem: 'GPU is lost' });
  });

  it('leaves out optional fields that the driver does not know, and asks for the rest', async () => {
    const smi = scriptedSmi((args) => {
      const fields = args.find((arg) => arg.startsWith('--query-gpu=uuid,')) ?? '';
      const unknown = ['gpu_recovery_action', 'clocks_event_reasons.active'].find((field) => fields.includes(field));
      if (unknown !== undefined) return exited(2, `Field "${unknown}" is not a valid field to query.\n`);
      return fields === '' ? undefined : exited(0, 'GPU-33333333-3333-4333-8333-333333333333, Yes, No, No, 51\n');
    }, table('consumer.csv'));
    const reading = await createGpuReader(smi, () => NOW).read();
    expect(reading).toMatchObject({ verdict: 'degraded', reason: 'GPU 0: memory rows wait to be remapped' });
    expect(reading.gpus?.[0]?.memoryTemperatureC).toBe(51);
  });

  it.each([
    ['Yes, Yes, No, 0x0, None, 50', 'failed', /remapping memory rows failed/],
    ['No, No, No, 0x0, GPU Reset, 50', 'failed', /asks for: GPU Reset/],
    ['No, No, No, 0x0, Drain P2P, 50', 'degraded', /asks for: Drain/],
    ['No, No, No, 0x0000000000000040, None, 50', 'degraded', /slowed down/],
    ['No, No, No, 0x0000000000000005, None, 50', 'healthy', /^$/],
    ['[N/A], [N/A], [N/A], [N/A], [N/A], [N/A]', 'healthy', /^$/],
  ])('judges %s as %s', async (cells, verdict, reason) => {
    const reading = await read(
      (args) =>
        args[0]?.startsWith('--query-gpu=uuid,')
          ? exited(0, `GPU-33333333-3333-4333-8333-333333333333, ${cells}\n`)
          : undefined,
      table('consumer.csv'),
    );
    expect(reading.verdict).toBe(verdict);
    expect(reading.reason ?? '').toMatch(reason);
  });
});

describe('running nvidia-smi', () => {
  const folder = mkdtempSync(join(tmpdir(), 'muster-smi-'));
  const program = (script: string): string => {
    const path = join(folder, `smi-${Math.random().toString(36).slice(2)}`);
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  };
  const env = { PATH: process.env['PATH'] ?? '' };

  it('gives its output and exit code', async () => {
    const run = createSmiRunner({ program: program('echo "$@"; echo oh >&2; exit 9'), env });
    expect(await run(['-L'])).toEqual({ code: 9, stdout: '-L\n', stderr: 'oh\n', end: 'exited' });
  });

  it('says that it is missing', async () => {
    const run = createSmiRunner({ program: join(folder, 'nothing'), env });
    expect(await run([])).toMatchObject({ code: null, end: 'missing' });
  });

  it('kills what hangs, with what it started, and goes on afterwards', async () => {
    const run = createSmiRunner({ program: program('sleep 600 & wait'), env, timeoutMs: 100 });
    expect(await run([])).toMatchObject({ code: null, end: 'timeout' });
    await expect.poll(() => run([]).then(({ end }) => end)).toBe('timeout');
    rmSync(folder, { recursive: true });
  });
});
