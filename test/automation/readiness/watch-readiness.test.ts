import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createScheduler } from '../../../automation/cron/scheduler.ts';
import { createReadinessCrons } from '../../../automation/readiness/watch-readiness.ts';
import type { AttemptRow } from '../../../db/attempts.ts';
import { registerProvider } from '../../../db/providers.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, SSH_KEY, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

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
  ssh.mood = 'talks';
  ssh.commands.length = 0;
  await automation.openMarket(10);
});
afterEach(() => automation.close());

describe('the readiness watcher', () => {
  it('has no work while nothing boots', async () => {
    const [cron] = createReadinessCrons({
      ...automation.services,
      providers: ['vastai'],
      client: () => automation.vendor.client,
      everyMs: 1_000,
      sshPrivateKey: SSH_KEY.private,
    });
    expect(await cron?.hasWork?.()).toBe(false);
    await boot(['a']);
    expect(await cron?.hasWork?.()).toBe(true);
  });

  it('asks for one listing a tick, however many boot, and probes only what runs', async () => {
    const { vendor } = automation;
    const { attempts } = await boot(['a', 'b', 'c', 'd']);
    for (const { label } of attempts.slice(0, 2)) vendor.run(label);
    const before = countListings();
    expect(await automation.tick('readiness')).toEqual({ booting: 4, ready: 2, failed: 0, quarantined: 0 });
    expect(countListings() - before).toBe(1);
    expect(ssh.commands).toHaveLength(2);
  });

  it('shows how far each machine has come, and where it can be reached', async () => {
    const { vendor } = automation;
    const { attempts, instanceIds } = await boot(['a']);
    const id = instanceIds[0] as string;
    const label = attempts[0]?.label as string;
    await automation.tick('readiness');
    expect(await automation.instance(id)).toMatchObject({ phase: 'starting', note: 'the machine is starting' });
    vendor.run(label);
    ssh.mood = 'hangs_up';
    await automation.tick('readiness');
    expect((await automation.instance(id)).note).toMatch(/SSH does not answer yet/);
    ssh.mood = 'talks';
    ssh.answer = { output: 'no devices', exitCode: 1 };
    await automation.tick('readiness');
    expect(await automation.instance(id)).toMatchObject({ phase: 'verifying' });
    const attempt = await automation.attempt(attempts[0]?.id as string);
    expect(attempt).toMatchObject({
      status: 'bought',
      ssh_host: ssh.host,
      ssh_port: ssh.port,
      observed_status: 'running',
    });
    expect(attempt.running_at).not.toBeNull();
  });

  it('fails a machine of which the vendor says stopped, after the grace that new ones have', async () => {
    const { vendor } = automation;
    const { attempts } = await boot(['a']);
    const { id, label } = attempts[0] as { id: string; label: string };
    vendor.run(label, 'stopped');
    expect(await automation.tick('readiness')).toMatchObject({ failed: 0 });
    await automation.passTime(31_000);
    expect(await automation.tick('readiness')).toMatchObject({ failed: 1 });
    expect(await automation.untilGone(id)).toMatchObject({ failure_code: 'boot_failed' });
  });

  it('concludes nothing from a machine that is not in the listing yet', async () => {
    const { vendor } = automation;
    const { attempts } = await boot(['a']);
    const { client } = vendor;
    vendor.client = { ...client, listInstances: () => Promise.resolve([]) };
    expect(await automation.tick('readiness')).toMatchObject({ booting: 1, ready: 0, failed: 0 });
    expect(await automation.attempt(attempts[0]?.id as string)).toMatchObject({ status: 'bought', missing_count: 0 });
  });
});

describe('a provider that answers slowly', () => {
  it('delays the readiness of no other: each is watched at its own cadence', async () => {
    const { vendor, services } = automation;
    const { attempts } = await boot(['a', 'b']);
    const [slow, quick] = attempts as [AttemptRow, AttemptRow];
    await automation.db.updateTable('attempts').set({ provider: 'tensordock' }).where('id', '=', slow.id).execute();
    await registerProvider(automation.db, 'tensordock', 'sandbox');
    let asked = 0;
    let release = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    const slowClient = {
      ...vendor.client,
      async listInstances() {
        asked++;
        await released;
        return [];
      },
    };
    const crons = createReadinessCrons({
      ...services,
      providers: ['tensordock', 'vastai'],
      client: (provider) => (provider === 'tensordock' ? slowClient : vendor.client),
      everyMs: 20,
      sshPrivateKey: SSH_KEY.private,
    });
    const scheduler = createScheduler(crons, { db: automation.db, owner: 'this', log: services.log });
    scheduler.start();
    try {
      await automation.until(() => asked === 1, 'the slow provider is asked');
      const before = countListings();
      await automation.until(() => countListings() > before + 2, 'the other is listed tick by tick');
      vendor.run(quick.label);
      await automation.until(async () => (await automation.attempt(quick.id)).status === 'ready', 'it is ready');
      expect(asked).toBe(1);
    } finally {
      release();
      await scheduler.stop();
    }
  });
});

function countListings(): number {
  return automation.vendor.calls().filter((call) => call === 'listInstances').length;
}

async function boot(names: string[]) {
  const { operation, instances } = await automation.provision({}, names);
  await automation.startWorker();
  const attempts = await automation.untilBought(names.length);
  await automation.untilWaiting(operation.id);
  return { attempts, instanceIds: instances.map(({ id }) => id) };
}
