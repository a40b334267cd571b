/** Nodes whose agent falls silent: what is suspected, what is dead, and when that leads to a failover. */
import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createCheckNodesCron } from '../../../automation/cron/check-nodes.ts';
import type { AttemptRow } from '../../../db/attempts.ts';
import { inTransaction } from '../../../db/database.ts';
import { saveFailoverPolicy } from '../../../db/failover-policies.ts';
import { newId } from '../../../db/new-id.ts';
import { beatPulse } from '../../../db/pulses.ts';
import type { FailoverPolicy } from '../../../domain/failover.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, SSH_KEY, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

const INTERVAL_MS = 10_000;
const POLICY: FailoverPolicy = {
  mode: 'replace',
  rpoMs: 300_000,
  maxPriceMicroUsdPerHour: null,
  budgetMicroUsdPerDay: null,
  cooldownMs: 600_000,
  maxPerDay: 4,
  failback: 'automatic',
};
/** Nothing listens there. */
const NOWHERE = { host: '127.0.0.1', port: 1, user: 'root' };

let ssh: SshMachine;
let automation: ScriptedAutomation;
beforeAll(async () => {
  ssh = await startSshMachine();
  ssh.answer = RTX_4090;
});
afterAll(() => ssh?.close());
beforeEach(async () => {
  automation = await createScriptedAutomation();
  automation.vendor.ssh = { host: ssh.host, port: ssh.port, user: ssh.user };
  await automation.openMarket(6);
  await automation.startWorker();
});
afterEach(() => automation.close());

/** A ready instance whose agent has just been heard of. */
async function makeNode(policy: FailoverPolicy | null = POLICY) {
  const { operation, instances } = await automation.provision();
  const [attempt] = (await automation.untilBought(1)) as [AttemptRow];
  automation.vendor.run(attempt.label);
  await automation.tick('readiness');
  await automation.untilFinished(operation.id);
  const instanceId = instances[0]?.id as string;
  const nodeId = newId('node');
  await automation.db
    .insertInto('nodes')
    .values({
      id: nodeId,
      org_id: automation.orgId,
      attempt_id: attempt.id,
      instance_id: instanceId,
      key_hash: randomBytes(32),
      agent_version: 'test',
      hostname: null,
      heartbeat_at: new Date(),
    })
    .execute();
  if (policy) {
    await inTransaction(automation.db, (tx) =>
      saveFailoverPolicy(tx, { id: instanceId, orgId: automation.orgId }, policy, 'test'),
    );
  }
  return { instanceId, attempt, nodeId };
}

async function cutOff() {
  await automation.db.updateTable('attempts').set({ ssh_host: NOWHERE.host, ssh_port: NOWHERE.port }).execute();
  automation.vendor.ssh = NOWHERE;
}

/** Time passes in which we listen, and who is not told to be silent is heard of. */
async function passSilence(ms: number, options: { isListening?: boolean; heard?: string[] } = {}) {
  await automation.passTime(ms);
  const heard = options.heard ?? [];
  if (heard.length > 0) {
    await automation.db.updateTable('nodes').set({ heartbeat_at: new Date() }).where('id', 'in', heard).execute();
  }
  const since = options.isListening === false ? `now()` : `now() - interval '1 day'`;
  await automation.asOwner(
    `insert into pulses (role, listening_since, at) values ('api', ${since}, now())
     on conflict (role) do update set at = now(), listening_since = excluded.listening_since`,
  );
}

function check(stormLimit = 10) {
  const { db, queue } = automation;
  return createCheckNodesCron({
    db,
    queue,
    client: () => automation.vendor.client,
    providers: ['vastai'],
    listLagMs: () => 0,
    now: () => new Date(),
    log: pino({ level: 'silent' }),
    intervalMs: INTERVAL_MS,
    sshPrivateKey: SSH_KEY.private,
    // A handshake may take long where many tests run.
    probeMs: 20_000,
    stormLimit,
  });
}
const tick = (stormLimit?: number) => check(stormLimit).run(new AbortController().signal);
const watchOf = (nodeId: string) =>
  automation.db.selectFrom('node_watches').selectAll().where('node_id', '=', nodeId).executeTakeFirst();
