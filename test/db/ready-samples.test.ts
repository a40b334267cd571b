import { afterAll, beforeAll, expect, it } from 'vitest';
import { readMachineStatistics, readReadyStatistics, recordReadySample } from '../../db/ready-samples.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';

const DAY_MS = 86_400_000;

let fleet: FleetDatabase;
let number = 0;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterAll(() => fleet?.close());

function sample(provider: string, machineId: string | null, readyMs: number | null, change = {}): Promise<void> {
  number += 1;
  return recordReadySample(fleet.db, {
    attemptId: `att_${number}`,
    provider,
    machineId,
    gpu: 'RTX 4090',
    readyMs,
    at: new Date(),
    ...change,
  });
}

it('the time to ready is told by machine and by provider, also where the vendor names no machine', async () => {
  for (const seconds of [10, 20, 30, 40, 100]) await sample('vastai', 'm1', seconds * 1_000);
  await sample('vastai', 'm1', null);
  await sample('vastai', 'm2', null);
  await sample('runpod', null, 60_000);
  await sample('runpod', null, null);
  await sample('vastai', 'm3', 5_000, { gpu: 'H100 SXM' });
  await sample('vastai', 'm2', 1_000, { at: new Date(Date.now() - 31 * DAY_MS) });
  await sample('vastai', 'm2', 77_000, { attemptId: 'att_7' }); // told again

  const { byMachine, providers } = await readReadyStatistics(fleet.db, 'rtx_4090');
  expect(providers).toEqual([
    { provider: 'runpod', attempts: 2, successes: 1, p50ReadyMs: 60_000, p95ReadyMs: 60_000 },
    { provider: 'vastai', attempts: 7, successes: 5, p50ReadyMs: 30_000, p95ReadyMs: 88_000 },
  ]);
  expect([...byMachine]).toEqual([
    ['vastai/machine/m1', { attempts: 6, successes: 5, p50ReadyMs: 30_000, p95ReadyMs: 88_000 }],
    ['vastai/machine/m2', { attempts: 1, successes: 0, p50ReadyMs: null, p95ReadyMs: null }],
  ]);
  const machines = await readMachineStatistics(fleet.db, [
    { provider: 'vastai', machine_id: 'm3' },
    { provider: 'lambda', machine_id: 'm1' },
  ]);
  expect([...machines.keys()]).toEqual(['vastai/machine/m3']);
});
