/** Failovers to a warm standby and back, with real workers and Postgres over a scripted vendor. */
import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { acceptFailover } from '../../../db/accept-failover.ts';
import { beginSnapshot } from '../../../db/accept-snapshot.ts';
import { SYSTEM } from '../../../db/audit.ts';
import { inTransaction } from '../../../db/database.ts';
import { findEndpoint } from '../../../db/endpoints.ts';
import { saveFailoverPolicy } from '../../../db/failover-policies.ts';
import { findFailover, updateFailover, type FailoverRow } from '../../../db/failovers.ts';
import { finishOperation, wakeOperation } from '../../../db/operations.ts';
import { listSchedules } from '../../../db/snapshot-schedules.ts';
import { insertStack } from '../../../db/stacks.ts';
import { findStandby, insertStandby, newStandbyId } from '../../../db/standbys.ts';
import { changeWorkspace, findWorkspace } from '../../../db/workspaces.ts';
import type { CrashPointName } from '../../../domain/crash-points.ts';
import type { Failback } from '../../../domain/failover.ts';
import { runDoomedWorker } from '../../support/doomed-worker.ts';
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
});
afterEach(() => automation.close());

/** A ready instance with a verified snapshot and a warm standby, and its failover accepted. */
async function begin(failback: Failback) {
  const { instance, attempt, nodeId } = await fleet.makeReady();
  const instanceId = instance.id;
  await inTransaction(automation.db, async (tx) => {
    const policy = {
      mode: 'standby' as const,
      rpoMs: 60_000,
      maxPriceMicroUsdPerHour: null,
      budgetMicroUsdPerDay: null,
    };
    const bounds = { cooldownMs: 0, maxPerDay: 9, failback };
    await saveFailoverPolicy(tx, { id: instanceId, orgId: automation.orgId }, { ...policy, ...bounds }, 'test');
    await beginSnapshot(tx, automation.queue, { instanceId, nodeId, cause: 'schedule' });
  });
  await fleet.endSnapshot(instanceId, 'verified');
  const standbyId = await makeStandby(instanceId);
  automation.vendor.run(attempt.label, 'failed');
  const accepted = await inTransaction(automation.db, (tx) =>
    acceptFailover(tx, automation.queue, { instanceId, cause: 'detected', reasons: ['it is dead'], actor: SYSTEM }),
  );
  if (accepted.kind !== 'accepted') throw new Error(JSON.stringify(accepted));
  return { instanceId, attempt, standbyId, failover: accepted.failover };
}

async function makeStandby(instanceId: string): Promise<string> {
  const id = newStandbyId();
  const config = { project: 'a-project', zone: 'europe-west4-a', state: 'warm' as const };
  const shared = { orgId: automation.orgId, createdBy: 'test' };
  await inTransaction(automation.db, async (tx) => {
    const stack = await insertStack(tx, {
      ...shared,
      kind: 'standby',
      title: `stand-${randomBytes(3).toString('hex')}`,
      config,
      owner: 'test',
      costCentre: 'test',
      ceilingMicroUsdPerHour: null,
      protect: false,
      onDrift: 'report',
    });
    await insertStandby(tx, {
      ...shared,
      id,
      instanceId,
      name: 'stand',
      stackId: stack?.id as string,
      state: 'warm',
      rpoMs: 60_000,
      config,
      drillEveryMs: null,
      drillPolicy: null,
    });
  });
  await automation.db
    .updateTable('standbys')
    .set({ status: 'warm', address: '10.62.0.2' })
    .where('id', '=', id)
    .execute();
  await automation.db
    .updateTable('nodes')
    .set({ heartbeat_at: new Date(), key_hash: randomBytes(32) })
    .where('standby_id', '=', id)
    .execute();
  return id;
}

/** Ends the restore that the standby's takeover waits for. */
async function endTakeOver(standbyId: string) {
  const restoreId = await automation.until(
    async () => (await findStandby(automation.db, null, standbyId))?.promotion?.restoreId,
    'the standby is restored',
  );
  const operationId = (await findStandby(automation.db, null, standbyId))?.promotion?.operationId as string;
  await inTransaction(automation.db, async (tx) => {
    await finishOperation(tx, automation.queue, restoreId, 'succeeded', {});
    await wakeOperation(tx, automation.queue, operationId);
  });
}

