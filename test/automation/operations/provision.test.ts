import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findMachine } from '../../../db/machines.ts';
import { listReservedKeys } from '../../../db/offers.ts';
import { listEventsAfter } from '../../../db/operation-log.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

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

describe('coldstart', () => {
  it('takes the next candidate after a refusal, in the same engine run, and is ready when SSH shows the GPU', async () => {
    const { vendor } = automation;
    vendor.script('refused', 'refused');
    const { operation, instances } = await automation.provision();
    await automation.startWorker();
    const [attempt] = await automation.untilBought(1);
    expect(attempt).toMatchObject({ purchase_calls: 3, engine_runs: 1, provider_instance_id: '1001' });
    expect(attempt?.refusals).toHaveLength(2);
    expect(attempt?.provider_offer_id?.replace('offer', 'machine')).toBe(attempt?.machine_id);
    expect(automation.runner.updates).toHaveLength(1);
    await automation.untilWaiting(operation.id);

    await automation.tick('readiness');
    expect(await automation.attempts()).toMatchObject([{ status: 'bought' }]);
    vendor.run(attempt?.label as string);
    expect(await automation.tick('readiness')).toMatchObject({ booting: 1, ready: 1 });
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded', note: 'ready' });
    expect(await automation.instance(instances[0]?.id as string)).toMatchObject({
      status: 'ready',
      phase: 'active',
      winner_attempt_id: attempt?.id,
    });
    expect(vendor.live()).toEqual([attempt?.label]);
    expect(await findMachine(automation.db, 'vastai', attempt?.machine_id as string)).toMatchObject({
      attempts: 1,
      successes: 1,
    });
    expect(await listReservedKeys(automation.db)).toEqual(new Set());
    const events = await listEventsAfter(automation.db, operation.id, 0);
    expect(events.map((event) => event.type)).toEqual(expect.arrayContaining(['status', 'instance']));
    expect(automation.troubles).toEqual([]);
  });

  it('gives a machine up at its boot deadline, destroys it and takes another one', async () => {
    const { vendor } = automation;
    const { operation, instances } = await automation.provision({ bootTimeoutMs: 600_000 });
    await automation.startWorker();
    const [first] = await automation.untilBought(1);
    const waited = await automation.passWait(operation.id);
    expect(waited).toBeGreaterThan(590_000);
    const second = await untilOther(first?.id as string);
    expect(second.machine_id).not.toBe(first?.machine_id);
    await automation.untilGone(first?.id as string);
    expect(await automation.attempt(first?.id as string)).toMatchObject({ failure_code: 'boot_timeout' });
    expect(vendor.live()).toEqual([second.label]);
    vendor.run(second.label);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await automation.instance(instances[0]?.id as string)).toMatchObject({ winner_attempt_id: second.id });
  });

  it('keeps a machine that is found ready between the plan that gives it up and its carrying out', async () => {
    const { vendor, runner } = automation;
    const { operation, instances } = await automation.provision({ bootTimeoutMs: 600_000 });
    await automation.startWorker();
    const [first] = await automation.untilBought(1);
    await automation.untilWaiting(operation.id);
    const { readState } = runner;
    runner.readState = async (stackName) => {
      runner.readState = readState;
      await automation.recordReady(first as NonNullable<typeof first>); // the rows were read before
      return readState(stackName);
    };
    await automation.passWait(operation.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded', note: 'ready' });
    expect(await automation.instance(instances[0]?.id as string)).toMatchObject({
      status: 'ready',
      winner_attempt_id: first?.id,
    });
    expect(vendor.bought()).toHaveLength(1);
    expect(vendor.live()).toEqual([first?.label]);
  });

  it('destroys a machine that is not what was promised, says so, and takes another one', async () => {
    const { vendor } = automation;
    ssh.answer = { output: 'NVIDIA GeForce RTX 3060, 12288\n', exitCode: 0 };
    const { operation } = await automation.provision();
    await automation.startWorker();
    const [first] = await automation.untilBought(1);
    vendor.run(first?.label as string);
    expect(await automation.tick('readiness')).toMatchObject({ failed: 1 });
    const second = await untilOther(first?.id as string);
    await automation.untilGone(first?.id as string);
    const failed = await automation.attempt(first?.id as string);
    expect(failed).toMatchObject({ failure_code: 'wrong_hardware' });
    expect(failed.failure_detail).toContain('RTX 3060');
    expect(await findMachine(automation.db, 'vastai', first?.machine_id as string)).toMatchObject({
      attempts: 1,
      successes: 0,
      last_failure_code: 'wrong_hardware',
    });
    ssh.answer = RTX_4090;
    vendor.run(second.label);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
  });

  it('fails with no_capacity and the reason when everything is refused, and leaves nothing behind', async () => {
    const { vendor } = automation;
    vendor.script(...Array.from({ length: 200 }, () => 'refused' as const));
    const { operation, instances } = await automation.provision();
    await automation.startWorker();
    const failed = await automation.untilFinished(operation.id);
    expect(failed).toMatchObject({ status: 'failed', error_code: 'no_capacity' });
    expect(failed.error_detail).toMatch(/refus|no offer/i);
    expect(failed.cancel_requested_at, 'its own failure is no cancel').toBeNull();
    const destroyed = await automation.untilDestroyed(instances[0]?.id as string);
    expect(destroyed).toMatchObject({ failure_code: 'no_capacity', winner_attempt_id: null });
    expect((await automation.attempts()).every((attempt) => attempt.status === 'gone')).toBe(true);
    expect(vendor.live()).toEqual([]);
    expect(vendor.bought()).toEqual([]);
    expect(await listReservedKeys(automation.db)).toEqual(new Set());
  });

  it('fails at once when nothing that is listed fits', async () => {
    const { operation } = await automation.provision({ maxPriceMicroUsdPerHour: 100 });
    await automation.startWorker();
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'failed', error_code: 'no_capacity' });
    expect(automation.vendor.calls()).not.toContain('buy');
  });

  it('adopts the machine of a purchase whose answer was lost: one purchase, one machine', async () => {
    automation.vendor.script('answer_lost');
    const { operation } = await automation.provision();
    await automation.startWorker();
    const [attempt] = await automation.untilBought(1);
    await automation.untilWaiting(operation.id);
    expect(automation.vendor.bought()).toEqual([attempt?.label]);
    expect(attempt?.provider_instance_id).toBe('1001');
  });

  it('adopts what a killed engine bought: the pending create is resolved by its label', async () => {
    const { vendor, runner } = automation;
    const { operation } = await automation.provision();
    runner.isKilledNext = true;
    await automation.startWorker();
    await automation.passWait(operation.id);
    const [attempt] = await automation.untilBought(1);
    expect(attempt).toMatchObject({ engine_runs: 2, provider_instance_id: '1001' });
    expect(vendor.bought()).toHaveLength(1);
    expect(vendor.live()).toHaveLength(1);
  });

  it('does not adopt a machine that is gone though the list still shows it: it buys again', async () => {
    const { vendor, runner } = automation;
    const { operation } = await automation.provision();
    runner.isKilledNext = true;
    await automation.startWorker();
    await automation.untilWaiting(operation.id);
    const [ghost] = await vendor.client.listInstances();
    await vendor.client.destroy(ghost?.providerInstanceId as string);
    const { findByLabel } = vendor.client;
    vendor.client.findByLabel = async (label, signal) => {
      const listed = await findByLabel(label, signal);
      return ghost?.label === label && !listed.some((one) => one.providerInstanceId !== ghost.providerInstanceId)
        ? [ghost]
        : listed;
    };
    await automation.passWait(operation.id);
    const [attempt] = await automation.untilBought(1);
    expect(attempt?.provider_instance_id).not.toBe(ghost?.providerInstanceId);
    expect(vendor.live()).toHaveLength(1);
  });

  it('fails with the reason of a provider that refuses our key', async () => {
    automation.vendor.script('auth');
    const { operation } = await automation.provision();
    automation.vendor.script(...Array.from({ length: 20 }, () => 'auth' as const));
    await automation.startWorker();
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'failed',
      error_code: 'provider_auth',
    });
    // One try: the next candidate would be refused for the same reason.
    expect(await automation.attempts()).toHaveLength(1);
    expect(automation.runner.updates).toHaveLength(1);
  });
});