const failovers = () => automation.db.selectFrom('failovers').selectAll().orderBy('created_at').execute();

describe('a node', { timeout: 60_000 }, () => {
  it('that is heard of costs nothing and has no watch', async () => {
    const { nodeId } = await makeNode();
    await passSilence(3_000);
    expect(await check().hasWork?.()).toBe(false);
    expect(await watchOf(nodeId)).toBeUndefined();
  });

  it('that is silent while SSH answers is a suspicion with its reason, and none any more when it is heard of', async () => {
    const { nodeId } = await makeNode();
    await passSilence(60_000);
    expect(await check().hasWork?.()).toBe(true);
    expect(await tick()).toMatchObject({ suspect: 1, dead: 0 });
    expect(await watchOf(nodeId)).toMatchObject({
      verdict: 'suspect',
      reasons: [expect.stringMatching(/^no heartbeat for 6\d s$/), 'SSH lets us in: the machine lives'],
    });
    await passSilence(1_000, { heard: [nodeId] });
    expect(await tick()).toMatchObject({ suspect: 0, dead: 0 });
    expect(await watchOf(nodeId)).toMatchObject({ verdict: 'alive', reasons: [] });
    expect(await failovers()).toEqual([]);
  });

  it('that is heard of while its provider says that it failed is a suspicion', async () => {
    const { nodeId, attempt } = await makeNode();
    automation.vendor.run(attempt.label, 'failed');
    await automation.tick('reconcile');
    await passSilence(1_000, { heard: [nodeId] });
    expect(await check().hasWork?.()).toBe(true);
    expect(await tick()).toMatchObject({ suspect: 1, dead: 0 });
    expect((await watchOf(nodeId))?.reasons).toEqual(['the provider says failed, and its agent reports']);
  });

  it('whose provider says that it failed is dead at the first look after its heartbeat is late, and fails over once', async () => {
    const { nodeId, instanceId, attempt } = await makeNode();
    automation.vendor.run(attempt.label, 'failed');
    await cutOff();
    await passSilence(11_500);
    expect(await tick()).toMatchObject({ suspect: 0, dead: 1, failovers: 1 });
    expect(await watchOf(nodeId)).toMatchObject({ verdict: 'dead' });
    const [failover] = await failovers();
    expect(failover).toMatchObject({
      instance_id: instanceId,
      cause: 'detected',
      mode: 'replace',
      lost_node_id: nodeId,
    });
    expect(failover?.reasons.join()).toContain('the provider says failed');
    await tick();
    await tick();
    expect(await failovers()).toHaveLength(1);
  });

  it('that is cut off while its provider says that it runs has longer than an outage that heals by itself', async () => {
    const { nodeId } = await makeNode();
    await cutOff();
    for (const ms of [12_000, 5_000, 5_000]) {
      await passSilence(ms);
      expect(await tick()).toMatchObject({ suspect: 1, dead: 0 });
    }
    expect((await watchOf(nodeId))?.reasons.join()).toContain('the provider says running: it has until 45 s');
    await passSilence(24_000);
    expect(await tick()).toMatchObject({ dead: 1, failovers: 1 });
  });

  it('is not dead for what was not heard while we did not listen', async () => {
    const { nodeId } = await makeNode();
    await cutOff();
    await passSilence(600_000, { isListening: false });
    expect(await tick()).toMatchObject({ suspect: 1, dead: 0 });
    expect(await tick()).toMatchObject({ suspect: 1, dead: 0 });
    expect((await watchOf(nodeId))?.reasons[0]).toContain('of which 0 s count');
    await automation.asOwner(`delete from pulses`);
    expect(await tick()).toMatchObject({ dead: 0 });
    expect((await watchOf(nodeId))?.reasons[0]).toContain('while we did not listen');
  });

  it('is not dead after ten minutes without a control plane; one that died meanwhile is', async () => {
    const [living, lost] = [await makeNode(), await makeNode()];
    await beatPulse(automation.db);
    await automation.passTime(600_000);
    automation.vendor.run(lost.attempt.label, 'failed');
    const nowhere = { ssh_host: NOWHERE.host, ssh_port: NOWHERE.port };
    await automation.db.updateTable('attempts').set(nowhere).where('id', '=', lost.attempt.id).execute();
    // The cron may be there before the API listens again.
    expect(await tick()).toMatchObject({ suspect: 2, dead: 0 });
    await beatPulse(automation.db);
    expect(await tick()).toMatchObject({ suspect: 1, dead: 1, failovers: 1 });
    expect(await failovers()).toMatchObject([{ instance_id: lost.instanceId }]);
    // Its agent has waited as long as it may between two tries.
    await passSilence(60_000, { heard: [living.nodeId] });
    await tick();
    expect((await watchOf(living.nodeId))?.verdict).toBe('alive');
    expect(await failovers()).toHaveLength(1);
  });

  it('is not dead on the word of a listing that is not believed', async () => {
    await makeNode();
    automation.vendor.lie = 'empty';
    await passSilence(60_000);
    expect(await tick()).toMatchObject({ suspect: 1, dead: 0 });
    expect(await failovers()).toEqual([]);
  });

  it('falls silent with many others: nothing is dead without the word of the provider', async () => {
    const nodes = [await makeNode(), await makeNode(), await makeNode()];
    await cutOff();
    for (let look = 0; look < 8; look++) {
      await passSilence(15_000);
      expect(await tick()).toMatchObject({ suspect: 3, dead: 0 });
    }
    expect((await watchOf(nodes[0]?.nodeId as string))?.reasons.join()).toContain('many nodes fell silent at once');
    expect(await failovers()).toEqual([]);
  });
});

