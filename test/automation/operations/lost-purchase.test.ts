/** A machine whose purchase was never answered costs money from its start to the proof that it is gone, though nobody ever used it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AttemptRow } from '../../../db/attempts.ts';
import { sumCosts } from '../../../db/costs.ts';
import { findStackName } from '../../../db/stacks.ts';
import { PRICE } from '../../support/fleet-database.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

const HOUR_MS = 3_600_000;

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(5);
});
afterEach(() => automation.close());

describe('a machine whose purchase was never answered', () => {
  it('and which is found by its label and destroyed is charged from its purchase call on', async () => {
    const { attempt, instanceId } = await buyUnanswered();
    await automation.passTime(2 * HOUR_MS);
    await automation.destroy(instanceId);
    await automation.untilDestroyed(instanceId);
    expect(automation.vendor.live()).toEqual([]);
    const gone = await automation.attempt(attempt.id);
    expect(gone).toMatchObject({ status: 'gone', provider_instance_id: '1001' });
    expect(gone.purchased_at).toEqual(gone.purchase_called_at);
    expect(await hoursCharged()).toBeCloseTo(2, 1);
  });

  it('is charged from the start that the provider tells, where that is later', async () => {
    const { attempt, instanceId } = await buyUnanswered();
    await automation.passTime(2 * HOUR_MS);
    tellStart(new Date(Date.now() - HOUR_MS));
    await automation.destroy(instanceId);
    await automation.untilDestroyed(instanceId);
    expect((await automation.attempt(attempt.id)).status).toBe('gone');
    expect(await hoursCharged()).toBeCloseTo(1, 1);
  });

  it.each([
    ['before its purchase call', -100],
    ['in the future', 100],
  ])('is never taken to have started %s', async (_when, hours) => {
    const { attempt, instanceId } = await buyUnanswered();
    await automation.passTime(2 * HOUR_MS);
    tellStart(new Date(Date.now() + hours * HOUR_MS));
    await automation.destroy(instanceId);
    await automation.untilDestroyed(instanceId);
    const gone = await automation.attempt(attempt.id);
    const start = gone.purchased_at?.getTime() ?? 0;
    expect(start).toBeGreaterThanOrEqual(gone.purchase_called_at?.getTime() ?? Infinity);
    expect(start).toBeLessThanOrEqual(gone.gone_at?.getTime() ?? 0);
    expect(await hoursCharged()).toBeCloseTo(hours < 0 ? 2 : 0, 1);
  });

  it('goes on costing while its destroy does not come through', async () => {
    const { attempt, instanceId } = await buyUnanswered();
    automation.vendor.outage = 'destroy';
    automation.services.destroyTimings = { verifyMs: 0, firstPollMs: 0, maxPollMs: 0 };
    const { id } = await automation.destroy(instanceId);
    await automation.untilWaiting(id);
    expect(await automation.attempt(attempt.id)).toMatchObject({ status: 'destroying', provider_instance_id: '1001' });
    await automation.passTime(5 * HOUR_MS);
    expect(await hoursCharged()).toBeCloseTo(5, 1);
    automation.vendor.outage = 'none';
    await automation.passWait(id);
    await automation.untilDestroyed(instanceId);
    const charged = await hoursCharged();
    await automation.passTime(HOUR_MS);
    expect(await hoursCharged()).toBe(charged);
  });

  it('because the engine was killed is charged from its purchase call on', async () => {
    automation.runner.isKilledNext = true;
    const { operation, instances } = await automation.provision();
    await automation.startWorker();
    await automation.untilWaiting(operation.id);
    await automation.passTime(3 * HOUR_MS);
    const [attempt] = await automation.attempts();
    const instanceId = instances[0]?.id as string;
    await automation.destroy(instanceId);
    await automation.untilDestroyed(instanceId);
    expect(await automation.attempt(attempt?.id as string)).toMatchObject({
      status: 'gone',
      provider_instance_id: '1001',
    });
    expect(await hoursCharged()).toBeCloseTo(3, 1);
  });

  it('and which is adopted later is charged all the same', async () => {
    automation.runner.isKilledNext = true;
    const { operation } = await automation.provision();
    await automation.startWorker();
    await automation.untilWaiting(operation.id);
    await automation.passTime(HOUR_MS / 4);
    await automation.passWait(operation.id);
    const [attempt] = await automation.untilBought(1);
    expect(attempt?.purchased_at).toEqual(attempt?.purchase_called_at);
    expect(await hoursCharged()).toBeCloseTo(0.25, 1);
  });

  it('costs nothing where there turns out to be none', async () => {
    automation.vendor.script('request_lost');
    const { operation, instances } = await automation.provision();
    await automation.startWorker();
    await automation.untilWaiting(operation.id);
    const instanceId = instances[0]?.id as string;
    await automation.passTime(HOUR_MS);
    await automation.destroy(instanceId);
    await automation.untilDestroyed(instanceId);
    expect((await automation.attempts())[0]).toMatchObject({ status: 'gone', purchased_at: null });
    expect(await hoursCharged()).toBe(0);
  });
});

describe("what a person's CLI began to rent in a stack of ours before it was killed", () => {
  it('is found by its label before the next update, which destroys it', async () => {
    const { vendor, runner } = automation;
    const { operation, instances } = await automation.provision();
    await automation.startWorker();
    await automation.untilBought(1);
    await automation.untilWaiting(operation.id);
    const stack = await findStackName(automation.db, operation.stack_id as string);
    vendor.place('theirs');
    runner.leavePending(stack, 'instance-1', { label: 'theirs' });
    await automation.destroy(instances[0]?.id as string);
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(vendor.live()).toEqual([]);
  });
});

/** The vendor sold it, the answer was lost, and the look that followed was not answered either. */
async function buyUnanswered(): Promise<{ attempt: AttemptRow; instanceId: string }> {
  const { vendor } = automation;
  vendor.script('answer_lost');
  vendor.failNext('readInstance', 'retryable', 'not readable now');
  const { operation, instances } = await automation.provision();
  await automation.startWorker();
  await automation.untilWaiting(operation.id);
  const [attempt] = await automation.attempts();
  expect(attempt).toMatchObject({ status: 'buying', provider_instance_id: null, purchased_at: null });
  expect(vendor.live()).toHaveLength(1);
  return { attempt: attempt as AttemptRow, instanceId: instances[0]?.id as string };
}

function tellStart(at: Date): void {
  const { client } = automation.vendor;
  const { findByLabel } = client;
  client.findByLabel = async (...args) =>
    (await findByLabel(...args)).map((machine) => ({ ...machine, startedAt: at.toISOString() }));
}

async function hoursCharged(): Promise<number> {
  const filter = { orgId: automation.orgId, from: null, to: null, asOf: new Date() };
  return Number((await sumCosts(automation.db, filter)).costMicroUsd) / Number(PRICE);
}
