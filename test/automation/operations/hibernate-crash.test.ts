/**
 * A worker that dies at every step of a hibernation and of the way back: nothing is destroyed before a verified snapshot, nothing is
 * bought twice, and the next worker brings it to its end.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPointName } from '../../../domain/crash-points.ts';
import { findWorkspace } from '../../../db/workspaces.ts';
import { runDoomedWorker } from '../../support/doomed-worker.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { createSleepingFleet, type SleepingFleet } from '../../support/sleeping-fleet.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

/**
 * Whatever marks hibernation or restoring is tested here; a mark that is added without a case fails the test. Those of the copy itself are
 * passed by no worker here, where copies are scripted: the crash matrix kills there.
 */
const OF_THE_COPY: readonly CrashPointName[] = ['snapshot_taken', 'snapshot_verified', 'snapshot_removed'];
const SLEEP_POINTS = CRASH_POINTS.filter(
  (name) => /^(hibernate|snapshot|restore)_/.test(name) && !OF_THE_COPY.includes(name),
);
const BEFORE_VERIFIED: readonly CrashPointName[] = ['snapshot_ordered'];

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
  await automation.openMarket(6);
});
afterEach(() => automation.close());

/** Ready, and no worker any more. */
async function makeReady(): Promise<{ id: string; label: string }> {
  const worker = await automation.startWorker();
  const { instance, attempt } = await fleet.makeReady();
  await worker.drain();
  return { id: instance.id, label: attempt.label };
}

/** Every machine that lives is recorded, no label was bought twice, and what sleeps has nothing. */
async function expectNothingLostNorTwice(): Promise<void> {
  const held = (await automation.attempts()).filter(({ status }) => status !== 'gone');
  expect(new Set(automation.vendor.live())).toEqual(new Set(held.map(({ label }) => label)));
  const labels = automation.vendor.bought();
  expect(new Set(labels).size).toBe(labels.length);
}

describe('a worker killed while it hibernates an instance', () => {
  it.each(['hibernate_claimed', 'snapshot_ordered'] as const)(
    '%s: the machine lives until one snapshot is verified',
    async (point) => {
      const { id, label } = await makeReady();
      const operation = await fleet.hibernate(id);
      await runDoomedWorker(automation, point);
      expect(automation.vendor.live()).toEqual([label]);
      const snapshots = () => automation.db.selectFrom('snapshots').selectAll().execute();
      expect(await snapshots()).toHaveLength(BEFORE_VERIFIED.includes(point) ? 1 : 0);
      await automation.startWorker();
      await fleet.endSnapshot(id, 'verified');
      expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
      expect(await snapshots()).toHaveLength(1);
      expect((await automation.instance(id)).status).toBe('hibernated');
      await expectNothingLostNorTwice();
    },
  );

  it.each(['hibernate_released', 'destroy_claimed', 'destroy_applied', 'hibernate_applied'] as const)(
    '%s: it sleeps in the end, with nothing rented',
    async (point) => {
      const { id } = await makeReady();
      const operation = await fleet.hibernate(id);
      await runDoomedWorker(automation, point, () => fleet.endSnapshot(id, 'verified'));
      await automation.startWorker();
      expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
      expect((await automation.instance(id)).status).toBe('hibernated');
      expect(automation.vendor.live()).toEqual([]);
      expect(await findWorkspace(automation.db, id)).toMatchObject({ writer_attempt_id: null, epoch: 2 });
      await expectNothingLostNorTwice();
    },
  );
});

describe('a worker killed while it wakes an instance', () => {
  async function makeSleeping(): Promise<string> {
    const worker = await automation.startWorker();
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    await worker.drain();
    return instance.id;
  }

  it.each(['operation_claimed', 'attempts_committed', 'engine_finished', 'purchase_applied'] as const)(
    '%s: one machine is bought, and gets the files',
    async (point) => {
      const id = await makeSleeping();
      const operation = await fleet.wake(id);
      await runDoomedWorker(automation, point);
      await automation.startWorker();
      const machine = await fleet.boot(id);
      await fleet.endRestore(id, 'succeeded');
      expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
      expect(await automation.instance(id)).toMatchObject({ status: 'ready', winner_attempt_id: machine.id });
      expect(automation.vendor.bought()).toHaveLength(2);
      await expectNothingLostNorTwice();
    },
  );

  it.each(['restore_ordered', 'restore_applied'] as const)(
    '%s: it is ready once its files are there, by one restore',
    async (point) => {
      const id = await makeSleeping();
      const operation = await fleet.wake(id);
      const first = await automation.startWorker();
      await automation.untilBought(1);
      await automation.untilWaiting(operation.id);
      await first.drain();
      const machine = await fleet.boot(id);
      await runDoomedWorker(automation, point, async () => {
        if (point === 'restore_applied') await fleet.endRestore(id, 'succeeded');
      });
      expect((await automation.instance(id)).status).toBe(point === 'restore_applied' ? 'ready' : 'waking');
      await automation.startWorker();
      if (point === 'restore_ordered') await fleet.endRestore(id, 'succeeded');
      expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
      expect(await automation.instance(id)).toMatchObject({ status: 'ready', winner_attempt_id: machine.id });
      const restores = await automation.db
        .selectFrom('operations')
        .select('id')
        .where('kind', '=', 'restore_workspace')
        .execute();
      expect(restores).toHaveLength(1);
      await expectNothingLostNorTwice();
    },
  );

  it('restore_given_up: the next machine gets the files, the one before is destroyed', async () => {
    const id = await makeSleeping();
    const operation = await fleet.wake(id);
    const first = await automation.startWorker();
    await automation.untilBought(1);
    await automation.untilWaiting(operation.id);
    await first.drain();
    const bad = await fleet.boot(id);
    await runDoomedWorker(automation, 'restore_given_up', () => fleet.endRestore(id, 'failed'));
    await automation.startWorker();
    const good = await fleet.boot(id);
    expect(good.id).not.toBe(bad.id);
    await fleet.endRestore(id, 'succeeded');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    await automation.untilGone(bad.id);
    await expectNothingLostNorTwice();
  });
});

describe('the marks of hibernation', () => {
  it('have a case each', () => {
    expect(SLEEP_POINTS).toEqual([
      'hibernate_claimed',
      'snapshot_ordered',
      'hibernate_released',
      'hibernate_applied',
      'restore_ordered',
      'restore_given_up',
      'restore_applied',
    ]);
  });
});
