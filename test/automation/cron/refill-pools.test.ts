import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createRefillPoolsCron } from '../../../automation/cron/refill-pools.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';
import { makePool, warmOf, warmUp } from '../../support/warm-pool.ts';

let ssh: SshMachine;
let automation: ScriptedAutomation;
beforeAll(async () => {
  ssh = await startSshMachine();
});
afterAll(() => ssh?.close());
beforeEach(async () => {
  automation = await createScriptedAutomation();
  automation.vendor.ssh = { host: ssh.host, port: ssh.port, user: ssh.user };
  ssh.answer = RTX_4090;
  await automation.openMarket(12);
});
afterEach(() => automation.close());

const tick = () => createRefillPoolsCron(automation.services).run(new AbortController().signal);
const setTarget = (poolId: string, target: number) =>
  automation.db.updateTable('pools').set({ target_size: target }).where('id', '=', poolId).execute();

describe('the refill-pools cron', () => {
  it('has nothing to do without pools', async () => {
    const cron = createRefillPoolsCron(automation.services);
    expect(await cron.hasWork?.()).toBe(false);
    await makePool(automation);
    expect(await cron.hasWork?.()).toBe(true);
  });

  it('shrinks a pool that was too large for long enough, by ordinary destroys, until the machines are proven gone', async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 3, idleShrinkAfterMs: 600_000 });
    const machines = await warmUp(automation, pool);
    expect(await tick()).toMatchObject({ pools: 1, bought: 0, shrunk: 0 });
    await setTarget(pool.id, 1);
    expect(await tick()).toMatchObject({ shrunk: 0 });
    await automation.passTime(599_000);
    expect(await tick()).toMatchObject({ shrunk: 0 });
    await automation.passTime(2_000);
    expect(await tick()).toMatchObject({ bought: 0, shrunk: 2 });
    const [left] = await automation.until(async () => {
      const warm = await warmOf(automation, pool);
      return warm.length === 1 && warm;
    }, 'one is left');
    expect(left).toMatchObject({ status: 'ready', claimed_by: null });
    const kept = machines.find(({ id }) => id === left?.winner_attempt_id);
    for (const machine of machines) if (machine !== kept) await automation.untilGone(machine.id);
    expect(automation.vendor.live()).toEqual([kept?.label]);
    expect(await tick()).toMatchObject({ bought: 0, shrunk: 0 });
  });

  it('lets a pool that nobody asks for shrink to its idle size, and brings it back with the next request', async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 2, maxSize: 2, idleSize: 0, idleShrinkAfterMs: 600_000 });
    const machines = await warmUp(automation, pool);
    await automation.passTime(500_000);
    expect(await tick()).toMatchObject({ bought: 0, shrunk: 0 });
    await automation.passTime(101_000);
    expect(await tick()).toMatchObject({ bought: 0, shrunk: 2 });
    for (const machine of machines) await automation.untilGone(machine.id);
    await automation.until(async () => (await warmOf(automation, pool)).length === 0, 'it is empty');
    expect(automation.vendor.live()).toEqual([]);
    expect(await tick()).toMatchObject({ bought: 0, shrunk: 0 });
    const { instances } = await automation.provision({ strategy: 'serverless' });
    expect(instances[0]?.note).toContain('starts cold');
    expect(await tick()).toMatchObject({ bought: 2, shrunk: 0 });
  });

  it('keeps what a growing pool needs again, and never gives back what was claimed', async () => {
    const worker = await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 2, maxSize: 2 });
    await warmUp(automation, pool);
    await setTarget(pool.id, 0);
    await tick();
    await worker.drain();
    await automation.passTime(500_000);
    const { instances } = await automation.provision({ strategy: 'serverless' });
    await setTarget(pool.id, 1);
    expect(await tick()).toMatchObject({ bought: 0, shrunk: 0 });
    await automation.passTime(700_000);
    expect(await tick()).toMatchObject({ shrunk: 0 });
    const warm = await warmOf(automation, pool);
    expect(warm.map(({ status }) => status)).toEqual(['ready', 'ready']);
    expect(warm.map(({ claimed_by }) => claimed_by).filter((id) => id !== null)).toEqual([instances[0]?.id]);
    await setTarget(pool.id, 0);
    await tick();
    await automation.passTime(700_000);
    expect(await tick()).toMatchObject({ shrunk: 1 });
    const after = await warmOf(automation, pool);
    expect(after.find(({ claimed_by }) => claimed_by !== null)).toMatchObject({ status: 'ready' });
  });
});
