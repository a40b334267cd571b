/** What an agent reads and remembers between heartbeats. */
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readActivity } from '../../agent/activity.ts';
import { createGpuPeak } from '../../agent/gpu/gpu-peak.ts';
import { createPowerOff } from '../../agent/power-off.ts';
import { createReporter } from '../../agent/reporter.ts';
import { createSystemReader } from '../../agent/system-facts.ts';
import { systemFacts, type Gpu, type GpuReading } from '../../api/contract/nodes.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'muster-reports-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('declared activity', () => {
  it('has the age of the touched file, none where there is no file, and is unknown where it cannot be looked at', () => {
    const file = join(directory, 'active');
    expect(readActivity(file)).toEqual({ declaredAgoMs: null });
    writeFileSync(file, '');
    utimesSync(file, new Date(), new Date(Date.now() - 90_000));
    expect(Math.abs((readActivity(file)?.declaredAgoMs ?? 0) - 90_000)).toBeLessThan(5_000);
    utimesSync(file, new Date(), new Date(Date.now() + 3_600_000));
    expect(readActivity(file)).toEqual({ declaredAgoMs: 0 });
    expect(readActivity(join(file, 'below'))).toEqual({ declaredAgoMs: null });
    expect(readActivity(`${directory}/${'x'.repeat(300)}`)).toBeUndefined();
  });
});

describe('the busiest moment of the GPUs', () => {
  const reading = (...percents: (number | null)[]) =>
    ({ gpus: percents.map((utilizationPercent) => ({ utilizationPercent }) as Gpu) }) as GpuReading;
  const broken = { gpus: null } as GpuReading;

  it('is of the last minute and of all GPUs, and unknown where anything of it is', () => {
    let now = 0;
    const peak = createGpuPeak(() => now);
    expect(peak.percent()).toBeNull();
    for (const [atMs, one, expected] of [
      [0, reading(3, 90), 90],
      [10_000, reading(1, 2), 90],
      [20_000, reading(1, null), null],
      [80_000, reading(4, 5), null],
      [90_000, reading(1, 2), 5],
      [100_000, broken, null],
      [170_000, reading(7), 7],
      [250_000, reading(), null],
    ] as const) {
      now = atMs;
      peak.add(one);
      expect([atMs, peak.percent()]).toEqual([atMs, expected]);
    }
    now = 400_000;
    expect(peak.percent()).toBeNull();
  });
});

describe('the system', () => {
  function write(ticks: number, received: number): void {
    mkdirSync(join(directory, 'net'), { recursive: true });
    writeFileSync(join(directory, 'stat'), `cpu  ${ticks} 0 ${ticks} 900 0 0 0 0 0 0\ncpu0 1 2 3\n`);
    writeFileSync(join(directory, 'meminfo'), 'MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n');
    const line = (name: string, bytes: number) => ` ${name}: ${bytes} 1 0 0 0 0 0 0 ${bytes * 2} 1 0 0 0 0 0 0\n`;
    writeFileSync(
      join(directory, 'net/dev'),
      `Inter-| Receive\n face |bytes\n${line('lo', 9e9)}${line('eth0', received)}${line('veth1', 9e9)}`,
    );
  }

  it('tells rates from the second look on, counts no loopback and no pair twice, and never takes unknown for zero', () => {
    let now = 0;
    write(100, 1_000);
    const read = createSystemReader(directory, { directories: [directory, '/nothing'], monotonicMs: () => now });
    const first = read();
    expect(first).toMatchObject({
      cpuPercent: null,
      networkReceivedBytes: 1_000,
      networkSentBytes: 2_000,
      networkReceivedBytesPerSecond: null,
    });
    expect(first.memoryUsedMib).toBe((first.memoryTotalMib ?? 0) - (first.memoryAvailableMib ?? 0));
    expect(first.disks?.every(({ path }) => path === '/' || path === directory)).toBe(true);
    now = 10_000;
    write(100 + (first.cpuCount ?? 1) * 250, 51_000);
    expect(read()).toMatchObject({
      cpuPercent: 50,
      networkReceivedBytesPerSecond: 5_000,
      networkSentBytesPerSecond: 10_000,
    });
    now = 20_000;
    write(50, 100); // counters began anew
    expect(read()).toMatchObject({ cpuPercent: null, networkReceivedBytesPerSecond: null });
    rmSync(join(directory, 'net'), { recursive: true });
    rmSync(join(directory, 'stat'));
    now = 30_000;
    const none = read();
    expect(none).toMatchObject({ cpuPercent: null, networkReceivedBytes: null, networkSentBytesPerSecond: null });
    expect(systemFacts.safeParse(none).error).toBeUndefined();
  });
});

describe('the reporter', () => {
  it('tells several ends in one call, and nothing where there is nothing to tell', async () => {
    const sent: unknown[] = [];
    let body: object | null = { orders: [] };
    const told = Promise.withResolvers<void>();
    const reporter = createReporter(
      () => body,
      (one) => {
        sent.push(one);
        told.resolve();
        return Promise.resolve();
      },
    );
    reporter.changed(false);
    reporter.changed(true);
    reporter.changed(true);
    await told.promise;
    expect(sent).toHaveLength(1);
    body = null;
    reporter.changed(true);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sent).toHaveLength(1);
    reporter.stop();
  });
});

describe('switching off', () => {
  it('runs the command, and says where it failed', async () => {
    const off = join(directory, 'off');
    await createPowerOff('touch "$OFF"', { OFF: off, PATH: '/usr/bin:/bin' })();
    expect(readActivity(off)?.declaredAgoMs).toBeLessThan(10_000);
    await expect(createPowerOff('exit 3', { PATH: '/bin' })()).rejects.toThrow('it ended with 3');
  });
});
