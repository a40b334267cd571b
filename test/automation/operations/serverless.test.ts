import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { listEventsAfter } from '../../../db/operation-log.ts';
import { refillPool } from '../../../db/refill-pool.ts';
import { readUsage } from '../../../db/usage.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';
import { makePool, warmOf, warmUp } from '../../support/warm-pool.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyz0123456789ABCDEFG user';

/** So that nothing but the requests buys. */
function stopRefilling(poolId: string): Promise<unknown> {
  return automation.db.updateTable('pools').set({ target_size: 0 }).where('id', '=', poolId).execute();
}

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

describe('a serverless request', () => {
  it('gets a warm machine, with its keys in, without buying; the pool is refilled behind it', async () => {
    const { vendor } = automation;
    await automation.startWorker();
    const pool = await makePool(automation);
    const machines = await warmUp(automation, pool);
    const { operation, instances } = await automation.provision({ strategy: 'serverless', sshPublicKeys: [KEY] });
    const [asked] = instances;
    expect(asked).toMatchObject({ status: 'booting', phase: 'verifying' });
    expect(asked?.note).toContain('warm in pool warm');
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'succeeded',
      note: 'ready; 1 of 1 from warm pools',
    });
    const ready = await automation.instance(asked?.id as string);
    const machine = machines.find(({ id }) => id === ready.winner_attempt_id);
    expect(ready).toMatchObject({ status: 'ready', phase: 'active', stack_id: machine?.stack_id, note: null });
    expect(await automation.attempt(machine?.id as string)).toMatchObject({
      status: 'ready',
      instance_id: ready.id,
      pooled_instance_id: machine?.instance_id,
    });
    expect(vendor.keysOf(machine?.label as string)).toContain(KEY);
    expect(ssh.commands).toContain('sh -s');
    expect(await automation.instance(machine?.instance_id as string)).toMatchObject({
      status: 'destroyed',
      claimed_by: ready.id,
      winner_attempt_id: null,
    });
    const emptied = await automation.db
      .selectFrom('stacks')
      .select('removed_at')
      .where('id', '=', asked?.stack_id as string)
      .executeTakeFirst();
    expect(emptied?.removed_at).not.toBeNull();
    const events = await listEventsAfter(automation.db, operation.id, 0);
    expect(events.map(({ type }) => type)).toContain('instance');
    await automation.untilBought(1);
    expect((await warmOf(automation, pool)).map(({ status }) => status).sort()).toEqual(['booting', 'ready']);
    expect(vendor.bought()).toHaveLength(3);
    expect(automation.troubles).toEqual([]);
  });

  it('is destroyed like any other, by its stack, and its machine is proven gone', async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 1 });
    const [machine] = await warmUp(automation, pool);
    const { operation, instances } = await automation.provision({ strategy: 'serverless' });
    await automation.untilFinished(operation.id);
    await automation.destroy(instances[0]?.id as string);
    await automation.untilGone(machine?.id as string);
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(automation.vendor.live()).not.toContain(machine?.label);
    const stack = () =>
      automation.db
        .selectFrom('stacks')
        .selectAll()
        .where('id', '=', machine?.stack_id as string)
        .executeTakeFirstOrThrow();
    await automation.until(async () => (await stack()).removed_at !== null, 'its stack is removed');
  });

  it("is charged from the hand-over on; what the machine cost before is the pool's", async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 1, maxSize: 1 });
    const [machine] = await warmUp(automation, pool);
    await automation.passTime(3_600_000);
    const { operation, instances } = await automation.provision({ strategy: 'serverless' });
    await automation.untilFinished(operation.id);
    const id = instances[0]?.id as string;
    const usage = (await readUsage(automation.db, [id, machine?.instance_id as string])).get(machine?.id as string);
    expect(usage).toMatchObject([
      { instanceId: machine?.instance_id, isOpen: false },
      { instanceId: id, isOpen: true },
    ]);
    const [before, after] = usage ?? [];
    expect(before?.to).toBe(after?.from);
    expect((before?.to ?? 0) - (before?.from ?? 0)).toBeGreaterThanOrEqual(3_600_000);
    const consumers = await automation.db
      .selectFrom('usage_records')
      .select('consumer')
      .where('attempt_id', '=', machine?.id as string)
      .orderBy('started_at')
      .execute();
    expect(consumers.map(({ consumer }) => consumer)).toEqual(['pool-team', null]);
  });

  it('starts cold where the pool is empty or has nothing that fits, and says so', async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 1, maxSize: 1 });
    await warmUp(automation, pool);
    const { operation, instances } = await automation.provision({ strategy: 'serverless', image: 'other/image:2' });
    expect(instances[0]).toMatchObject({ status: 'requested', note: 'no warm instance fits: it starts cold' });
    const [cold] = await automation.untilBought(1);
    automation.vendor.run(cold?.label as string);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'succeeded',
      note: 'ready; none was warm: started cold',
    });
    expect((await warmOf(automation, pool))[0]).toMatchObject({ status: 'ready', claimed_by: null });
  });

  it('goes on to the next warm one when the first proves dead, then starts cold; the dead ones are destroyed', async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 2, maxSize: 2 });
    const machines = await warmUp(automation, pool);
    await stopRefilling(pool.id);
    ssh.answer = { output: 'Unable to determine the device handle: GPU is lost', exitCode: 15 };
    const { operation, instances } = await automation.provision({ strategy: 'serverless' });
    for (const machine of machines) await automation.untilGone(machine.id);
    ssh.answer = RTX_4090;
    const [cold] = await automation.untilBought(1);
    expect(cold?.instance_id).toBe(instances[0]?.id);
    automation.vendor.run(cold?.label as string);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    for (const machine of machines) {
      const warm = await automation.untilDestroyed(machine.instance_id);
      expect(warm).toMatchObject({ failure_code: 'lost' });
      expect(warm.failure_detail).toContain('proved dead');
    }
  });

  it('does not start cold beyond the caps: what it claimed was rented already, what would be bought for it is not', async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 1, maxSize: 1 });
    await warmUp(automation, pool);
    await stopRefilling(pool.id);
    await automation.asOwner('update deployment set max_instances = 1');
    ssh.answer = { output: 'Unable to determine the device handle: GPU is lost', exitCode: 15 };
    automation.vendor.outage = 'destroy';
    const { operation, instances } = await automation.provision({ strategy: 'serverless' });
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'failed',
      error_code: 'cap_exceeded',
      error_detail: expect.stringContaining('MUSTER_MAX_INSTANCES') as string,
    });
    expect(await automation.untilDestroyed(instances[0]?.id as string)).toMatchObject({ failure_code: 'cap_exceeded' });
    expect(automation.vendor.bought()).toHaveLength(1);
    automation.vendor.outage = 'none';
  });

  it('destroys what it had claimed when it is destroyed before the hand-over', async () => {
    const worker = await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 1, maxSize: 1 });
    const [machine] = await warmUp(automation, pool);
    await worker.drain();
    const { instances } = await automation.provision({ strategy: 'serverless' });
    await automation.destroy(instances[0]?.id as string);
    await automation.startWorker();
    await automation.untilGone(machine?.id as string);
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(automation.vendor.live()).not.toContain(machine?.label);
  });
});

