import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { expireLeases, lockOperation } from '../../../db/operations.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(8);
});
afterEach(() => automation.close());

describe('a step whose lease is lost', () => {
  it('drops its result: what another worker did meanwhile stands', async () => {
    const { runner, vendor } = automation;
    const gate = openGate();
    const { operation } = await automation.provision();
    let runs = 0;
    // The first worker hangs after its purchase; then its lease is over and the second one takes the operation.
    runner.beforeResult = () => (++runs === 1 ? gate.passed : Promise.resolve());
    await automation.startWorker('first');
    await automation.until(() => runs === 1, 'the first worker has bought');
    await automation.asOwner(`update operations set lease_owner = 'dead', lease_expires_at = now()`);
    await expireLeases(automation.db, 'dead');
    await automation.startWorker('second');
    await automation.queue.dispatch(automation.db, operation.id);
    const held = await automation.until(async () => {
      const row = await automation.operation(operation.id);
      return row.claim >= 2 && row.wait_until !== null && row;
    }, 'the second worker has come to the end of its step');
    gate.open();
    await automation.until(() => automation.troubles.some((line) => line.includes('lease was lost')), 'it is told');
    const after = await automation.operation(operation.id);
    expect(after).toEqual(held);
    expect(vendor.bought()).toHaveLength(1);
    expect(vendor.live()).toHaveLength(1);
    expect(await automation.attempts()).toMatchObject([{ status: 'bought', purchase_calls: 1 }]);
  });
});

describe('a worker that drains', () => {
  it('interrupts what runs, gives it back unharmed, and takes nothing more', async () => {
    const { runner } = automation;
    const gate = openGate();
    const { operation } = await automation.provision();
    let isRunning = false;
    runner.beforeResult = async () => {
      isRunning = true;
      await gate.passed;
    };
    const worker = await automation.startWorker('drained');
    await automation.until(() => isRunning, 'the engine runs');
    const drained = worker.drain();
    gate.open();
    await drained;
    expect(worker.runningCount()).toBe(0);
    const given = await automation.operation(operation.id);
    expect(given).toMatchObject({
      status: 'running',
      lease_owner: null,
      wait_until: null,
      error_code: null,
      failures: 0,
    });

    const later = await automation.provision();
    runner.beforeResult = null;
    await automation.startWorker('next');
    const bought = await automation.untilBought(2);
    expect(bought.map((attempt) => attempt.purchase_calls)).toEqual([1, 1]);
    expect(await automation.untilWaiting(operation.id)).toMatchObject({ cancel_requested_at: null });
    expect(await automation.untilWaiting(later.operation.id)).toMatchObject({ claim: 1 });
  });

  it('gives back what it was just about to claim', async () => {
    const { operation } = await automation.provision();
    const gate = openGate();
    const locked = automation.db.transaction().execute(async (tx) => {
      await lockOperation(tx, operation.id);
      await gate.passed;
    });
    const worker = await automation.startWorker('late');
    await automation.until(async () => {
      const [row] = await automation.asOwner<{ blocked: boolean }>(
        `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock') as blocked`,
      );
      return row?.blocked;
    }, 'the claim waits for the lock');
    const drained = worker.drain();
    gate.open();
    await Promise.all([locked, drained]);
    expect(worker.runningCount()).toBe(0);
    expect(await automation.operation(operation.id)).toMatchObject({ claim: 1, lease_owner: null, finished_at: null });
    expect(automation.vendor.bought()).toEqual([]);
    await automation.startWorker('next');
    await automation.untilBought(1);
    await automation.untilWaiting(operation.id);
  });
});

describe('what nobody was rung for', () => {
  it('is found by the sweep of a worker that starts', async () => {
    const { operation } = await automation.provision();
    await automation.queue.take(automation.db, 100);
    await automation.passTime(10_000);
    await automation.startWorker();
    await automation.untilBought(1);
    await automation.untilWaiting(operation.id);
  });
});

describe('two workers', () => {
  it('run each step of an operation once', async () => {
    await automation.startWorker('one');
    await automation.startWorker('two');
    const { operation } = await automation.provision();
    await automation.untilBought(1);
    const waiting = await automation.untilWaiting(operation.id);
    expect(waiting.claim).toBe(1);
    expect(automation.runner.updates).toHaveLength(1);
  });
});

describe('a provision while the engine is not there', () => {
  it('waits and says so, and goes on when it is', async () => {
    let isReady = false;
    automation.services.engineReady = () => isReady;
    const { operation } = await automation.provision();
    await automation.startWorker();
    expect(await automation.untilWaiting(operation.id)).toMatchObject({ note: 'waiting for the engine' });
    expect(automation.vendor.bought()).toEqual([]);
    isReady = true;
    await automation.passWait(operation.id);
    await automation.untilBought(1);
  });
});

function openGate(): { passed: Promise<void>; open: () => void } {
  let open = (): void => {};
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { passed, open: () => open() };
}
