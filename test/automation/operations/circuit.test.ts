/** A provider whose purchases fail: buying stops, destroying never does. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listCircuits, listUnusableProviders, recordProviderOutcome } from '../../../db/circuits.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(20);
});
afterEach(() => automation.close());

const buys = () => automation.vendor.calls().filter((call) => call === 'buy').length;

async function openCircuit(): Promise<void> {
  for (let index = 0; index < 5; index++) {
    await recordProviderOutcome(automation.db, { provider: 'vastai', source: 'purchase', errorKind: 'unknown' });
  }
}

describe('a provider whose purchases fail', () => {
  it('is not bought from, with the reason on the request, until one purchase has proven it well', async () => {
    await openCircuit();
    const [first, second] = [await automation.provision(), await automation.provision()];
    await automation.startWorker();
    expect((await automation.untilWaiting(first.operation.id)).note).toMatch(/5 purchases failed in a row/);
    await automation.untilWaiting(second.operation.id);
    expect(buys()).toBe(0);
    await automation.passTime(61_000);
    await automation.tick('sync');
    for (const { operation } of [first, second]) await automation.queue.dispatch(automation.db, operation.id);
    await automation.untilBought(1);
    const isClosed = async () => (await listCircuits(automation.db)).every(({ state }) => state === 'closed');
    await automation.until(isClosed, 'the circuit is closed');
    await automation.passTime(10_000);
    for (const { operation } of [first, second]) await automation.queue.dispatch(automation.db, operation.id);
    await automation.untilBought(2);
    expect(buys()).toBe(2);
  });

  it('opens by what purchases come to: each answer that is lost counts', async () => {
    automation.vendor.script(...Array.from({ length: 5 }, () => 'request_lost' as const));
    const { operation } = await automation.provision();
    await automation.startWorker();
    for (let retry = 0; retry < 4; retry++) await automation.passWait(operation.id);
    await automation.untilWaiting(operation.id);
    expect((await listUnusableProviders(automation.db)).get('vastai')?.reason).toMatch(/purchases failed/);
    expect(buys()).toBe(5);
    await automation.passWait(operation.id);
    expect((await automation.untilWaiting(operation.id)).note).toMatch(/nothing is bought from vastai now/);
    expect(buys(), 'the label is looked up again, nothing is bought').toBe(5);
    await automation.passTime(61_000);
    await automation.passWait(operation.id);
    await automation.untilBought(1);
    expect(automation.vendor.live()).toHaveLength(1);
  });

  it('still has everything destroyed there', async () => {
    const { instances } = await automation.provision();
    await automation.startWorker();
    await automation.untilBought(1);
    await openCircuit();
    await automation.destroy(instances[0]?.id as string);
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(automation.vendor.live()).toEqual([]);
  });
});