describe('two workers and more requests than warm instances', () => {
  it('each warm one is handed to exactly one, the others start cold', async () => {
    await automation.startWorker();
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 3, maxSize: 3 });
    const machines = await warmUp(automation, pool);
    await stopRefilling(pool.id);
    const claims = await Promise.all(Array.from({ length: 7 }, () => automation.provision({ strategy: 'serverless' })));
    const isWarm = (id: string | null) => machines.some((machine) => machine.id === id);
    await automation.until(async () => {
      const rows = await Promise.all(claims.map(({ instances }) => automation.instance(instances[0]?.id as string)));
      return rows.filter((row) => row.status === 'ready').length === 3;
    }, 'the warm ones are handed over');
    for (const attempt of await automation.untilBought(4)) automation.vendor.run(attempt.label);
    await automation.tick('readiness');
    for (const { operation } of claims)
      expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    const rows = await Promise.all(claims.map(({ instances }) => automation.instance(instances[0]?.id as string)));
    const winners = rows.map((row) => row.winner_attempt_id);
    expect(new Set(winners).size).toBe(7);
    expect(winners.filter(isWarm)).toHaveLength(3);
    const live = (await automation.attempts()).filter((attempt) => attempt.status !== 'gone');
    expect(new Set(automation.vendor.live())).toEqual(new Set(live.map(({ label }) => label)));
  });
});

describe('a pool', () => {
  it('is refilled once, whoever asks at the same time, and gives back what is too much', async () => {
    await automation.startWorker();
    const pool = await makePool(automation);
    const refill = () => refillPool(automation.services, pool.id);
    const all = await Promise.all(Array.from({ length: 4 }, refill));
    expect(all.reduce((sum, { bought }) => sum + bought, 0)).toBe(2);
    expect(await refill()).toEqual({ bought: 0, shrunk: 0, refused: 0 });
    expect((await warmOf(automation, pool))[0]).toMatchObject({
      unbounded: true,
      expires_at: null,
      consumer: 'pool-team',
    });
    await warmUp(automation, pool);
    await automation.db.updateTable('pools').set({ target_size: 1 }).where('id', '=', pool.id).execute();
    expect(await refill()).toMatchObject({ shrunk: 0 });
    await automation.passTime(601_000);
    expect(await refill()).toMatchObject({ shrunk: 1 });
    expect(await refill()).toMatchObject({ shrunk: 0 });
    await automation.until(async () => (await warmOf(automation, pool)).length === 1, 'one is left');
  });

  it('that cannot be filled says why and backs off', async () => {
    await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 1, maxPriceMicroUsdPerHour: 100n });
    await refillPool(automation.services, pool.id);
    await automation.until(async () => (await warmOf(automation, pool)).length === 0, 'the refill failed');
    expect(await refillPool(automation.services, pool.id)).toEqual({ bought: 0, shrunk: 0, refused: 0 });
    const row = await automation.db.selectFrom('pools').selectAll().where('id', '=', pool.id).executeTakeFirstOrThrow();
    expect(row.trouble).toMatch(/1 refill in a row failed: .*offer/);
    expect(row.retry_at?.getTime()).toBeGreaterThan(Date.now());
  });

  it('asks for no more than the caps allow, with the reason', async () => {
    await automation.db.updateTable('deployment').set({ max_instances: 1 }).execute();
    const pool = await makePool(automation, { targetSize: 3 });
    expect(await refillPool(automation.services, pool.id)).toMatchObject({ bought: 1 });
    const row = await automation.db.selectFrom('pools').selectAll().where('id', '=', pool.id).executeTakeFirstOrThrow();
    expect(row.trouble).toContain('MUSTER_MAX_INSTANCES');
  });
});
