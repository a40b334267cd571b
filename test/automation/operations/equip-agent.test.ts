import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startOf } from '../../../automation/operations/equip-agent.ts';
import type { AttemptRow } from '../../../db/attempts.ts';
import { registerNode } from '../../../db/nodes.ts';
import { hashAgentToken } from '../../../secrets/agent-token.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

const AGENT_URL = 'http://control.example';

let ssh: SshMachine;
let automation: ScriptedAutomation;
beforeAll(async () => {
  ssh = await startSshMachine();
  ssh.answer = RTX_4090;
});
afterAll(() => ssh?.close());
beforeEach(async () => {
  automation = await createScriptedAutomation();
  automation.services.agentUrl = AGENT_URL;
  automation.vendor.ssh = { host: ssh.host, port: ssh.port, user: ssh.user };
  await automation.openMarket(10);
});
afterEach(() => automation.close());

async function boot(change: Parameters<ScriptedAutomation['provision']>[0] = {}) {
  const { operation, instances } = await automation.provision(change, ['a']);
  await automation.startWorker();
  const [attempt] = (await automation.untilBought(1)) as [AttemptRow];
  await automation.untilWaiting(operation.id);
  automation.vendor.run(attempt.label);
  return { operation, attempt, instanceId: instances[0]?.id as string };
}

const tokenOf = (attempt: AttemptRow) => automation.vendor.orderOf(attempt.label)?.env['MUSTER_AGENT_TOKEN'] as string;

const register = (token: string) =>
  automation.db.transaction().execute((tx) =>
    registerNode(tx, {
      tokenHash: hashAgentToken(token),
      nonceHash: Buffer.alloc(32),
      keyHash: Buffer.alloc(32, token),
      agentVersion: '1',
      hostname: null,
    }),
  );

describe('a machine bought with agents on', () => {
  it("starts the agent before the user's own script, with its token in the environment only", async () => {
    const { attempt } = await boot({ onStart: 'echo mine' });
    const order = automation.vendor.orderOf(attempt.label);
    const [first, ...rest] = (order?.onStart ?? '').split('\n');
    expect(first).toContain('/api/v1/nodes/install.sh');
    expect(rest).toEqual(['echo mine']);
    expect(order?.env).toEqual({ MUSTER_AGENT_URL: AGENT_URL, MUSTER_AGENT_TOKEN: expect.stringMatching(/^mn_/) });
    expect(order?.onStart).not.toContain(tokenOf(attempt));
  });

  it('has a token of its own, kept sealed, and the same from every engine run', async () => {
    const { attempt } = await boot();
    const token = tokenOf(attempt);
    expect(attempt.agent_sealed).not.toContain(token);
    const again = startOf(automation.services, attempt, { env: {}, onStart: null });
    expect(again.env['MUSTER_AGENT_TOKEN']).toBe(token);
    const everything = await automation.asOwner<{ dump: string }>(
      `select string_agg(row::text, '') as dump from (select to_jsonb(operations) as row from operations union all
       select to_jsonb(attempts) from attempts union all select to_jsonb(instances) from instances) as rows`,
    );
    expect(everything[0]?.dump).not.toContain(token);
    expect(() => startOf(automation.services, { ...attempt, id: 'att_other' }, { env: {}, onStart: null })).toThrow();
  });

  it('is ready only when its agent has registered, and has a time for each phase', async () => {
    const { operation, attempt, instanceId } = await boot();
    await automation.tick('readiness');
    expect(await automation.instance(instanceId)).toMatchObject({
      status: 'booting',
      phase: 'waiting_registration',
      note: 'SSH and GPUs are as promised; the agent has not registered yet',
    });
    expect((await register(tokenOf(attempt))).kind).toBe('registered');
    await automation.tick('readiness');
    await automation.untilFinished(operation.id);
    const instance = await automation.instance(instanceId);
    expect(instance).toMatchObject({ status: 'ready', phase: 'active' });
    expect(Object.keys(instance.phase_at)).toEqual(
      expect.arrayContaining(['queued', 'purchasing', 'starting', 'waiting_registration', 'verifying', 'active']),
    );
  });

  it('whose agent never registers is given up at its boot deadline with a code of its own, and the next one is bought', async () => {
    const { operation, attempt, instanceId } = await boot();
    const token = tokenOf(attempt);
    await automation.tick('readiness');
    await automation.passWait(operation.id);
    expect(await automation.untilGone(attempt.id)).toMatchObject({
      failure_code: 'agent_not_registered',
      failure_detail: expect.stringMatching(/its agent never registered/),
    });
    const attempts = await automation.until(async () => {
      const all = await automation.attempts();
      return all.length > 1 && all;
    }, 'another attempt');
    expect(attempts[1]).toMatchObject({ instance_id: instanceId });
    expect(attempts[1]?.agent_sealed).not.toBe(attempt.agent_sealed);
    expect(await register(token)).toEqual({ kind: 'refused', reason: 'attempt_ended' });
  });
});

describe('a machine bought with agents off', () => {
  it('carries none and needs none to be ready', async () => {
    automation.services.agentUrl = null;
    const { attempt, instanceId } = await boot({ onStart: 'echo mine' });
    expect(automation.vendor.orderOf(attempt.label)).toMatchObject({ env: {}, onStart: 'echo mine' });
    await automation.tick('readiness');
    await automation.until(
      async () => (await automation.instance(instanceId)).status === 'ready',
      'the instance is ready',
    );
  });
});
