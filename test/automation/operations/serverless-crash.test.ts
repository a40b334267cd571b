/** A worker that dies at every step of a hand-over. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CRASH_POINTS } from '../../../domain/crash-points.ts';
import { runDoomedWorker } from '../../support/doomed-worker.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';
import { makePool, warmOf, warmUp } from '../../support/warm-pool.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyz0123456789ABCDEFG user';
/** Whatever marks a hand-over is tested here; a mark that is added without a case fails the test. */
const WARM_POINTS = CRASH_POINTS.filter((name) => name.startsWith('warm_'));

let ssh: SshMachine;
let automation: ScriptedAutomation;
beforeAll(async () => {
  ssh = await startSshMachine();
});
afterAll(() => ssh?.close());
/** Every machine that lives is one instance's, and every instance that has one has its own. */
async function expectNothingLostNorTwice(): Promise<void> {
  const held = (await automation.attempts()).filter(({ status }) => status !== 'gone');
  expect(new Set(automation.vendor.live())).toEqual(new Set(held.map(({ label }) => label)));
  expect(new Set(held.map(({ instance_id }) => instance_id)).size).toBe(held.length);
  const labels = automation.vendor.bought();
  expect(new Set(labels).size).toBe(labels.length);
}

describe('a worker killed in a hand-over', () => {
  beforeEach(async () => {
    automation = await createScriptedAutomation();
    automation.vendor.ssh = { host: ssh.host, port: ssh.port, user: ssh.user };
    ssh.answer = RTX_4090;
    await automation.openMarket(8);
  });
  afterEach(() => automation.close());

  it.each(WARM_POINTS.filter((point) => point !== 'warm_given_up'))(
    '%s: the next one hands the same machine over, once, and refills once',
    async (point) => {
      const first = await automation.startWorker();
      const pool = await makePool(automation, { targetSize: 1, maxSize: 2 });
      const [machine] = await warmUp(automation, pool);
      await first.drain();
      const { operation, instances } = await automation.provision({ strategy: 'serverless', sshPublicKeys: [KEY] });
      const id = instances[0]?.id as string;
      await runDoomedWorker(automation, point);
      expect((await automation.operation(operation.id)).finished_at).toBeNull();
      await automation.startWorker();
      expect(await automation.untilFinished(operation.id)).toMatchObject({
        status: 'succeeded',
        note: 'ready; 1 of 1 from warm pools',
      });
      expect(await automation.instance(id)).toMatchObject({ status: 'ready', winner_attempt_id: machine?.id });
      expect(await automation.instance(machine?.instance_id as string)).toMatchObject({
        status: 'destroyed',
        claimed_by: id,
      });
      expect(automation.vendor.keysOf(machine?.label as string)).toContain(KEY);
      await automation.untilBought(1);
      expect(await warmOf(automation, pool)).toHaveLength(1);
      expect(automation.vendor.bought()).toHaveLength(2);
      await expectNothingLostNorTwice();
    },
  );

  it('warm_given_up: the dead machine is destroyed, and the instance starts cold by the next one', async () => {
    const first = await automation.startWorker();
    const pool = await makePool(automation, { targetSize: 1, maxSize: 1 });
    const [machine] = await warmUp(automation, pool);
    await first.drain();
    await automation.db.updateTable('pools').set({ target_size: 0 }).execute();
    ssh.answer = { output: 'Unable to determine the device handle: GPU is lost', exitCode: 15 };
    const { operation, instances } = await automation.provision({ strategy: 'serverless' });
    await runDoomedWorker(automation, 'warm_given_up');
    ssh.answer = RTX_4090;
    await automation.startWorker();
    await automation.untilGone(machine?.id as string);
    const [cold] = await automation.untilBought(1);
    expect(cold?.instance_id).toBe(instances[0]?.id);
    automation.vendor.run(cold?.label as string);
    await automation.tick('readiness');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await automation.untilDestroyed(machine?.instance_id as string)).toMatchObject({ failure_code: 'lost' });
    await expectNothingLostNorTwice();
  });
});

describe('the marks of a hand-over', () => {
  it('have a case each', () => {
    expect(WARM_POINTS).toEqual(['warm_claimed', 'warm_entered', 'warm_handed_over', 'warm_given_up']);
  });
});
