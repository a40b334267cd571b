import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ProvisionRequest } from '../../../domain/provision-request.ts';
import { windowAt, type SleepSchedule } from '../../../domain/sleep-schedule.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { createSleepingFleet, type SleepingFleet } from '../../support/sleeping-fleet.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

const MINUTE = 60_000;
const WHEN_IDLE: Partial<ProvisionRequest> = { hibernateWhenIdle: { belowPercent: 5, forMs: 3 * MINUTE } };
/** Every day and night, and never. */
const ALWAYS: SleepSchedule = {
  timeZone: 'UTC',
  windows: [{ days: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'], from: '00:00', to: '00:00' }],
  wake: true,
  evenIfBusy: true,
};

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
  await automation.openMarket(4);
  await automation.startWorker();
});
afterEach(() => automation.close());

/** So many minutes of reports, the last one now; null: the agent could not read it. */
async function report(nodeId: string, ...percents: (number | null)[]): Promise<void> {
  const { db } = automation;
  await db.deleteFrom('node_samples').where('node_id', '=', nodeId).execute();
  for (const [index, percent] of percents.entries()) {
    await db
      .insertInto('node_samples')
      .values({
        node_id: nodeId,
        slot: index,
        at: new Date(Date.now() - (percents.length - 1 - index) * MINUTE),
        verdict: 'healthy',
        gpu_percent: percent,
        gpu_peak_percent: percent,
        is_activity_declared: false,
      })
      .execute();
  }
  const gpu = { gpus: [{ utilizationPercent: percents.at(-1) ?? null }] };
  await db
    .updateTable('nodes')
    .set({ heartbeat_at: new Date(), gpu: JSON.stringify(gpu) })
    .where('id', '=', nodeId)
    .execute();
}

/** Ready for ten minutes. */
async function makeReady(change: Partial<ProvisionRequest>) {
  const made = await fleet.makeReady(change);
  await automation.passTime(10 * MINUTE);
  await automation.asOwner(
    `update instances set phase_at = jsonb_build_object('active', to_jsonb(now() - interval '10 minutes'))`,
  );
  return made;
}

describe('what is idle for long enough', () => {
  it('is hibernated, once however often it is looked at', async () => {
    const { instance, nodeId } = await makeReady(WHEN_IDLE);
    await report(nodeId, 0, 1, 0, 2, 0);
    expect(await automation.tick('idle')).toMatchObject({ checked: 1, hibernated: 1 });
    expect(await automation.tick('idle')).toMatchObject({ checked: 0, hibernated: 0 });
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'hibernating' });
    await fleet.endSnapshot(instance.id, 'verified');
    await automation.until(
      async () => (await automation.instance(instance.id)).status === 'hibernated',
      'it sleeps though its agent is silent now',
    );
    expect(await fleet.sleepOf(instance.id)).toMatchObject({ cause: 'idle', status: 'asleep' });
  });

  it('stays awake where it works again before its machine would be destroyed', async () => {
    const { instance, attempt, nodeId } = await makeReady(WHEN_IDLE);
    await report(nodeId, 0, 0, 0, 0, 0);
    await automation.tick('idle');
    const { operation_id: id } = await automation.instance(instance.id);
    await automation.untilWaiting(id);
    await report(nodeId, 0, 0, 0, 0, 97);
    await fleet.endSnapshot(instance.id, 'verified');
    expect(await automation.untilFinished(id)).toMatchObject({ status: 'canceled' });
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'ready', winner_attempt_id: attempt.id });
    expect(automation.vendor.live()).toEqual([attempt.label]);
    // And is not tried again at every tick.
    await report(nodeId, 0, 0, 0, 0, 0);
    expect(await automation.tick('idle')).toMatchObject({ hibernated: 0 });
  });

  it.each([
    ['works', [0, 0, 0, 0, 60]],
    ['worked in the window', [0, 0, 60, 0, 0]],
    ['is not known', [0, 0, 0, 0, null]],
    ['reports too little', [0, 0]],
  ] as const)('is not what %s', async (_what, percents) => {
    const { nodeId } = await makeReady(WHEN_IDLE);
    await report(nodeId, ...percents);
    expect(await automation.tick('idle')).toMatchObject({ checked: 1, hibernated: 0 });
  });

  it('is neither what runs an order of ours nor what did not ask for it', async () => {
    const { nodeId, instance } = await makeReady(WHEN_IDLE);
    await report(nodeId, 0, 0, 0, 0, 0);
    await automation.db
      .insertInto('node_orders')
      .values({
        id: 'ord_abcdefghijklmnop',
        org_id: automation.orgId,
        node_id: nodeId,
        kind: 'take_snapshot',
        input: '{}',
        deadline_at: new Date(Date.now() + 60_000),
        created_by: 'test',
      })
      .execute();
    expect(await automation.tick('idle')).toMatchObject({ checked: 1, hibernated: 0 });
    await automation.db.deleteFrom('node_orders').execute();
    await automation.asOwner(`update instances set request = request - 'hibernateWhenIdle'`);
    expect(await automation.tick('idle')).toMatchObject({ checked: 0 });
    expect((await automation.instance(instance.id)).status).toBe('ready');
  });
});

describe('by its schedule an instance', () => {
  it('sleeps in its window, and is woken after it', async () => {
    const { instance } = await makeReady({ hibernateSchedule: ALWAYS });
    // Made the day before, or the window would leave it alone.
    const yesterday = new Date(Date.now() - 86_400_000).toISOString();
    await automation.asOwner(`update instances set phase_at = '{"active": "${yesterday}"}'`);
    // A silent agent could copy nothing.
    await automation.asOwner('update nodes set heartbeat_at = now()');
    expect(windowAt(ALWAYS, Date.now())).not.toBeNull();
    expect(await automation.tick('idle')).toMatchObject({ hibernated: 1 });
    await fleet.endSnapshot(instance.id, 'verified');
    await automation.until(async () => (await automation.instance(instance.id)).status === 'hibernated', 'it sleeps');
    expect(await automation.tick('idle')).toMatchObject({ woken: 0 });
    const minutes = new Date(Date.now() + 2 * 3_600_000).toISOString().slice(11, 16);
    const later: SleepSchedule = { ...ALWAYS, windows: [{ days: ['mon'], from: minutes, to: minutes }] };
    const closed = windowAt(later, Date.now()) === null ? later : { ...later, windows: [] };
    await automation.db
      .updateTable('instances')
      .set({ request: JSON.stringify({ ...(instance.request as ProvisionRequest), hibernateSchedule: closed }) })
      .execute();
    expect(await automation.tick('idle')).toMatchObject({ woken: 1 });
    await fleet.boot(instance.id);
    await fleet.endRestore(instance.id, 'succeeded');
    await automation.until(async () => (await automation.instance(instance.id)).status === 'ready', 'it is awake');
  });
});

describe('what has slept for half an hour', () => {
  it('is proven once more to have nothing left, by a listing that is believed', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    expect(await automation.tick('idle')).toMatchObject({ proven: 0 });
    await automation.passTime(31 * MINUTE);
    automation.vendor.outage = 'all';
    expect(await automation.tick('idle')).toMatchObject({ proven: 0 });
    automation.vendor.outage = 'none';
    expect(await automation.tick('idle')).toMatchObject({ proven: 1 });
    expect((await fleet.sleepOf(instance.id)).proven_empty_at).not.toBeNull();
    expect(await automation.tick('idle')).toMatchObject({ proven: 0 });
  });
});
