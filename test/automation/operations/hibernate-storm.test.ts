/**
 * Everybody at once: instances are hibernated, woken, canceled, destroyed and lost in any order by two workers, snapshots and restores end well
 * or not. Whatever happens, no machine is given up for a sleep before its snapshot was verified, none is left over, none is handed out empty.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { inTransaction } from '../../../db/database.ts';
import { finishOperation, wakeOperation } from '../../../db/operations.ts';
import { MusterError } from '../../../domain/error-table.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { createSeededRandom } from '../../support/seeded-random.ts';
import { createSleepingFleet, type SleepingFleet } from '../../support/sleeping-fleet.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

const SEEDS = [1, 2];
const STEPS = 40;

let ssh: SshMachine;
let automation: ScriptedAutomation;
let fleet: SleepingFleet;
beforeAll(async () => {
  ssh = await startSshMachine();
  ssh.answer = RTX_4090;
});
afterAll(() => ssh?.close());
beforeEach(async () => {
  automation = await createScriptedAutomation();
  automation.vendor.ssh = { host: ssh.host, port: ssh.port, user: ssh.user };
  fleet = await createSleepingFleet(automation);
  await automation.openMarket(40);
  await automation.startWorker();
  await automation.startWorker();
});
afterEach(() => automation.close());

/** What may be refused by the state that the others have made meanwhile. */
async function may(work: () => Promise<unknown>): Promise<void> {
  await work().catch((error: unknown) => {
    if (!(error instanceof MusterError)) throw error;
  });
}

/** Ends what agents do now, well or not. */
async function endAgentsWork(isGood: () => boolean): Promise<void> {
  const { db, queue } = automation;
  const rows = await db
    .selectFrom('operations')
    .selectAll()
    .where('kind', 'in', ['take_snapshot', 'restore_workspace'])
    .where('status', '=', 'running')
    .execute();
  for (const row of rows) {
    const good = isGood();
    await inTransaction(db, async (tx) => {
      let waiting = (row.input as { waitingOperationId?: string }).waitingOperationId ?? null;
      if (row.kind === 'take_snapshot') {
        const snapshot = await tx
          .updateTable('snapshots')
          .set(good ? { status: 'verified', verified_at: new Date(), data_at: new Date() } : { status: 'failed' })
          .where('id', '=', row.target_id)
          .returning('waiting_operation_id')
          .executeTakeFirst();
        waiting = snapshot?.waiting_operation_id ?? null;
      }
      await finishOperation(tx, queue, row.id, good ? 'succeeded' : 'failed', {});
      if (waiting !== null) await wakeOperation(tx, queue, waiting);
    });
  }
}

/** Agents register, machines boot. */
async function boot(): Promise<void> {
  const known = new Set(
    (await automation.db.selectFrom('nodes').select('attempt_id').execute()).map((node) => node.attempt_id),
  );
  for (const attempt of await automation.attempts()) {
    if (attempt.status !== 'bought') continue;
    if (!known.has(attempt.id)) await fleet.addNode(attempt);
    if (automation.vendor.live().includes(attempt.label)) automation.vendor.run(attempt.label);
  }
  await automation.tick('readiness');
}

/** Until no step runs, or for a moment: some of the storm is to come while one does. */
async function settle(): Promise<void> {
  const endsAt = performance.now() + 150;
  for (;;) {
    const running = await automation.db
      .selectFrom('operations')
      .select('id')
      .where('lease_owner', 'like', 'worker-%')
      .where('status', '=', 'running')
      .execute();
    if (running.length === 0 || performance.now() > endsAt) return;
  }
}

async function expectNothingWrong(): Promise<void> {
  const snapshots = await automation.db.selectFrom('snapshots').selectAll().execute();
  const sleeps = await automation.db.selectFrom('hibernations').selectAll().execute();
  for (const sleep of sleeps) {
    if (sleep.released_at === null) continue;
    const snapshot = snapshots.find(({ id }) => id === sleep.snapshot_id);
    expect(snapshot).toMatchObject({ status: 'verified', instance_id: sleep.instance_id });
    expect(snapshot?.verified_at?.getTime()).toBeLessThanOrEqual(sleep.released_at.getTime() + 5);
  }
  const given = (await automation.attempts()).filter(({ failure_code: code }) => code === 'hibernated');
  for (const attempt of given) {
    expect(sleeps.some((sleep) => sleep.attempt_id === attempt.id && sleep.released_at !== null)).toBe(true);
  }
  const restores = await automation.db
    .selectFrom('operations')
    .selectAll()
    .where('kind', '=', 'restore_workspace')
    .where('status', '=', 'succeeded')
    .execute();
  for (const sleep of sleeps.filter(({ status }) => status === 'woken')) {
    expect(restores.some(({ input }) => (input as { snapshotId: string }).snapshotId === sleep.snapshot_id)).toBe(true);
  }
  const labels = automation.vendor.bought();
  expect(new Set(labels).size).toBe(labels.length);
}

describe('whatever is asked in whatever order', () => {
  it.each(SEEDS)('nothing is lost, left over or handed out empty (seed %i)', async (seed) => {
    const { next: random, pick } = createSeededRandom(seed);
    const ids = [(await fleet.makeReady()).instance.id, (await fleet.makeReady()).instance.id];
    for (let step = 0; step < STEPS; step++) {
      const id = pick(ids);
      const draw = random();
      if (draw < 0.3) await may(() => fleet.hibernate(id));
      else if (draw < 0.5) await may(() => fleet.wake(id));
      else if (draw < 0.58) await may(async () => automation.cancel((await automation.instance(id)).operation_id));
      else if (draw < 0.8) await endAgentsWork(() => random() < 0.75);
      else await boot();
      await settle();
      await expectNothingWrong();
    }
    expect(await automation.db.selectFrom('hibernations').select('id').execute()).not.toEqual([]);
    for (const id of ids) await may(() => automation.destroy(id));
    await automation.until(
      async () => {
        await endAgentsWork(() => true);
        const rows = await Promise.all(ids.map((id) => automation.instance(id)));
        return rows.every((row) => row.status === 'destroyed');
      },
      'all are destroyed',
      30_000,
    );
    await expectNothingWrong();
    expect(automation.vendor.live()).toEqual([]);
    expect((await automation.attempts()).every(({ status }) => status === 'gone')).toBe(true);
  });
});