describe('race', () => {
  it('buys on distinct machines; the first ready wins and the losers are destroyed and proven gone', async () => {
    const { vendor } = automation;
    const { operation, instances } = await automation.provision({ strategy: 'race', raceWidth: 4 });
    await automation.startWorker();
    const racers = await automation.untilBought(4);
    expect(new Set(racers.map((racer) => racer.machine_id)).size).toBe(4);
    expect(automation.runner.updates).toHaveLength(1);
    await automation.untilWaiting(operation.id);
    const winner = racers[2];
    vendor.run(winner?.label as string);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await automation.instance(instances[0]?.id as string)).toMatchObject({
      status: 'ready',
      winner_attempt_id: winner?.id,
    });
    for (const loser of racers.filter((racer) => racer !== winner)) {
      await automation.untilGone(loser.id);
      const destroys = await automation.db
        .selectFrom('operations')
        .select(['kind', 'created_by'])
        .where('target_id', '=', loser.id)
        .execute();
      expect(destroys).toEqual([{ kind: 'destroy_machine', created_by: operation.id }]);
      // A loser proved nothing: it is no failure of its machine.
      expect(await findMachine(automation.db, 'vastai', loser.machine_id as string)).toBeUndefined();
    }
    expect(vendor.live()).toEqual([winner?.label]);
    expect(automation.troubles).toEqual([]);
  });

  it('has its winner, and its losers given up, in the transaction that records the first ready machine', async () => {
    const { operation, instances } = await automation.provision({ strategy: 'race', raceWidth: 4 });
    const worker = await automation.startWorker();
    const racers = await automation.untilBought(4);
    await automation.untilWaiting(operation.id);
    await worker.drain(); // nobody carries out a plan
    const [winner, ...losers] = racers;
    automation.vendor.run(winner?.label as string);
    expect(await automation.tick('readiness')).toMatchObject({ booting: 4, ready: 1 });
    expect(await automation.instance(instances[0]?.id as string)).toMatchObject({
      status: 'ready',
      phase: 'active',
      note: null,
      winner_attempt_id: winner?.id,
    });
    for (const loser of losers) expect(await automation.attempt(loser.id)).toMatchObject({ status: 'destroying' });
    const destroys = await automation.db
      .selectFrom('operations')
      .select(['kind', 'target_id', 'status'])
      .where('kind', '=', 'destroy_machine')
      .execute();
    expect(new Set(destroys.map((one) => one.target_id))).toEqual(new Set(losers.map(({ id }) => id)));
    // A process that dies here leaves nothing to decide: whoever comes destroys the losers and ends the operation.
    await automation.startWorker('another');
    for (const loser of losers) await automation.untilGone(loser.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(automation.vendor.live()).toEqual([winner?.label]);
  });

  it('is won while the engine still buys: that run is interrupted, and no further purchase is sent', async () => {
    const { vendor, runner } = automation;
    const { operation, instances } = await automation.provision({ strategy: 'race', raceWidth: 3 });
    // The third racer's purchase waits, as for a rate limit, until the run is interrupted.
    const { buy } = vendor.client;
    let orders = 0;
    const untilInterrupted = (signal?: AbortSignal) =>
      new Promise<never>((_, reject) => {
        const cancel = () => reject(new ProviderError('canceled', 'canceled while it waited'));
        signal?.addEventListener('abort', cancel);
      });
    vendor.client.buy = (order, signal, beforeSending) =>
      ++orders === 3 ? untilInterrupted(signal) : buy(order, signal, beforeSending);
    await automation.startWorker();
    // The engine tells of each purchase as it is made; here the two are recorded by hand.
    const racers = await automation.until(async () => {
      const all = await automation.attempts();
      return vendor.bought().length === 2 && all;
    }, 'two of three are bought');
    const bought = await automation.until(async () => {
      const found = (await automation.attempts()).filter(({ status }) => status === 'bought');
      return found.length === 2 && found;
    }, 'two are recorded');
    expect(runner.updates).toHaveLength(1);
    vendor.run(bought[0]?.label as string);
    await automation.tick('readiness');
    expect(await automation.instance(instances[0]?.id as string)).toMatchObject({
      status: 'ready',
      winner_attempt_id: bought[0]?.id,
    });
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded', note: 'ready' });
    for (const racer of racers) if (racer.id !== bought[0]?.id) await automation.untilGone(racer.id);
    expect(vendor.bought()).toHaveLength(2);
    expect(vendor.live()).toEqual([bought[0]?.label]);
    expect(automation.troubles).toEqual([]);
  });

  it('has one winner when two replicas record racers ready at the same moment', async () => {
    const { operation, instances } = await automation.provision({ strategy: 'race', raceWidth: 5 });
    const worker = await automation.startWorker();
    const racers = await automation.untilBought(5);
    await automation.untilWaiting(operation.id);
    await worker.drain();
    const won = await Promise.all(racers.map((racer) => automation.recordReady(racer)));
    expect(won.filter((one) => one !== null)).toEqual([{ losers: 4 }]);
    const after = await automation.attempts();
    const ready = after.filter(({ status }) => status === 'ready');
    expect(ready.map(({ id }) => id)).toEqual([
      (await automation.instance(instances[0]?.id as string)).winner_attempt_id,
    ]);
    expect(after.filter(({ status }) => status === 'destroying')).toHaveLength(4);
    const destroys = await automation.db
      .selectFrom('operations')
      .select('id')
      .where('kind', '=', 'destroy_machine')
      .execute();
    expect(destroys).toHaveLength(4);
  });

  it('of several instances goes on buying for the others when one has its winner', async () => {
    const { vendor } = automation;
    const { operation, instances } = await automation.provision({ strategy: 'race', raceWidth: 2 }, ['a', 'b']);
    const { buy } = vendor.client;
    let release = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    const [first, second] = instances.map(({ id }) => id) as [string, string];
    const instanceOf = async (label: string) =>
      (await automation.attempts()).find((attempt) => attempt.label === label)?.instance_id;
    vendor.client.buy = async (order, signal, beforeSending) => {
      if ((await instanceOf(order.label)) === second) await released;
      return buy(order, signal, beforeSending);
    };
    await automation.startWorker();
    const bought = await automation.untilBought(2);
    expect(bought.every((attempt) => attempt.instance_id === first)).toBe(true);
    vendor.run(bought[0]?.label as string);
    await automation.tick('readiness');
    expect(await automation.instance(first)).toMatchObject({ status: 'ready' });
    release();
    const rest = await automation.until(async () => {
      const found = (await automation.attempts()).filter(
        (one) => one.status === 'bought' && one.instance_id === second,
      );
      return found.length === 2 && found;
    }, 'the other instance has its racers');
    expect(automation.runner.updates.filter(({ update }) => update === 'up')[0]?.attempts).toHaveLength(4);
    vendor.run(rest[1]?.label as string);
    await automation.untilGone(bought[1]?.id as string);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    await automation.untilGone(rest[0]?.id as string);
    expect(new Set(vendor.live())).toEqual(new Set([bought[0]?.label, rest[1]?.label]));
    expect(vendor.bought()).toHaveLength(4);
  });

  it('keeps one winner where two are ready in the same tick', async () => {
    const { vendor } = automation;
    const { operation, instances } = await automation.provision({ strategy: 'race', raceWidth: 3 });
    await automation.startWorker();
    const racers = await automation.untilBought(3);
    await automation.untilWaiting(operation.id);
    for (const racer of racers) vendor.run(racer.label);
    await automation.tick('readiness');
    await automation.untilFinished(operation.id);
    const { winner_attempt_id: winnerId } = await automation.instance(instances[0]?.id as string);
    for (const racer of racers) if (racer.id !== winnerId) await automation.untilGone(racer.id);
    expect(vendor.live()).toEqual(racers.filter((racer) => racer.id === winnerId).map((racer) => racer.label));
  });
});

