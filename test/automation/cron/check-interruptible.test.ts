/** Interruptible machines that are taken away: seen at the next look, and met by the request's policy. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MAX_REBIDS, REBID_PATIENCE_MS, type InterruptionPolicy } from '../../../domain/interruption.ts';
import type { AttemptRow } from '../../../db/attempts.ts';
import { findMachine } from '../../../db/machines.ts';
import { listEventsAfter } from '../../../db/operation-log.ts';
import { makeOffer } from '../../support/fleet-database.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

let ssh: SshMachine;
let automation: ScriptedAutomation;
beforeAll(async () => {
  ssh = await startSshMachine();
  ssh.answer = RTX_4090;
});
afterAll(() => ssh?.close());
beforeEach(async () => {
  automation = await createScriptedAutomation();
  automation.vendor.ssh = { host: ssh.host, port: ssh.port, user: ssh.user };
  await automation.openMarket(1);
  automation.vendor.offers = [1, 2, 3].map((number) => makeOffer(number, { floorMicroUsdPerHour: 100_000n }));
  await automation.tick('sync');
  await automation.startWorker();
});
afterEach(() => automation.close());

/** An interruptible instance that is ready, on its first machine. */
async function makeReady(onInterruption: InterruptionPolicy) {
  const { operation, instances } = await automation.provision({ interruptible: true, onInterruption });
  const [attempt] = await automation.untilBought(1);
  automation.vendor.run(attempt?.label as string);
  await automation.tick('readiness');
  await automation.untilFinished(operation.id);
  return { instanceId: instances[0]?.id as string, operation, attempt: attempt as AttemptRow };
}
const interruptionsOf = async (operationId: string) =>
  (await listEventsAfter(automation.db, operationId, 0))
    .map((event) => (event.data as { interruption?: string }).interruption)
    .filter((one) => one !== undefined);
const finishedBids = () =>
  automation.until(async () => {
    const rows = await automation.db.selectFrom('operations').selectAll().where('kind', '=', 'change_bid').execute();
    return rows.length > 0 && rows.every((row) => row.status === 'succeeded') && rows;
  }, 'the bid is changed');

describe('an interruptible machine', () => {
  it('is bid for a little above its floor, and left alone while it runs', async () => {
    const { instanceId, attempt } = await makeReady('replace');
    expect(attempt).toMatchObject({ bid_micro_usd_per_hour: 115_000n, disk_micro_usd_per_hour: 4_000n });
    expect(automation.vendor.orderOf(attempt.label)).toMatchObject({ bidMicroUsdPerHour: 115_000n });
    expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.checked': 1, 'vastai.interrupted': 0 });
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'ready', winner_attempt_id: attempt.id });
  });

  it('that is taken away is destroyed and another found for the same instance', async () => {
    const { instanceId, operation, attempt } = await makeReady('replace');
    automation.vendor.interrupt(attempt.label, 1_000_000n);
    expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.interrupted': 1, 'vastai.replace': 1 });
    await automation.untilGone(attempt.id);
    const [second] = await automation.untilBought(1);
    expect(second?.machine_id).not.toBe(attempt.machine_id);
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'booting', winner_attempt_id: null });
    automation.vendor.run(second?.label as string);
    await automation.tick('readiness');
    const instance = await automation.instance(instanceId);
    const finished = await automation.untilFinished(instance.operation_id);
    expect(finished).toMatchObject({ kind: 'provision_instance', status: 'succeeded' });
    expect(finished.id).not.toBe(operation.id);
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'ready', winner_attempt_id: second?.id });
    expect(automation.vendor.live()).toEqual([second?.label]);
    expect(await automation.attempt(attempt.id)).toMatchObject({ failure_code: 'interrupted', interruptions: 1 });
    expect(await findMachine(automation.db, 'vastai', attempt.machine_id as string)).toMatchObject({
      interruptions: 1,
    });
    expect(await interruptionsOf(operation.id)).toEqual(['interrupted', 'replaced']);
  });

  it('is bid more for by the engine, and kept where that brings it back', async () => {
    const { instanceId, operation, attempt } = await makeReady('rebid');
    automation.vendor.interrupt(attempt.label, 130_000n);
    expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.rebid': 1 });
    expect(await automation.instance(instanceId)).toMatchObject({
      status: 'ready',
      note: expect.stringContaining('bidding more') as string,
    });
    expect(await automation.attempt(attempt.id)).toMatchObject({ bid_micro_usd_per_hour: 143_750n, rebids: 1 });
    await finishedBids();
    expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.resumed': 1 });
    expect(await automation.attempt(attempt.id)).toMatchObject({ interrupted_at: null, rebids: 0, interruptions: 1 });
    expect(await automation.instance(instanceId)).toMatchObject({
      status: 'ready',
      note: null,
      winner_attempt_id: attempt.id,
    });
    expect(await interruptionsOf(operation.id)).toEqual(['interrupted', 'rebid', 'resumed']);
    expect(automation.vendor.live()).toEqual([attempt.label]);
  });

  it('is replaced when no bid within the highest price brings it back', async () => {
    const { instanceId, attempt } = await makeReady('rebid');
    automation.vendor.interrupt(attempt.label, 10_000_000n);
    for (let rebid = 1; rebid <= MAX_REBIDS; rebid += 1) {
      expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.rebid': 1 });
      await finishedBids();
      expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.wait': 1 });
      await automation.passTime(REBID_PATIENCE_MS);
    }
    const { bid_micro_usd_per_hour: bid } = await automation.attempt(attempt.id);
    expect((bid as bigint) + 4_000n).toBeLessThanOrEqual(600_000n);
    expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.replace': 1 });
    await automation.untilGone(attempt.id);
    await automation.untilBought(1);
    expect((await automation.instance(instanceId)).status).toBe('booting');
  });

  it('ends with its instance where the request says so', async () => {
    const { instanceId, attempt } = await makeReady('give_up');
    automation.vendor.interrupt(attempt.label, 1_000_000n);
    expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.give_up': 1 });
    expect(await automation.untilDestroyed(instanceId)).toMatchObject({ failure_code: 'interrupted' });
    expect(automation.vendor.live()).toEqual([]);
  });

  it('is not judged by a listing that is not believed', async () => {
    const { attempt } = await makeReady('give_up');
    automation.vendor.interrupt(attempt.label, 1_000_000n);
    automation.vendor.lie = 'empty';
    await automation.passTime(60_000);
    expect(await automation.tick('interruptible')).toMatchObject({ 'vastai.quarantined': 1 });
    expect(await automation.attempt(attempt.id)).toMatchObject({ status: 'ready', interrupted_at: null });
  });

  it('whose instance is being destroyed meanwhile is left to that', async () => {
    const { instanceId, attempt } = await makeReady('replace');
    automation.vendor.interrupt(attempt.label, 1_000_000n);
    automation.vendor.outage = 'destroy';
    await automation.destroy(instanceId);
    expect(await automation.tick('interruptible')).toEqual({});
    automation.vendor.outage = 'none';
    await automation.untilDestroyed(instanceId);
    expect(await automation.attempts()).toHaveLength(1);
  });
});
