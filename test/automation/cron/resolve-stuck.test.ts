import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createResolveStuckCron } from '../../../automation/cron/resolve-stuck.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

const MINUTE_MS = 60_000;

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(10);
});
afterEach(() => automation.close());

const tick = () =>
  createResolveStuckCron(automation.db, automation.queue, pino({ level: 'silent' })).run(new AbortController().signal);

/** As a fault of ours would leave it: the operation is over, and what it worked on is not. */
const forgetOperations = () =>
  automation.asOwner(`update operations set status = 'succeeded', lease_owner = null, lease_expires_at = null,
    wait_until = null, finished_at = now() where status in ('queued', 'running')`);

async function rent(names: string[], isRace = false) {
  const { operation, instances } = await automation.provision(isRace ? { strategy: 'race', raceWidth: 2 } : {}, names);
  await automation.startWorker();
  await automation.untilBought(isRace ? 2 : names.length);
  await automation.untilWaiting(operation.id);
  return { operation, instances };
}

describe('what nothing works on', () => {
  it('and is on its way up is destroyed with proof, with the reason on its row', async () => {
    const { instances } = await rent(['a']);
    await forgetOperations();
    expect(await tick(), 'not at once: one operation may be handing on to the next').toEqual({
      instances: 0,
      attempts: 0,
    });
    await automation.passTime(3 * MINUTE_MS);
    expect(await tick()).toEqual({ instances: 1, attempts: 0 });
    const destroyed = await automation.untilDestroyed(instances[0]?.id as string);
    expect(destroyed.failure_detail).toMatch(/was booting and nothing worked on it/);
    expect(automation.vendor.live()).toEqual([]);
    expect(await tick()).toEqual({ instances: 0, attempts: 0 });
  });

  it('and is destroying is destroyed to the end', async () => {
    const { instances } = await rent(['a']);
    automation.vendor.outage = 'destroy';
    const { id } = await automation.destroy(instances[0]?.id as string);
    await automation.untilWaiting(id);
    await forgetOperations();
    automation.vendor.outage = 'none';
    await automation.passTime(3 * MINUTE_MS);
    expect(await tick()).toEqual({ instances: 1, attempts: 0 });
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(automation.vendor.live()).toEqual([]);
  });

  it('and lost its race is destroyed, and the winner stays', async () => {
    const { instances } = await rent(['a'], true);
    const [winner, loser] = await automation.attempts();
    await forgetOperations();
    await automation.asOwner(`update attempts set status = 'ready' where id = '${winner?.id}'`);
    await automation.asOwner(`update instances set status = 'ready', winner_attempt_id = '${winner?.id}'`);
    await automation.passTime(3 * MINUTE_MS);
    expect(await tick()).toEqual({ instances: 0, attempts: 1 });
    await automation.untilGone(loser?.id as string);
    expect(automation.vendor.live()).toEqual([winner?.label]);
    expect(await automation.instance(instances[0]?.id as string)).toMatchObject({ status: 'ready' });
  });

  it('is nothing while an operation works on it, however long', async () => {
    await rent(['a', 'b']);
    await automation.passTime(10 * MINUTE_MS);
    expect(await tick()).toEqual({ instances: 0, attempts: 0 });
  });
});