/** Lets the replacement boot, the standby give its last snapshot, and the replacement restore it. */
async function endFailback(instanceId: string) {
  const second = await fleet.boot(instanceId);
  const last = await fleet.endSnapshot(instanceId, 'verified');
  await fleet.endRestore(instanceId, 'succeeded');
  return { second, last };
}

const untilPhase = (failover: FailoverRow, phase: FailoverRow['phase']) =>
  automation.until(async () => {
    const row = await findFailover(automation.db, null, failover.id);
    return row?.phase === phase && row;
  }, `the failover is ${phase}`);

describe('a failover to a standby', { timeout: 60_000 }, () => {
  it('has it serve, gives what it had last to another machine, and brings it to rest', async () => {
    await automation.startWorker();
    const { instanceId, attempt, standbyId, failover } = await begin('automatic');
    await endTakeOver(standbyId);
    const serving = await automation.until(async () => {
      const row = await findFailover(automation.db, null, failover.id);
      return row?.serving_at != null && row;
    }, 'the standby serves');
    expect(serving.recovery_point_at).not.toBeNull();
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'standby', host: '10.62.0.2' });
    expect(await findWorkspace(automation.db, instanceId)).toMatchObject({ writer_standby_id: standbyId });
    // What its workspace promises is promised of whoever writes it.
    await inTransaction(automation.db, (tx) => changeWorkspace(tx, instanceId, { snapshotEveryMs: 60_000 }));
    expect(await listSchedules(automation.db)).toMatchObject([{ instanceId, isNodeOnline: true }]);
    const second = await fleet.boot(instanceId);
    // It waits with its files until the standby has given what it has.
    const last = await fleet.endSnapshot(instanceId, 'verified');
    expect(last).toMatchObject({ cause: 'failover' });
    expect((await automation.instance(instanceId)).restore_operation_id).toBeNull();
    await untilPhase(failover, 'restoring');
    expect(await findWorkspace(automation.db, instanceId)).toMatchObject({
      writer_standby_id: null,
      writer_attempt_id: null,
    });
    // Nothing of the standby is saved while the machine is restored: that is told where it takes too long.
    expect(await listSchedules(automation.db)).toMatchObject([
      { instanceId, isNodeOnline: false, verifiedDataAt: expect.any(Date) },
    ]);
    expect((await automation.instance(instanceId)).restore_snapshot_id).toBe(last.id);
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'standby' });
    await fleet.endRestore(instanceId, 'succeeded');
    const over = await untilPhase(failover, 'complete');
    expect(over).toMatchObject({ replacement_attempt_id: second.id, failback_snapshot_id: last.id });
    expect(over.replaced_at?.getTime()).toBeGreaterThan(over.serving_at?.getTime() as number);
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'instance', attempt_id: second.id });
    expect(await findWorkspace(automation.db, instanceId)).toMatchObject({ writer_attempt_id: second.id });
    expect(await findStandby(automation.db, null, standbyId)).toMatchObject({ status: 'warm', promotion: null });
    await automation.untilGone(attempt.id);
    expect(automation.vendor.live()).toEqual([second.label]);
  });

  it('takes a pause before it tries again where the last snapshot of the standby fails', async () => {
    await automation.startWorker();
    const { instanceId, standbyId, failover } = await begin('automatic');
    await endTakeOver(standbyId);
    await fleet.boot(instanceId);
    const first = await fleet.endSnapshot(instanceId, 'failed');
    const note = await automation.until(async () => {
      const { note: said } = await automation.operation(failover.operation_id as string);
      return said?.includes('the last snapshot of the standby failed') && said;
    }, 'the failover waits');
    expect(note).toContain('failed');
    const taken = await automation.db.selectFrom('snapshots').select('id').where('cause', '=', 'failover').execute();
    expect(taken).toEqual([{ id: first.id }]);
    await automation.passWait(failover.operation_id as string);
    await fleet.endSnapshot(instanceId, 'verified');
    await untilPhase(failover, 'restoring');
  });

  it('gives write access back to the standby where the machine that was to replace it cannot be restored', async () => {
    await automation.startWorker();
    const { instanceId, standbyId, failover } = await begin('automatic');
    await endTakeOver(standbyId);
    await fleet.boot(instanceId);
    const last = await fleet.endSnapshot(instanceId, 'verified');
    await untilPhase(failover, 'restoring');
    await fleet.endRestore(instanceId, 'failed');
    const returned = await untilPhase(failover, 'provisioning');
    expect(returned).toMatchObject({ replacement_attempt_id: null, failback_snapshot_id: null });
    const workspace = await findWorkspace(automation.db, instanceId);
    expect(workspace).toMatchObject({ writer_standby_id: standbyId, writer_attempt_id: null });
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'standby' });
    // What it did meanwhile is saved before the next machine is restored.
    const { second: third, last: later } = await endFailback(instanceId);
    expect(later.id).not.toBe(last.id);
    expect(later.epoch).toBe(workspace?.epoch);
    expect(await untilPhase(failover, 'complete')).toMatchObject({
      replacement_attempt_id: third.id,
      failback_snapshot_id: later.id,
    });
    expect(await findWorkspace(automation.db, instanceId)).toMatchObject({ writer_attempt_id: third.id });
  });

  it('buys nothing before the failback is asked for, where the policy says so', async () => {
    await automation.startWorker();
    const { instanceId, standbyId, failover } = await begin('manual');
    await endTakeOver(standbyId);
    const { operation_id: operationId } = await untilPhase(failover, 'serving');
    await automation.untilWaiting(operationId as string);
    expect(await automation.attempts()).toHaveLength(1);
    await updateFailover(automation.db, failover.id, { failback_requested_at: new Date() });
    await wakeOperation(automation.db, automation.queue, operationId as string);
    await endFailback(instanceId);
    await untilPhase(failover, 'complete');
  });

  it('that does not take over is replaced by restoring directly', async () => {
    await automation.startWorker();
    const { instanceId, standbyId, failover } = await begin('automatic');
    const restoreId = async () => (await findStandby(automation.db, null, standbyId))?.promotion?.restoreId;
    const { operation_id: operationId } = failover;
    const seen = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const next = await automation.until(async () => {
        const found = await restoreId();
        return found !== undefined && !seen.has(found) && found;
      }, 'a restore of the standby');
      seen.add(next);
      await inTransaction(automation.db, async (tx) => {
        const error = { code: 'restore_failed', detail: 'no room' };
        await finishOperation(tx, automation.queue, next, 'failed', { error });
        await wakeOperation(tx, automation.queue, operationId as string);
      });
    }
    const second = await fleet.boot(instanceId);
    await fleet.endRestore(instanceId, 'succeeded');
    const over = await untilPhase(failover, 'complete');
    expect(over).toMatchObject({ mode: 'replace', replacement_attempt_id: second.id });
    expect(await findWorkspace(automation.db, instanceId)).toMatchObject({ writer_attempt_id: second.id });
  });

  it.each(['failover_promoted', 'failover_released'] satisfies CrashPointName[])(
    'goes on where a worker is killed at %s, with one writer',
    async (point) => {
      const first = await automation.startWorker();
      const { instanceId, attempt, standbyId, failover } = await begin('automatic');
      await first.drain();
      let second: Awaited<ReturnType<typeof endFailback>>['second'] | undefined;
      await runDoomedWorker(automation, point, async () => {
        await endTakeOver(standbyId);
        if (point === 'failover_promoted') return;
        second = await fleet.boot(instanceId);
        await fleet.endSnapshot(instanceId, 'verified');
      });
      await automation.startWorker();
      if (point === 'failover_promoted') ({ second } = await endFailback(instanceId));
      else await fleet.endRestore(instanceId, 'succeeded');
      await untilPhase(failover, 'complete');
      expect(await findWorkspace(automation.db, instanceId)).toMatchObject({
        writer_attempt_id: second?.id,
        writer_standby_id: null,
      });
      await automation.untilGone(attempt.id);
      expect(automation.vendor.live()).toEqual([second?.label]);
    },
  );
});
