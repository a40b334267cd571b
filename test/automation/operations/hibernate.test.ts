/** Hibernation, with real workers and Postgres over a scripted vendor. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { acceptFailover } from '../../../db/accept-failover.ts';
import { allowedActions } from '../../../domain/instance.ts';
import { ACTOR } from '../../support/fleet-database.ts';
import { findWorkspace, setWriter } from '../../../db/workspaces.ts';
import { listEventsAfter } from '../../../db/operation-log.ts';
import { leaveNode } from '../../../db/place-pods.ts';
import { insertPod, type PodRow } from '../../../db/pods.ts';
import type { PodSpec } from '../../../domain/pods/pod.ts';
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

const POD_SPEC: PodSpec = {
  image: 'example/trainer:1',
  command: null,
  args: null,
  env: {},
  workingDir: null,
  user: null,
  ports: [],
  mounts: [],
  restartPolicy: 'never',
  maxRestarts: null,
  healthCheck: null,
  resources: { memoryMib: null, cpus: null, shmMib: null, maxProcesses: 4096 },
  stopGraceSeconds: 10,
};

const statusesTold = async (operationId: string) =>
  (await listEventsAfter(automation.db, operationId, 0)).flatMap((event) => {
    const { status, phase } = event.data as { status?: string; phase?: string };
    return event.type === 'instance' ? [phase === undefined ? status : `${status} ${phase}`] : [];
  });

describe('an instance that is hibernated', () => {
  it('is copied, its copy verified, its machine destroyed, and sleeps when the provider says not-found', async () => {
    const { instance, attempt } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    expect(await automation.instance(instance.id)).toMatchObject({
      status: 'hibernating',
      phase: 'snapshotting',
      winner_attempt_id: attempt.id,
      operation_id: operation.id,
    });
    await automation.untilWaiting(operation.id);
    expect(automation.vendor.live()).toEqual([attempt.label]);
    const snapshot = await fleet.endSnapshot(instance.id, 'verified');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await automation.instance(instance.id)).toMatchObject({
      status: 'hibernated',
      phase: 'asleep',
      note: null,
      winner_attempt_id: null,
      restore_snapshot_id: snapshot.id,
    });
    expect(automation.vendor.live()).toEqual([]);
    expect(await automation.attempt(attempt.id)).toMatchObject({ status: 'gone', failure_code: 'hibernated' });
    expect(await findWorkspace(automation.db, instance.id)).toMatchObject({ writer_attempt_id: null, epoch: 2 });
    expect(await statusesTold(operation.id)).toEqual(['hibernating', 'hibernating releasing', 'hibernated']);
    expect(automation.troubles).toEqual([]);
  });

  it('is not asleep before its machine is proven gone, however long that takes', async () => {
    const { instance, attempt } = await fleet.makeReady();
    automation.vendor.outage = 'destroy';
    const operation = await fleet.hibernate(instance.id);
    await fleet.endSnapshot(instance.id, 'verified');
    await automation.until(
      async () => (await automation.instance(instance.id)).phase === 'releasing',
      'its machine is given up',
    );
    await automation.until(() => automation.vendor.destroyCalls > 0, 'its destroy is tried');
    await automation.untilWaiting(operation.id);
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'hibernating' });
    await automation.cancel(operation.id);
    automation.vendor.outage = 'none';
    const destroy = await automation.db
      .selectFrom('operations')
      .select('id')
      .where('deterministic_key', '=', `destroy:${attempt.id}`)
      .executeTakeFirstOrThrow();
    await automation.passWait(destroy.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'hibernated' });
  });

  it('stays ready on its machine when the snapshot is not what was written, and says why', async () => {
    const { instance, attempt } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    await fleet.endSnapshot(instance.id, 'failed');
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'failed',
      error_code: 'snapshot_failed',
    });
    expect(await automation.instance(instance.id)).toMatchObject({
      status: 'ready',
      phase: 'active',
      winner_attempt_id: attempt.id,
      failure_code: null,
      note: 'not hibernated: what was read back is not what was written',
    });
    expect(automation.vendor.live()).toEqual([attempt.label]);
    expect(automation.vendor.destroyCalls).toBe(0);
    expect(await fleet.sleepOf(instance.id)).toMatchObject({ status: 'failed', failure_code: 'snapshot_failed' });
    // And may be tried again.
    await fleet.putToSleep(instance.id);
    expect((await automation.instance(instance.id)).status).toBe('hibernated');
  });

  it('is not destroyed on the word of a snapshot of another machine, or from before somebody else wrote', async () => {
    const { instance, attempt } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    await automation.untilWaiting(operation.id);
    await automation.db.transaction().execute(async (tx) => {
      await setWriter(tx, instance.id, { standbyId: 'sby_other' });
    });
    await fleet.endSnapshot(instance.id, 'verified');
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'failed',
      error_detail: 'another machine has written its workspace since',
    });
    expect(automation.vendor.live()).toEqual([attempt.label]);
  });

  it('is copied only when its pods have ended, which wait for it then', async () => {
    const { instance, nodeId } = await fleet.makeReady();
    const pod = await automation.db.transaction().execute(async (tx) => {
      const requirements = { nodeId, instanceId: null, gpuCount: 0, gpuModel: null, minGpuMemoryGib: null, labels: {} };
      const made = await insertPod(tx, automation.services.envelope, {
        orgId: automation.orgId,
        name: 'trainer',
        spec: POD_SPEC,
        requirements,
        secretEnv: {},
        credentialId: null,
        onNodeLost: 'stop',
        createdBy: 'test',
      });
      const on = { status: 'running' as const, node_id: nodeId };
      await tx.updateTable('pods').set(on).execute();
      return { ...(made as PodRow), ...on };
    });
    const operation = await fleet.hibernate(instance.id);
    await automation.untilWaiting(operation.id);
    expect((await automation.operation(operation.id)).note).toBe('1 pod has not ended yet');
    expect(await automation.db.selectFrom('snapshots').select('id').execute()).toEqual([]);
    await automation.db.transaction().execute((tx) => leaveNode(tx, pod));
    await fleet.endSnapshot(instance.id, 'verified');
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    const left = await automation.db.selectFrom('pods').selectAll().executeTakeFirstOrThrow();
    expect(left).toMatchObject({
      status: 'pending',
      node_id: null,
      is_leaving: false,
      requirements: { nodeId: null, instanceId: instance.id },
    });
  });

  it('whose node cannot reach the store stays awake, and is refused for a while', async () => {
    const { instance, attempt } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    await fleet.endSnapshot(instance.id, 'failed', 'store_unreachable');
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'failed',
      error_code: 'snapshot_store_unreachable',
    });
    await expect(fleet.hibernate(instance.id)).rejects.toMatchObject({ code: 'snapshot_store_unreachable' });
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'ready', winner_attempt_id: attempt.id });
  });

  it('is extended on the way, and interrupted or failed over only when it is awake', async () => {
    const { instance } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    expect(allowedActions('hibernating')).toContain('extend');
    expect(await automation.tick('interruptible')).toEqual({});
    const asked = { instanceId: instance.id, cause: 'requested' as const, reasons: ['test'], actor: ACTOR };
    const failover = await automation.db.transaction().execute((tx) => acceptFailover(tx, automation.queue, asked));
    expect(failover).toMatchObject({ kind: 'none', reason: 'the instance is hibernating' });
    await automation.untilWaiting(operation.id);
  });

  it('whose machine vanishes while it is copied is lost as one that is awake', async () => {
    const { instance, attempt } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    await automation.untilWaiting(operation.id);
    automation.vendor.vanish(attempt.label);
    for (let tick = 0; tick < 3; tick++) {
      await automation.tick('reconcile');
      await automation.passTime(400_000);
    }
    expect((await automation.untilFinished(operation.id)).status).not.toBe('succeeded');
    expect(await automation.untilDestroyed(instance.id)).toMatchObject({ failure_code: 'lost' });
    expect(['failed', 'ended']).toContain((await fleet.sleepOf(instance.id)).status);
  });

  it('stays awake when that is canceled before it is verified', async () => {
    const { instance, attempt } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    await automation.untilWaiting(operation.id);
    await automation.cancel(operation.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'canceled' });
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'ready', winner_attempt_id: attempt.id });
    expect(automation.vendor.live()).toEqual([attempt.label]);
  });

  it('that is destroyed on the way is destroyed, and nothing of it is left', async () => {
    const { instance } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    await automation.untilWaiting(operation.id);
    await automation.destroy(instance.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'canceled' });
    await automation.untilDestroyed(instance.id);
    expect(automation.vendor.live()).toEqual([]);
    expect(await fleet.sleepOf(instance.id)).toMatchObject({ status: 'ended' });
  });

  it('twice is the same operation, and neither by its lifetime nor by an interruption is it touched asleep', async () => {
    const { instance } = await fleet.makeReady();
    const first = await fleet.hibernate(instance.id);
    expect((await fleet.hibernate(instance.id)).id).toBe(first.id);
    await fleet.endSnapshot(instance.id, 'verified');
    await automation.untilFinished(first.id);
    await automation.passTime(13 * 3_600_000);
    expect(await automation.tick('expire')).toMatchObject({ expired: 0 });
    expect(await automation.tick('interruptible')).toEqual({});
    expect((await automation.instance(instance.id)).status).toBe('hibernated');
  });

  it('by its lifetime on the way is destroyed: that is hard', async () => {
    const { instance } = await fleet.makeReady();
    const operation = await fleet.hibernate(instance.id);
    await automation.untilWaiting(operation.id);
    await automation.db
      .updateTable('instances')
      .set({ expires_at: new Date(Date.now() - 1_000) })
      .where('id', '=', instance.id)
      .execute();
    expect(await automation.tick('expire')).toMatchObject({ expired: 1 });
    expect(await automation.untilDestroyed(instance.id)).toMatchObject({ failure_code: 'expired' });
  });

  it('is refused without a workspace, without an agent, and where another machine writes', async () => {
    const { instance, nodeId } = await fleet.makeReady();
    await automation.db.updateTable('nodes').set({ heartbeat_at: null }).where('id', '=', nodeId).execute();
    await expect(fleet.hibernate(instance.id)).rejects.toMatchObject({ code: 'snapshot_store_unreachable' });
    const silent = new Date(Date.now() - 180_000);
    await automation.db.updateTable('nodes').set({ heartbeat_at: silent }).where('id', '=', nodeId).execute();
    await expect(fleet.hibernate(instance.id)).rejects.toMatchObject({ code: 'snapshot_store_unreachable' });
    await automation.db.updateTable('nodes').set({ heartbeat_at: new Date() }).where('id', '=', nodeId).execute();
    await automation.db.transaction().execute((tx) => setWriter(tx, instance.id, null));
    await expect(fleet.hibernate(instance.id)).rejects.toMatchObject({ code: 'conflict' });
    await automation.db.deleteFrom('workspaces').where('instance_id', '=', instance.id).execute();
    await expect(fleet.hibernate(instance.id)).rejects.toMatchObject({
      code: 'conflict',
      facts: { missing: 'workspace' },
    });
    expect((await automation.instance(instance.id)).status).toBe('ready');
  });
});

describe('a hibernated instance', () => {
  it('is destroyed without a machine, and its stack removed', async () => {
    const { instance } = await fleet.makeReady();
    await fleet.putToSleep(instance.id);
    await automation.destroy(instance.id);
    await automation.untilDestroyed(instance.id);
    expect(await automation.instance(instance.id)).toMatchObject({ restore_snapshot_id: null });
    expect(await fleet.sleepOf(instance.id)).toMatchObject({ status: 'ended' });
  });

  it('counts neither as an instance of the caps nor as burn', async () => {
    await automation.asOwner('update deployment set max_instances = 1');
    const { instance } = await fleet.makeReady();
    await expect(automation.provision()).rejects.toMatchObject({ code: 'cap_exceeded' });
    await fleet.putToSleep(instance.id);
    await automation.provision();
  });
});