describe('a dead node', { timeout: 60_000 }, () => {
  async function makeDead(policy: FailoverPolicy | null) {
    const made = await makeNode(policy);
    automation.vendor.run(made.attempt.label, 'failed');
    await cutOff();
    await passSilence(30_000);
    return made;
  }

  it('of an instance without a policy is told, and nothing follows', async () => {
    const { nodeId } = await makeDead(null);
    expect(await tick()).toMatchObject({ dead: 1, failovers: 0, held: 0 });
    expect((await watchOf(nodeId))?.verdict).toBe('dead');
  });

  it('waits while the deployment fails over as often as it may, and begins when that is over', async () => {
    const lost = [await makeNode(), await makeNode()];
    for (const { attempt } of lost) automation.vendor.run(attempt.label, 'failed');
    await cutOff();
    await passSilence(30_000);
    expect(await tick(1)).toMatchObject({ dead: 2, failovers: 1, held: 1 });
    const [first] = await failovers();
    // Not by passTime: the first failover's operation is at work.
    await automation.asOwner(`update node_watches set checked_at = checked_at - interval '20 seconds'`);
    expect(await tick(1)).toMatchObject({ failovers: 0, held: 1 });
    await automation.asOwner(`update failovers set created_at = created_at - interval '10 minutes'`);
    await automation.asOwner(`update node_watches set checked_at = checked_at - interval '20 seconds'`);
    expect(await tick(1)).toMatchObject({ failovers: 1, held: 0 });
    const all = await failovers();
    expect(new Set(all.map((one) => one.instance_id)).size).toBe(2);
    expect(all[0]?.id).toBe(first?.id);
  });

  it('is looked at by two replicas at once and fails over once', async () => {
    await makeDead(POLICY);
    await Promise.all([tick(), tick()]);
    expect(await failovers()).toHaveLength(1);
  });
});
