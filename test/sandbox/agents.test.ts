/** The real agent on simulated machines, reporting to the real API: what it says when GPUs fail, and that the machines' host may die. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Gpu, GpuReading } from '../../api/contract/nodes.ts';
import { createBundleCache } from '../../agent/bundle-cache.ts';
import { createAgentRunner, type AgentRunner } from '../../sandbox/agent/agent-runner.ts';
import { renderFakeSmi, type GpuTrouble } from '../../sandbox/agent/fake-smi.ts';
import type { RunningMachine } from '../../sandbox/vendor.ts';
import { listOffers, NO_PROGRAMS, startApiServer, type ApiServer } from '../support/api-server.ts';
import { until } from '../support/fleet-database.ts';
import { recordMachine } from '../support/node-token.ts';

const BOUND_MS = 30_000;
const GPUS: RunningMachine['gpus'] = {
  smiName: 'NVIDIA GeForce RTX 4090',
  memoryMib: 24_564,
  count: 2,
  powerWatts: 450,
  computeCap: 890,
  driverVersion: '570.86.10',
  cudaVersion: '12.8',
  uuidSeed: 'test',
};

let root: string;
let server: ApiServer;
let runner: AgentRunner;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'muster-agents-'));
  const bundle = createBundleCache(join(root, 'cache'));
  server = await startApiServer({
    agents: { bundle, nodePrograms: NO_PROGRAMS, intervalMs: 500, rotateKeyAfterMs: 86_400_000 },
  });
  await listOffers(
    server,
    Array.from({ length: 10 }, () => ({})),
  );
  runner = createAgentRunner(join(root, 'machines'));
}, 60_000);
afterAll(async () => {
  runner?.close();
  await server?.stop();
  rmSync(root, { recursive: true, force: true });
});

let machines = 0;
async function bootMachine(prepare: (home: string) => void = () => {}) {
  const { token, attemptId, instanceId } = await recordMachine(server);
  const machine: RunningMachine = {
    provider: 'vastai',
    instanceId: ++machines,
    label: 'x',
    origin: 'bought',
    boot: 1,
    startupScript: 'sh $MUSTER_AGENT_URL/api/v1/nodes/install.sh',
    env: { MUSTER_AGENT_URL: server.url, MUSTER_AGENT_TOKEN: token },
    gpus: GPUS,
    sshPort: 0,
  };
  runner.onRunning(machine);
  prepare(join(root, 'machines', `vastai-${machine.instanceId}`));
  const read = async (): Promise<GpuReading | null> =>
    (await server.call('GET', `/api/v1/nodes?instanceId=${instanceId}`)).body.items[0]?.gpu ?? null;
  const says = (is: (reading: GpuReading) => boolean, what: string) =>
    until(
      async () => {
        const reading = await read();
        return reading !== null && is(reading) && reading;
      },
      what,
      BOUND_MS,
    );
  return { machine, key: `vastai/${machine.instanceId}`, attemptId, says };
}

const MEASURES = ['memoryUsedMib', 'memoryFreeMib', 'utilizationPercent', 'temperatureC', 'powerW'] as const;
const measuresOf = (gpu: Gpu | undefined) => MEASURES.map((measure) => gpu?.[measure]);

describe('the agent of a simulated machine', () => {
  it('tells each trouble of its GPUs from the others, says unknown for what it cannot read, and recovers', async () => {
    const { key, says } = await bootMachine();
    const trouble = async (kind: GpuTrouble, reason: RegExp | null) => {
      expect(runner.troubleGpus(key, kind)).toBe(true);
      return says(
        (reading) => (reason === null ? reading.gpus?.[0]?.memoryUsedMib === null : reason.test(reading.reason ?? '')),
        kind,
      );
    };
    const healthy = await says(({ verdict }) => verdict === 'healthy', 'healthy');
    expect(healthy.gpus?.map(({ name, memoryTotalMib }) => [name, memoryTotalMib])).toEqual(
      Array.from({ length: 2 }, () => ['NVIDIA GeForce RTX 4090', 24_564]),
    );

    const lost = await trouble('gpu_lost', /^GPU 0: GPU is lost$/);
    expect(lost).toMatchObject({ verdict: 'failed', trouble: 'gpu_lost' });
    expect(lost.gpus?.map(({ index, problem }) => [index, problem])).toEqual([
      [0, 'GPU is lost'],
      [1, null],
    ]);
    // Of the lost one nothing is known; the other one works.
    expect(measuresOf(lost.gpus?.[0])).toEqual(MEASURES.map(() => null));
    expect(measuresOf(lost.gpus?.[1])).not.toContain(null);

    for (const [kind, reason] of [
      ['driver_mismatch', /different versions: a reboot is needed/],
      ['driver_gone', /driver is not loaded/],
    ] as const) {
      expect(await trouble(kind, reason)).toMatchObject({ verdict: 'failed', trouble: 'driver', gpus: null });
    }

    // Not to be allowed to read is no failure of the GPUs, and no zero.
    const closed = await trouble('no_permission', null);
    expect(closed.verdict).toBe('healthy');
    expect(closed.gpus?.map((gpu) => [gpu.memoryTotalMib, gpu.utilizationPercent, gpu.powerW])).toEqual([
      [null, null, null],
      [null, null, null],
    ]);

    expect(runner.troubleGpus(key, null)).toBe(true);
    expect(await says(({ gpus }) => gpus?.[0]?.memoryUsedMib === 1, 'recovered')).toMatchObject({ verdict: 'healthy' });
    expect(runner.troubleGpus('vastai/0', 'hang')).toBe(false);
  });

  it('reads the XML report where the driver knows no field of the query', async () => {
    const { key, says } = await bootMachine();
    const csv = await says(({ verdict }) => verdict === 'healthy', 'healthy');
    runner.troubleGpus(key, 'old_driver');
    const xml = await says((reading) => Date.parse(reading.readAt ?? '') > Date.parse(csv.readAt ?? '') + 1_500, 'xml');
    expect(
      xml.gpus?.map(({ uuid, memoryTotalMib, memoryUsedMib, temperatureC, powerW }) => [
        uuid,
        memoryTotalMib,
        memoryUsedMib,
        temperatureC,
        powerW,
      ]),
    ).toEqual(
      csv.gpus?.map(({ uuid, memoryTotalMib, memoryUsedMib, temperatureC, powerW }) => [
        uuid,
        memoryTotalMib,
        memoryUsedMib,
        temperatureC,
        powerW,
      ]),
    );
    expect(xml.driverVersion).toBe('570.86.10');
  });

  it('goes on reporting while nvidia-smi hangs from the first moment, and says that nothing is known', async () => {
    const { says, machine } = await bootMachine((home) => writeFileSync(join(home, 'trouble'), 'hang'));
    expect(await says(() => true, 'a heartbeat')).toEqual({
      verdict: 'unknown',
      reason: 'the GPUs were not read yet',
      readAt: null,
      driverVersion: null,
      gpus: null,
    });
    runner.onGone(machine);
    expect(runner.running()).not.toContain(`vastai/${machine.instanceId}`);
  });

  it('comes back with its own key when what runs it has died', async () => {
    const { key, attemptId, says } = await bootMachine();
    await says(({ verdict }) => verdict === 'healthy', 'healthy');
    const home = join(root, 'machines', key.replace('/', '-'));
    const { key: secret } = JSON.parse(readFileSync(join(home, 'state', 'agent.key'), 'utf8')) as { key: string };
    const beat = async () =>
      server.database.kysely
        .selectFrom('nodes')
        .select(['sequence', 'reboots'])
        .where('attempt_id', '=', attemptId)
        .executeTakeFirstOrThrow();
    const before = await beat();
    expect(runner.crashHost()).toBe(true);
    const after = await until(
      async () => {
        const now = await beat();
        return now.sequence > before.sequence + 2n && now;
      },
      'further heartbeats',
      BOUND_MS,
    );
    expect(after.reboots).toBe(0);
    expect(JSON.parse(readFileSync(join(home, 'state', 'agent.key'), 'utf8'))).toMatchObject({ key: secret });
  });
});

describe('the nvidia-smi of a simulated machine', () => {
  it('is a script that carries nothing of the machine but its GPUs', () => {
    expect(renderFakeSmi(GPUS)).toMatch(/^#!\/bin\/sh\n/);
    expect(renderFakeSmi(GPUS)).not.toMatch(/MUSTER|undefined/);
  });
});
