import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findMachine, listMachines, recordOutcome, setDenylisted } from '../../db/machines.ts';
import type { MachineOutcome } from '../../domain/machine-history.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';

const NOW = new Date('2026-05-01T12:00:00Z');
const DAY_MS = 86_400_000;

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase({ poolSize: 16 });
});
afterAll(() => fleet?.close());

describe("a machine's history", () => {
  it('counts every outcome of many at once', async () => {
    await Promise.all(Array.from({ length: 12 }, () => record('busy', { kind: 'ready', readyMs: 60_000 })));
    expect(await findMachine(fleet.db, 'vastai', 'busy')).toMatchObject({
      attempts: 12,
      successes: 12,
      mean_ready_ms: 60_000,
      denylisted_until: null,
    });
  });

  it('denylists for a day with the reason in numbers, once the machine failed often enough', async () => {
    await record('bad', { kind: 'failed' });
    await record('bad', { kind: 'failed' });
    expect(await findMachine(fleet.db, 'vastai', 'bad')).toMatchObject({ denylisted_until: null });
    await record('bad', { kind: 'failed' });
    expect(await findMachine(fleet.db, 'vastai', 'bad')).toMatchObject({
      denylisted_until: new Date(NOW.getTime() + DAY_MS),
      denylist_reason: '0 of 3 attempts became ready',
      last_failure_code: 'boot_failed',
      last_failure_at: NOW,
    });
  });

  it('counts the loss of a machine that had been ready as a loss, not as one more attempt', async () => {
    await record('flaky', { kind: 'ready', readyMs: 1_000 });
    await record('flaky', { kind: 'lost', wasReady: true });
    expect(await findMachine(fleet.db, 'vastai', 'flaky')).toMatchObject({ attempts: 1, successes: 1, losses: 1 });
  });
});

describe('the denylist', () => {
  it('is set and lifted by hand, also for a machine never used', async () => {
    const until = new Date(NOW.getTime() + DAY_MS);
    await setDenylisted(fleet.db, 'vastai', 'noisy', until, 'loud fans');
    const listed = await listMachines(fleet.db, { provider: 'vastai', denylistedAt: NOW, limit: 100 });
    expect(listed.find((row) => row.machine_id === 'noisy')).toMatchObject({ denylist_reason: 'loud fans' });
    await setDenylisted(fleet.db, 'vastai', 'noisy', null, null);
    const after = await listMachines(fleet.db, { provider: 'vastai', denylistedAt: NOW, limit: 100 });
    expect(after.map((row) => row.machine_id)).not.toContain('noisy');
  });

  it('ends by itself', async () => {
    await setDenylisted(fleet.db, 'vastai', 'short', new Date(NOW.getTime() + 1_000), 'briefly');
    const later = new Date(NOW.getTime() + 1_001);
    const listed = await listMachines(fleet.db, { denylistedAt: later, limit: 100 });
    expect(listed.map((row) => row.machine_id)).not.toContain('short');
  });
});

function record(machineId: string, outcome: MachineOutcome): Promise<void> {
  const failure = outcome.kind === 'ready' ? null : { code: 'boot_failed' };
  return fleet.db
    .transaction()
    .execute((tx) => recordOutcome(tx, { provider: 'vastai', machineId }, outcome, failure, NOW));
}
