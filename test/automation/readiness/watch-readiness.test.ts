import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createScheduler } from '../../../automation/cron/scheduler.ts';
import { hearRegistrations } from '../../../automation/readiness/hear-registrations.ts';
import { createReadinessCrons } from '../../../automation/readiness/watch-readiness.ts';
import type { AttemptRow } from '../../../db/attempts.ts';
import { inTransaction } from '../../../db/database.ts';
import { insertNodeToken, REGISTRATION_CHANNEL, registerNode } from '../../../db/nodes.ts';
import { registerProvider } from '../../../db/providers.ts';
import { until } from '../../support/fleet-database.ts';
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

describe('a machine that lacks nothing but its agent', () => {
  async function bootCarrier() {
    const { attempts } = await boot(['a']);
    const { id, label } = attempts[0] as AttemptRow;
    const change = (columns: object) =>
      automation.db.updateTable('attempts').set(columns).where('id', '=', id).execute();
    // Sealed for whoever opens it, which nobody does here.
    await change({ agent_sealed: 'v1.x' });
    automation.vendor.run(label);
    expect(await automation.tick('readiness')).toMatchObject({ ready: 0 });
    expect((await automation.attempt(id)).last_check).toMatchObject({
      verdict: 'not_yet',
      ssh: { authenticated: true },
    });
    expect(ssh.commands).toHaveLength(1);
    return { id, change };
  }

  it('is ready when that has registered, by what was found a moment ago', async () => {
    const { change } = await bootCarrier();
    await change({ agent_registered_at: new Date() });
    expect(await automation.tick('readiness')).toMatchObject({ ready: 1 });
    expect(ssh.commands).toHaveLength(1);
  });

  it('is looked at again where that was too long ago, elsewhere, or not as promised', async () => {
    const { id, change } = await bootCarrier();
    const { last_check: last } = await automation.attempt(id);
    const old = { ...last, at: new Date(Date.now() - 11_000).toISOString() };
    await change({ agent_registered_at: new Date(), last_check: JSON.stringify(old) });
    ssh.answer = { output: 'no devices', exitCode: 1 };
    expect(await automation.tick('readiness')).toMatchObject({ ready: 0 });
    expect(ssh.commands).toHaveLength(2);
    // What gave nothing readable is not taken for an answer.
    expect(await automation.tick('readiness')).toMatchObject({ ready: 0 });
    expect(ssh.commands).toHaveLength(3);
    ssh.answer = RTX_4090;
    expect(await automation.tick('readiness')).toMatchObject({ ready: 1 });
    expect((await automation.attempt(id)).status).toBe('ready');
  });
});

describe('the word that an agent has registered', () => {
  it('rings for its provider at once, with the same moment for every replica, also after the connection was lost', async () => {
    const database = automation.database;
    const heard: [string, number][] = [];
    const { log } = automation.services;
    const listeners = await Promise.all(
      [1, 2].map(() => hearRegistrations(database, (provider, at) => heard.push([provider, at.getTime()]), log)),
    );
    const { attempts } = await boot(['a']);
    const { id } = attempts[0] as AttemptRow;
    const register = (serial: number) =>
      inTransaction(automation.db, async (tx) => {
        const tokenHash = Buffer.alloc(32, serial);
        await tx.deleteFrom('node_tokens').where('attempt_id', '=', id).execute();
        await tx.deleteFrom('nodes').where('attempt_id', '=', id).execute();
        await insertNodeToken(tx, { tokenHash, attemptId: id, lifetimeMs: 60_000 });
        const hash = Buffer.alloc(32, serial + 1);
        const agent = { tokenHash, nonceHash: hash, keyHash: hash, agentVersion: '1', hostname: null };
        expect((await registerNode(tx, agent)).kind).toBe('registered');
      });
    await register(1);
    await until(() => heard.length === 2, 'both to hear it');
    expect(heard[0]).toEqual(['vastai', expect.any(Number)]);
    expect(heard[1]).toEqual(heard[0]);
    await sql`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name like '%-listen' and datname = current_database() and query like '%machine_registered%'`.execute(
      automation.db,
    );
    await until(
      async () => {
        await sql`select pg_notify(${REGISTRATION_CHANNEL}, 'vastai 5')`.execute(automation.db);
        return heard.filter(([, at]) => at === 5).length >= 2;
      },
      'both to hear again',
      10_000,
    );
    await Promise.all(listeners.map((listener) => listener.close()));
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
