/** Machines that switched themselves off: their agent is silent, and their provider says that they do not run. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createReapSilentCron } from '../../../automation/cron/reap-silent.ts';
import { recordPoweringOff } from '../../../db/desired.ts';
import { newId } from '../../../db/new-id.ts';
import type { AttemptRow } from '../../../db/attempts.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

const DEAD_MAN_MS = 600_000;

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
  await automation.openMarket(3);
  await automation.startWorker();
});
afterEach(() => automation.close());

/** An instance that is ready, and whose agent was heard of just now. */
async function makeReady() {
  const { operation, instances } = await automation.provision();
  const [attempt] = (await automation.untilBought(1)) as [AttemptRow];
  automation.vendor.run(attempt.label);
  await automation.tick('readiness');
  await automation.untilFinished(operation.id);
  const nodeId = newId('node');
  await automation.db
    .insertInto('nodes')
    .values({
      id: nodeId,
      org_id: attempt.org_id,
      attempt_id: attempt.id,
      instance_id: attempt.instance_id,
      heartbeat_at: new Date(),
    })
    .execute();
  return { attempt, nodeId, instanceId: instances[0]?.id as string };
}

function tick(deadManMs: number | null = DEAD_MAN_MS) {
  const { services } = automation;
  const cron = createReapSilentCron({
    db: services.db,
    queue: services.queue,
    client: services.client,
    providers: ['vastai'],
    listLagMs: () => 0,
    now: services.now,
    log: services.log,
    deadManMs,
  });
  return cron.hasWork?.().then((hasWork) => (hasWork ? cron.run(new AbortController().signal) : null));
}

describe('the reap-silent cron', () => {
  it('hands a machine that is silent for the dead man’s time and stopped to the ordinary destroy, once', async () => {
    const { attempt, instanceId } = await makeReady();
    automation.vendor.run(attempt.label, 'stopped');
    expect(await tick()).toBeNull();
    await automation.passTime(DEAD_MAN_MS + 1);
    expect(await tick(null)).toBeNull();
    expect(await tick()).toMatchObject({ 'vastai.silent': 1, 'vastai.reaped': 1 });
    expect(await tick()).toBeNull();
    const gone = await automation.untilDestroyed(instanceId);
    expect(gone).toMatchObject({ failure_code: 'powered_off' });
    expect(automation.vendor.live()).toEqual([]);
  });

  it('leaves a machine alone that runs, and one whose provider is not believed', async () => {
    const { nodeId, instanceId, attempt } = await makeReady();
    await recordPoweringOff(automation.db, nodeId, 'no sign of life');
    expect(await tick()).toMatchObject({ 'vastai.silent': 1, 'vastai.reaped': 0 });
    automation.vendor.run(attempt.label, 'stopped');
    await automation.db
      .insertInto('failover_policies')
      .values({
        instance_id: instanceId,
        org_id: attempt.org_id,
        mode: 'replace',
        rpo_ms: 600_000n,
        cooldown_ms: 0n,
        max_per_day: 3,
        failback: 'manual',
        changed_by: 'test',
      })
      .execute();
    expect(await tick()).toBeNull();
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'ready' });
  });

  it('does not wait for the time where the agent said that it goes off', async () => {
    const { nodeId, instanceId, attempt } = await makeReady();
    await recordPoweringOff(automation.db, nodeId, 'no sign of life');
    automation.vendor.run(attempt.label, 'stopped');
    expect(await tick(null)).toMatchObject({ 'vastai.reaped': 1 });
    await automation.untilDestroyed(instanceId);
  });
});
