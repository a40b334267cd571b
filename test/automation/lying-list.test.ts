/** "An absent answer is not an empty answer": while a vendor's lists lie, nothing is bought, destroyed or called lost, by anybody. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findProvider } from '../../db/providers.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../support/scripted-automation.ts';
import { LIES } from '../support/scripted-vendor.ts';
import { startSshMachine, type SshMachine } from '../support/ssh-machine.ts';

const FOREIGN = 8;
const OFFERS = 40;
const MINUTE_MS = 60_000;

let ssh: SshMachine;
let automation: ScriptedAutomation;
beforeAll(async () => {
  ssh = await startSshMachine();
});
afterAll(() => ssh?.close());
beforeEach(async () => {
  automation = await createScriptedAutomation();
  automation.vendor.ssh = { host: ssh.host, port: ssh.port, user: ssh.user };
  for (let index = 0; index < FOREIGN; index++) automation.vendor.place(`somebody-else-${index}`);
  await automation.openMarket(OFFERS);
});
afterEach(() => automation.close());

describe.each(LIES)('a list that lies (%s)', (lie) => {
  it('does not move what boots: past its deadline it is kept, and it is ready when the truth is back', async () => {
    const { vendor } = automation;
    const { operation, instances } = await automation.provision({ bootTimeoutMs: 10 * MINUTE_MS }, ['a', 'b', 'c']);
    await automation.startWorker();
    const bought = await automation.untilBought(3);
    await automation.untilWaiting(operation.id);
    for (const { label } of bought) vendor.run(label);
    await automation.passTime(30_000);
    vendor.lie = lie;
    expect(await automation.tick('readiness')).toMatchObject({ booting: 3, ready: 0, failed: 0, quarantined: 1 });
    for (let passed = 0; passed < 3; passed++) {
      await automation.passWait(operation.id);
      await automation.untilWaiting(operation.id);
      expect(await automation.tick('readiness')).toMatchObject({ ready: 0, failed: 0, quarantined: 1 });
    }
    await expectUntouched(bought.length);
    expect((await automation.attempts()).map((attempt) => attempt.status)).toEqual(['bought', 'bought', 'bought']);
    vendor.lie = null;
    expect(await automation.tick('readiness')).toMatchObject({ booting: 3, ready: 3 });
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    for (const { id } of instances) expect(await automation.instance(id)).toMatchObject({ status: 'ready' });
  });

  it('makes reconcile neither lose nor destroy, however often it is told', async () => {
    const { vendor } = automation;
    const ready = await rent();
    // Ours by its label and in no row: an orphan, seen once before the lie.
    await automation.asOwner(`update attempts set status = 'gone' where id = '${ready[2]?.id}'`);
    await automation.asOwner(`update instances set status = 'destroyed' where id = '${ready[2]?.instance_id}'`);
    await automation.passTime(10 * MINUTE_MS);
    await automation.tick('reconcile');
    vendor.lie = lie;
    for (let tick = 0; tick < 4; tick++) {
      await automation.passTime(5 * MINUTE_MS);
      expect(await automation.tick('reconcile')).toEqual({ 'vastai.quarantined': 1 });
    }
    await expectUntouched(3);
    const statuses = (await automation.attempts()).map((attempt) => attempt.status);
    expect(statuses.sort()).toEqual(['gone', 'ready', 'ready']);
    expect((await automation.attempts()).every((attempt) => attempt.missing_count === 0)).toBe(true);
    expect(await findProvider(automation.db, 'vastai')).toMatchObject({
      status: 'quarantined',
      foreign_count: FOREIGN,
      reason: expect.any(String) as string,
    });
    vendor.lie = null;
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 1, 'vastai.foreign': FOREIGN });
    await automation.until(() => vendor.live().length === FOREIGN + 2, 'the orphan, and only it, is destroyed');
  });

  it('leaves the offers as they were, and buys nothing until they are believed again', async () => {
    const { vendor } = automation;
    vendor.lie = lie;
    expect(await automation.tick('sync')).toEqual({ 'vastai.quarantined': 1 });
    const kept = await automation.db.selectFrom('offers').select('id').execute();
    expect(kept).toHaveLength(OFFERS);
    const { operation } = await automation.provision();
    await automation.startWorker();
    for (let passed = 0; passed < 3; passed++) {
      expect((await automation.untilWaiting(operation.id)).note).toMatch(/not believed/);
      await automation.passWait(operation.id);
      await automation.tick('sync');
    }
    await expectUntouched(0);
    vendor.lie = null;
    await automation.tick('sync');
    await automation.passWait(operation.id);
    await automation.untilBought(1);
  });

  it('buys nothing where only the list of machines lies: a lost purchase could not be found again', async () => {
    const { vendor } = automation;
    await automation.passTime(MINUTE_MS);
    vendor.lie = lie;
    const { operation } = await automation.provision();
    await automation.startWorker();
    for (let passed = 0; passed < 3; passed++) {
      expect((await automation.untilWaiting(operation.id)).note).toMatch(/not believed/);
      await automation.passWait(operation.id);
    }
    await expectUntouched(0);
    expect(vendor.calls()).not.toContain('buy');
    vendor.lie = null;
    await automation.tick('reconcile');
    await automation.passWait(operation.id);
    await automation.untilBought(1);
  });

  it('does not make us buy twice what a killed engine bought, though the list was believed a moment ago', async () => {
    const { vendor, runner } = automation;
    const { operation } = await automation.provision();
    runner.isKilledNext = true;
    await automation.startWorker();
    await automation.untilWaiting(operation.id);
    expect(vendor.bought()).toHaveLength(1);
    vendor.lie = lie;
    for (let passed = 0; passed < 3; passed++) {
      await automation.passWait(operation.id);
      await automation.untilWaiting(operation.id);
    }
    // A look-up that fails ends the update before the engine starts; one that answers nothing lets it start.
    expect(runner.updates).toHaveLength(lie === 'empty' || lie === 'shrunken' ? 2 : 1);
    await expectUntouched(1);
    vendor.lie = null;
    await automation.tick('reconcile');
    await automation.passWait(operation.id);
    const [adopted] = await automation.untilBought(1);
    expect(vendor.bought()).toEqual([adopted?.label]);
  });

  it('does not make a destroy believe that a machine is gone which it knows by its label only', async () => {
    const { vendor, runner } = automation;
    const { operation, instances } = await automation.provision();
    runner.isKilledNext = true;
    await automation.startWorker();
    await automation.untilWaiting(operation.id);
    const [attempt] = await automation.attempts();
    expect(attempt).toMatchObject({ status: 'buying', provider_instance_id: null });
    vendor.lie = lie;
    const { id } = await automation.destroy(instances[0]?.id as string);
    for (let passed = 0; passed < 3; passed++) await automation.passWait(id);
    await automation.untilWaiting(id);
    expect(await automation.attempt(attempt?.id as string)).toMatchObject({ status: 'destroying' });
    expect(vendor.live()).toContain(attempt?.label);
    vendor.lie = null;
    await automation.passWait(id);
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(vendor.live()).toHaveLength(FOREIGN);
  });
});

describe('a list that shows less because there is less', () => {
  it('is believed after we destroyed most of the fleet ourselves', async () => {
    const ready = await rent(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l']);
    await automation.passTime(MINUTE_MS);
    await automation.tick('reconcile');
    for (const { instance_id: id } of ready) await automation.destroy(id);
    for (const { instance_id: id } of ready) await automation.untilDestroyed(id);
    await automation.passTime(MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.observed': FOREIGN });
  });

  it('is believed where the vendor itself says of the missing one that it is not there', async () => {
    const [first] = await rent();
    await automation.passTime(10 * MINUTE_MS);
    automation.vendor.vanish(first?.label as string);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.observed': FOREIGN + 2, 'vastai.findings': 1 });
  });
});

/** Nobody bought, destroyed or lost anything beyond these machines. */
async function expectUntouched(bought: number): Promise<void> {
  const { vendor } = automation;
  expect(vendor.bought()).toHaveLength(bought);
  expect(vendor.live()).toHaveLength(FOREIGN + bought);
  expect(vendor.destroyCalls).toBe(0);
  const destroys = await automation.db
    .selectFrom('operations')
    .select('id')
    .where('kind', '<>', 'provision_instance')
    .execute();
  expect(destroys).toEqual([]);
  expect((await automation.attempts()).map((attempt) => attempt.status)).not.toContain('lost');
}

async function rent(names = ['a', 'b', 'c']) {
  const { operation } = await automation.provision({}, names);
  await automation.startWorker();
  const bought = await automation.untilBought(names.length);
  await automation.untilWaiting(operation.id);
  for (const { label } of bought) automation.vendor.run(label);
  await automation.tick('readiness');
  await automation.untilFinished(operation.id);
  return bought;
}
