/** Waking what sleeps, with real workers and Postgres over a scripted vendor. */
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createResolveStuckCron } from '../../../automation/cron/resolve-stuck.ts';
import { readBootFigures, readWakeFigure } from '../../../db/boot-figures.ts';
import { acceptProvision } from '../../../db/accept-provision.ts';
import { newId } from '../../../db/new-id.ts';
import { claimFirstWriter, ensureWorkspace, findWorkspace } from '../../../db/workspaces.ts';
import { sealEnv } from '../../../secrets/instance-env.ts';
import { ACTOR, makeOffer, REQUEST } from '../../support/fleet-database.ts';
import { makePool, warmUp } from '../../support/warm-pool.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { createSleepingFleet, type SleepingFleet } from '../../support/sleeping-fleet.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

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
  await automation.startWorker();
});
afterEach(() => automation.close());

describe('an instance that is woken', () => {
  it('is ready on another machine only when its files are there; its lifetime stood still', async () => {
    const { instance, attempt } = await fleet.makeReady();
    const sleep = await fleet.putToSleep(instance.id);
    await automation.passTime(3_600_000);
    const before = await automation.instance(instance.id);
    const operation = await fleet.wake(instance.id);
    expect((await fleet.wake(instance.id)).id).toBe(operation.id);
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'waking', phase: 'queued' });
    const second = await fleet.boot(instance.id);
    await automation.until(async () => (await automation.instance(instance.id)).restore_operation_id, 'it is restored');
    expect(await automation.instance(instance.id)).toMatchObject({
      status: 'waking',
      phase: 'restoring',
      winner_attempt_id: second.id,
      restore_snapshot_id: sleep.snapshot_id,
    });
    expect((await automation.operation(operation.id)).finished_at).toBeNull();
    await fleet.endRestore(instance.id, 'succeeded');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded', note: 'ready' });
    const awake = await automation.instance(instance.id);
    expect(awake).toMatchObject({
      status: 'ready',
      phase: 'active',
      winner_attempt_id: second.id,
      restore_snapshot_id: null,
      restore_operation_id: null,
    });
    expect(second.id).not.toBe(attempt.id);
    const slept = Number(awake.asleep_ms);
    expect(slept).toBeGreaterThanOrEqual(3_600_000);
    expect((awake.expires_at as Date).getTime() - (before.expires_at as Date).getTime()).toBeCloseTo(slept, -2);
    expect(await findWorkspace(automation.db, instance.id)).toMatchObject({ writer_attempt_id: second.id });
    expect(await fleet.sleepOf(instance.id)).toMatchObject({ status: 'woken' });
    expect(automation.vendor.live()).toEqual([second.label]);
    expect(automation.troubles).toEqual([]);
  });

  it('gets the next machine where the files do not come back, and sleeps on after three', async () => {
    const { instance } = await fleet.makeReady();
    const sleep = await fleet.putToSleep(instance.id);
    const operation = await fleet.wake(instance.id);
    const tried: string[] = [];
    for (let machine = 0; machine < 3; machine++) {
      await fleet.boot(instance.id);
      tried.push(await fleet.endRestore(instance.id, 'failed'));
    }
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'failed',
      error_code: 'restore_failed',
    });
    expect(new Set(tried).size).toBe(3);
    for (const id of tried) expect(await automation.untilGone(id)).toMatchObject({ failure_code: 'restore_failed' });
    expect(await automation.instance(instance.id)).toMatchObject({
      status: 'hibernated',
      failure_code: null,
      restore_snapshot_id: sleep.snapshot_id,
      winner_attempt_id: null,
    });
    expect(automation.vendor.live()).toEqual([]);
    expect(await fleet.sleepOf(instance.id)).toMatchObject({ status: 'asleep', wake_failures: 1 });
  });

  it('sleeps on where nothing can be bought, and can be woken later', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    automation.vendor.offers = [1, 2, 3, 4, 5, 6].map((n) => makeOffer(n, { priceMicroUsdPerHour: 5_000_000n }));
    await automation.tick('sync');
    const failed = await fleet.wake(instance.id);
    expect(await automation.untilFinished(failed.id)).toMatchObject({ status: 'failed', error_code: 'no_capacity' });
    expect(await automation.instance(instance.id)).toMatchObject({
      status: 'hibernated',
      phase: 'asleep',
      note: expect.stringContaining('not woken') as string,
    });
    await automation.openMarket(4);
    const operation = await fleet.wake(instance.id);
    await fleet.boot(instance.id);
    await fleet.endRestore(instance.id, 'succeeded');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
  });

  it('takes another machine when the one that is restored vanishes', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    await fleet.wake(instance.id);
    const first = await fleet.boot(instance.id);
    await automation.until(async () => (await automation.instance(instance.id)).restore_operation_id, 'it is restored');
    automation.vendor.vanish(first.label);
    for (let tick = 0; tick < 3; tick++) {
      await automation.tick('reconcile');
      await automation.passTime(400_000);
    }
    const second = await fleet.boot(instance.id);
    expect(second.id).not.toBe(first.id);
    await fleet.endRestore(instance.id, 'succeeded');
    await automation.until(async () => (await automation.instance(instance.id)).status === 'ready', 'it is ready');
  });

  it('is measured: how fast machines boot, and how fast it is ready with its files', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    expect(await readWakeFigure(automation.db)).toBeNull();
    await fleet.wake(instance.id);
    await fleet.boot(instance.id);
    await fleet.endRestore(instance.id, 'succeeded');
    await automation.until(async () => (await automation.instance(instance.id)).status === 'ready', 'it is ready');
    expect(await readWakeFigure(automation.db)).toMatchObject({ count: 1, p50Seconds: expect.any(Number) as number });
    expect(await readBootFigures(automation.db)).toMatchObject([
      { provider: 'vastai', strategy: 'coldstart', count: 2, p95Seconds: expect.any(Number) as number },
    ]);
  });

  it('and on which nothing works any more sleeps on; one whose machine is gone goes on to sleep', async () => {
    const { instance } = await fleet.makeReady();
    const forget = () =>
      automation.asOwner(`update operations set status = 'succeeded', lease_owner = null, lease_expires_at = null,
        wait_until = null, finished_at = now() where status in ('queued', 'running')`);
    const tick = () =>
      createResolveStuckCron(automation.db, automation.queue, pino({ level: 'silent' })).run(
        new AbortController().signal,
      );
    automation.vendor.outage = 'destroy';
    const operation = await fleet.hibernate(instance.id);
    await fleet.endSnapshot(instance.id, 'verified');
    await automation.until(() => automation.vendor.destroyCalls > 0, 'its machine is destroyed');
    await automation.untilWaiting(operation.id);
    await forget();
    automation.vendor.outage = 'none';
    await automation.passTime(180_000);
    expect(await tick()).toMatchObject({ instances: 1 });
    await automation.until(async () => (await automation.instance(instance.id)).status === 'hibernated', 'it sleeps');
    expect(automation.vendor.live()).toEqual([]);
    await fleet.wake(instance.id);
    const machine = await fleet.boot(instance.id);
    await automation.until(async () => (await automation.instance(instance.id)).restore_operation_id, 'it is restored');
    await automation.untilWaiting((await automation.instance(instance.id)).operation_id);
    await forget();
    await automation.passTime(180_000);
    expect(await tick()).toMatchObject({ instances: 1 });
    expect((await automation.instance(instance.id)).status).toBe('hibernated');
    await automation.untilGone(machine.id);
  });

  it('sleeps on when that is canceled: what was bought is destroyed', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    const operation = await fleet.wake(instance.id);
    const machine = await fleet.boot(instance.id);
    await automation.untilWaiting(operation.id);
    await automation.cancel(operation.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'canceled' });
    await automation.untilGone(machine.id);
    expect((await automation.instance(instance.id)).status).toBe('hibernated');
    expect(automation.vendor.live()).toEqual([]);
  });

  it('that is destroyed on the way leaves nothing', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    await fleet.wake(instance.id);
    await fleet.boot(instance.id);
    await automation.destroy(instance.id);
    await automation.untilDestroyed(instance.id);
    expect(automation.vendor.live()).toEqual([]);
  });

  it('starts with its own environment, though it first came from a pool to another stack', async () => {
    const pool = await makePool(automation, { targetSize: 1, maxSize: 1 });
    await warmUp(automation, pool);
    await automation.db.updateTable('pools').set({ target_size: 0 }).execute();
    const sealed = await automation.db.transaction().execute(async (tx) => {
      const stackId = newId('stack');
      const envSealed = sealEnv(automation.services.envelope, stackId, { TOKEN: 'of mine' });
      return acceptProvision(tx, automation.queue, {
        orgId: automation.orgId,
        actor: ACTOR,
        names: ['claimant'],
        request: { ...REQUEST, strategy: 'serverless', envNames: ['TOKEN'], envSealed },
        consumer: null,
        overrideReason: null,
        stackId,
      });
    });
    await automation.untilFinished(sealed.operation.id);
    const instance = await automation.instance(sealed.instances[0]?.id as string);
    expect(instance).toMatchObject({ status: 'ready' });
    expect(instance.stack_id).not.toBe(sealed.instances[0]?.stack_id);
    await automation.db.transaction().execute(async (tx) => {
      await ensureWorkspace(tx, { instanceId: instance.id, orgId: automation.orgId });
      await claimFirstWriter(tx, instance.id, instance.winner_attempt_id as string);
    });
    await fleet.addNode(await automation.attempt(instance.winner_attempt_id as string));
    await fleet.putToSleep(instance.id);
    await fleet.wake(instance.id);
    const machine = await fleet.boot(instance.id);
    expect(automation.vendor.orderOf(machine.label)?.env).toMatchObject({ TOKEN: 'of mine' });
  });

  it('by a race restores its winner alone, and destroys the losers meanwhile', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    await automation.db
      .updateTable('instances')
      .set({ request: JSON.stringify({ ...(instance.request as object), strategy: 'race', raceWidth: 2 }) })
      .execute();
    const operation = await fleet.wake(instance.id);
    const racers = await automation.untilBought(2);
    for (const racer of racers) {
      await fleet.addNode(racer);
      automation.vendor.run(racer.label);
    }
    await automation.tick('readiness');
    const winner = (await automation.instance(instance.id)).winner_attempt_id;
    const loser = racers.find(({ id }) => id !== winner);
    await automation.untilGone(loser?.id as string);
    expect((await automation.instance(instance.id)).status).toBe('waking');
    expect(await fleet.endRestore(instance.id, 'succeeded')).toBe(winner);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(automation.vendor.live()).toHaveLength(1);
  });

  it('is held to the caps and to its plan', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    await automation.asOwner('update deployment set max_instances = 1');
    await fleet.makeReady();
    await expect(fleet.wake(instance.id)).rejects.toMatchObject({ code: 'cap_exceeded' });
    expect((await automation.instance(instance.id)).status).toBe('hibernated');
    await automation.asOwner('update deployment set max_instances = 10');
    const operation = await fleet.wake(instance.id, { maxPriceMicroUsdPerHour: 100_000, planSeed: 'pln_x' });
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'failed', error_code: 'no_capacity' });
  });
});