describe('several instances of one request', () => {
  it('share a stack and an engine run, and never a machine', async () => {
    const { operation, instances } = await automation.provision({}, ['one', 'two', 'three']);
    await automation.startWorker();
    const bought = await automation.untilBought(3);
    expect(new Set(bought.map((attempt) => attempt.instance_id))).toEqual(new Set(instances.map(({ id }) => id)));
    expect(new Set(bought.map((attempt) => attempt.machine_id)).size).toBe(3);
    expect(automation.runner.updates).toHaveLength(1);
    for (const attempt of bought) automation.vendor.run(attempt.label);
    await automation.untilWaiting(operation.id);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
  });

  it('of many requests at once are bought once each, on machines of their own', async () => {
    await automation.startWorker('one');
    await automation.startWorker('two');
    await Promise.all(Array.from({ length: 6 }, () => automation.provision()));
    const bought = await automation.untilBought(6);
    expect(new Set(bought.map((attempt) => attempt.machine_id)).size).toBe(6);
    expect(automation.vendor.bought()).toHaveLength(6);
    expect(new Set(automation.vendor.live())).toEqual(new Set(bought.map((attempt) => attempt.label)));
  });
});

describe('a cancel', () => {
  it('of a provision that waits destroys what was bought', async () => {
    const { operation, instances } = await automation.provision({ strategy: 'race', raceWidth: 2 });
    await automation.startWorker();
    await automation.untilBought(2);
    await automation.untilWaiting(operation.id);
    await automation.cancel(operation.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'canceled', error_code: 'canceled' });
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(automation.vendor.live()).toEqual([]);
  });

  it('in the middle of an engine run lets the run end and destroys what it bought', async () => {
    const { operation, instances } = await automation.provision();
    automation.runner.beforeResult = async () => {
      automation.runner.beforeResult = null;
      await automation.cancel(operation.id);
    };
    await automation.startWorker();
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'canceled' });
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(automation.vendor.bought()).toHaveLength(1);
    expect(automation.vendor.live()).toEqual([]);
  });

  it('by a destroy of the instance supersedes the provision', async () => {
    const { operation, instances } = await automation.provision();
    await automation.startWorker();
    await automation.untilBought(1);
    await automation.untilWaiting(operation.id);
    await automation.destroy(instances[0]?.id as string);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'canceled' });
    await automation.untilDestroyed(instances[0]?.id as string);
    expect(automation.vendor.live()).toEqual([]);
    const stackName = `instance-${operation.id.replace('_', '-')}`;
    await automation.until(async () => (await automation.runner.readState(stackName)) === null, 'the stack is removed');
  });
});

async function untilOther(id: string) {
  const { found } = await automation.until(async () => {
    const found = (await automation.attempts()).find((attempt) => attempt.id !== id && attempt.status === 'bought');
    return found && { found };
  }, 'another machine is bought');
  return found;
}
