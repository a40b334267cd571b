import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listDenylistings } from '../../db/machine-pages.ts';
import { denylistMachine, findMachine, liftMachine, listMachines, recordOutcome } from '../../db/machines.ts';
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
    await denylist('noisy', DAY_MS, 'loud fans');
    expect(await listed(NOW)).toContain('noisy');
    expect(await findMachine(fleet.db, 'vastai', 'noisy')).toMatchObject({
      denylist_reason: 'loud fans',
      denylisted_by: 'person',
      denylisted_at: NOW,
    });
    expect(await lift('noisy')).toBe(true);
    expect(await listed(NOW)).not.toContain('noisy');
    expect(await findMachine(fleet.db, 'vastai', 'noisy')).toMatchObject({ denylisted_by: null, denylisted_at: null });
    expect(await lift('never-seen')).toBe(false);
  });

  it('ends by itself', async () => {
    await denylist('short', 1_000, 'briefly');
    expect(await listed(new Date(NOW.getTime() + 1_001))).not.toContain('short');
  });

  it('shows by whom: a machine that failed too often is listed automatically, and audited', async () => {
    for (let failures = 0; failures < 3; failures++) await record('failing', { kind: 'failed' });
    expect(await findMachine(fleet.db, 'vastai', 'failing')).toMatchObject({ denylisted_by: 'automatic' });
    expect(await listDenylistings(fleet.db, { provider: 'vastai', machineId: 'failing' })).toMatchObject([
      { action: 'machine.denylist', actor_kind: 'system', detail: { reason: '0 of 3 attempts became ready' } },
    ]);
  });

  it('takes a lifted machine back only for new failures, three of them', async () => {
    for (let failures = 0; failures < 3; failures++) await record('forgiven', { kind: 'failed' });
    await lift('forgiven');
    await record('forgiven', { kind: 'failed' });
    await record('forgiven', { kind: 'failed' });
    expect(await listed(NOW)).not.toContain('forgiven');
    await record('forgiven', { kind: 'failed' });
    expect(await findMachine(fleet.db, 'vastai', 'forgiven')).toMatchObject({
      attempts: 6,
      denylist_reason: '0 of 3 attempts became ready',
    });
    expect(await listDenylistings(fleet.db, { provider: 'vastai', machineId: 'forgiven' })).toHaveLength(2);
  });

  it("is not shortened by a machine's own failures", async () => {
    await denylist('banned', 30 * DAY_MS, 'mines coins');
    for (let failures = 0; failures < 4; failures++) await record('banned', { kind: 'failed' });
    expect(await findMachine(fleet.db, 'vastai', 'banned')).toMatchObject({
      denylisted_until: new Date(NOW.getTime() + 30 * DAY_MS),
      denylist_reason: 'mines coins',
      denylisted_by: 'person',
    });
  });
});

function denylist(machineId: string, forMs: number, reason: string): Promise<void> {
  const until = new Date(NOW.getTime() + forMs);
  return fleet.db
    .transaction()
    .execute((tx) => denylistMachine(tx, { provider: 'vastai', machineId }, { until, reason }, NOW));
}

function lift(machineId: string): Promise<boolean> {
  return fleet.db.transaction().execute((tx) => liftMachine(tx, { provider: 'vastai', machineId }));
}

async function listed(at: Date): Promise<string[]> {
  const rows = await listMachines(fleet.db, { provider: 'vastai', denylistedAt: at, limit: 100 });
  return rows.map((row) => row.machine_id);
}

function record(machineId: string, outcome: MachineOutcome): Promise<void> {
  const failure = outcome.kind === 'ready' ? null : { code: 'boot_failed' };
  return fleet.db
    .transaction()
    .execute((tx) => recordOutcome(tx, { provider: 'vastai', machineId }, outcome, failure, NOW));
}
