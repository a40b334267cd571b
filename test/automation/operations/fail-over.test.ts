/** Failovers, with real workers and Postgres over a scripted vendor: what they do, and what a worker that dies in the middle leaves behind. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { recordLost } from '../../../automation/readiness/outcomes.ts';
import { acceptFailover, type FailoverAcceptance } from '../../../db/accept-failover.ts';
import { beginSnapshot } from '../../../db/accept-snapshot.ts';
import { SYSTEM } from '../../../db/audit.ts';
import { inTransaction } from '../../../db/database.ts';
import { findEndpoint } from '../../../db/endpoints.ts';
import { saveFailoverPolicy } from '../../../db/failover-policies.ts';
import { findFailover, type FailoverRow } from '../../../db/failovers.ts';
import { finishOperation, wakeOperation } from '../../../db/operations.ts';
import { listWatched } from '../../../db/node-watches.ts';
import { findWorkspace } from '../../../db/workspaces.ts';
import { CRASH_POINTS, type CrashPointName } from '../../../domain/crash-points.ts';
import type { FailoverPolicy } from '../../../domain/failover.ts';
import { runDoomedWorker } from '../../support/doomed-worker.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';
import { createSleepingFleet, type SleepingFleet } from '../../support/sleeping-fleet.ts';
import { RTX_4090, startSshMachine, type SshMachine } from '../../support/ssh-machine.ts';

const POLICY: FailoverPolicy = {
  mode: 'replace',
  rpoMs: 300_000,
  maxPriceMicroUsdPerHour: null,
  budgetMicroUsdPerDay: null,
  cooldownMs: 0,
  maxPerDay: 100,
  failback: 'automatic',
};

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

/** A ready instance with a policy and a verified snapshot, whose machine then fails. */
async function makeLost(change: Partial<FailoverPolicy> = {}) {
  const { instance, attempt, nodeId } = await fleet.makeReady();
  const { id: instanceId } = instance;
  await inTransaction(automation.db, async (tx) => {
    await saveFailoverPolicy(tx, { id: instanceId, orgId: automation.orgId }, { ...POLICY, ...change }, 'test');
    await beginSnapshot(tx, automation.queue, { instanceId, nodeId, cause: 'schedule' });
  });
  const snapshot = await fleet.endSnapshot(instanceId, 'verified');
  automation.vendor.run(attempt.label, 'failed');
  return { instanceId, attempt, nodeId, snapshotId: snapshot.id };
}

const accept = (instanceId: string, cause: 'detected' | 'drill' = 'detected'): Promise<FailoverAcceptance> =>
  inTransaction(automation.db, (tx) =>
    acceptFailover(tx, automation.queue, { instanceId, cause, reasons: ['no heartbeat for 12 s'], actor: SYSTEM }),
  );
async function begin(instanceId: string): Promise<FailoverRow> {
  const accepted = await accept(instanceId);
  if (accepted.kind !== 'accepted') throw new Error(JSON.stringify(accepted));
  return accepted.failover;
}
const reread = async (failover: FailoverRow) => (await findFailover(automation.db, null, failover.id)) as FailoverRow;
const untilOver = (failover: FailoverRow) =>
  automation.until(async () => {
    const row = await reread(failover);
    return row.finished_at !== null && row;
  }, 'the failover is over');
const untilPhase = (failover: FailoverRow, phase: FailoverRow['phase']) =>
  automation.until(async () => (await reread(failover)).phase === phase, `the failover is ${phase}`);

describe('a failover', { timeout: 60_000 }, () => {
  beforeEach(async () => {
    await automation.startWorker();
  });

  it('fences the machine, gives the instance another one with its files, and points the endpoint to it', async () => {
    const { instanceId, attempt, nodeId, snapshotId } = await makeLost();
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'instance', attempt_id: attempt.id });
    const failover = await begin(instanceId);
    await untilPhase(failover, 'provisioning');
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'none', host: null });
    expect(await findWorkspace(automation.db, instanceId)).toMatchObject({ writer_attempt_id: null, epoch: 2 });
    const node = await automation.db.selectFrom('nodes').selectAll().where('id', '=', nodeId).executeTakeFirst();
    expect(node?.fenced_at).not.toBeNull();
    const second = await fleet.boot(instanceId);
    expect(second.machine_id).not.toBe(attempt.machine_id);
    await untilPhase(failover, 'restoring');
    expect((await automation.instance(instanceId)).status).toBe('booting');
    await fleet.endRestore(instanceId, 'succeeded');
    const over = await untilOver(failover);
    expect(over).toMatchObject({
      phase: 'complete',
      snapshot_id: snapshotId,
      replacement_attempt_id: second.id,
      lost_attempt_id: attempt.id,
      failure_code: null,
    });
    expect(Object.keys(over.phase_at)).toEqual(
      expect.arrayContaining(['detected', 'fencing', 'provisioning', 'restoring', 'switching', 'complete']),
    );
    expect(over.recovery_point_at).not.toBeNull();
    expect(over.serving_at).toEqual(over.replaced_at);
    expect(over.phase_cost.complete).toBeGreaterThanOrEqual(0);
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'ready', winner_attempt_id: second.id });
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'instance', attempt_id: second.id });
    expect(await findWorkspace(automation.db, instanceId)).toMatchObject({ writer_attempt_id: second.id });
    await automation.untilGone(attempt.id);
    expect(automation.vendor.live()).toEqual([second.label]);
    // It was told when a machine was won and when that was ready, instead of looking every second only.
    const operation = await automation.operation(over.operation_id as string);
    expect(operation).toMatchObject({ status: 'succeeded', woken_at: expect.any(Date) });
    expect(operation.woken_at?.getTime()).toBeGreaterThanOrEqual(over.replaced_at?.getTime() ?? Infinity);
  });

  it('begins where reconcile finds the machine gone, in place of destroying the instance', async () => {
    const { instanceId, attempt } = await makeLost();
    await recordLost(automation.db, automation.queue, attempt, 'machine 1 is not in the listing', new Date());
    const [failover] = await automation.db.selectFrom('failovers').selectAll().execute();
    expect(failover).toMatchObject({ instance_id: instanceId, reasons: ['machine 1 is not in the listing'] });
    await untilPhase(failover as FailoverRow, 'provisioning');
    expect((await automation.instance(instanceId)).status).not.toMatch(/lost|destr/);
  });

  it('that is held back where reconcile finds the machine gone leaves the instance for the next look', async () => {
    const { instanceId, attempt } = await makeLost({ maxPerDay: 0 });
    await recordLost(automation.db, automation.queue, attempt, 'machine 1 is not in the listing', new Date());
    expect(await automation.instance(instanceId)).toMatchObject({
      status: 'ready',
      note: expect.stringContaining('its policy allows 0') as string,
    });
    const watched = await listWatched(automation.db, { lateAfterMs: -60_000, limit: 10 });
    expect(watched.map((node) => node.instanceId)).toEqual([instanceId]);
  });

  it('that a person asks for saves what the living machine has before it is fenced', async () => {
    const { instance, attempt, nodeId } = await fleet.makeReady();
    const order = { instanceId: instance.id, cause: 'requested' as const, reasons: ['noisy'], actor: SYSTEM };
    const save = { instanceId: instance.id, nodeId, cause: 'schedule' as const };
    await inTransaction(automation.db, (tx) => beginSnapshot(tx, automation.queue, save));
    await fleet.endSnapshot(instance.id, 'verified');
    const accepted = await inTransaction(automation.db, (tx) => acceptFailover(tx, automation.queue, order));
    if (accepted.kind !== 'accepted') throw new Error(JSON.stringify(accepted));
    const last = await fleet.endSnapshot(instance.id, 'verified');
    await untilPhase(accepted.failover, 'provisioning');
    await fleet.boot(instance.id);
    await fleet.endRestore(instance.id, 'succeeded');
    const over = await untilOver(accepted.failover);
    expect(over).toMatchObject({ phase: 'complete', snapshot_id: last.id, lost_attempt_id: attempt.id });
    expect(over.lost_at.getTime()).toBeGreaterThanOrEqual(over.detected_at.getTime());
  });

  it('that finds no machine destroys nothing, tells why, and tries again when there is one', async () => {
    const { instanceId, attempt } = await makeLost();
    const { offers } = automation.vendor;
    automation.vendor.offers = [];
    await automation.db.deleteFrom('offers').execute();
    const failover = await begin(instanceId);
    await untilPhase(failover, 'provisioning');
    const first = (await reread(failover)).provision_id as string;
    expect(await automation.untilFinished(first)).toMatchObject({ status: 'failed', error_code: 'no_capacity' });
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'creating', winner_attempt_id: null });
    automation.vendor.offers = offers;
    await automation.tick('sync');
    // Not by passTime: the failover's operation looks again and again.
    await automation.asOwner(
      `update operations set finished_at = finished_at - interval '5 minutes' where id = '${first}'`,
    );
    await wakeOperation(automation.db, automation.queue, failover.operation_id as string);
    const second = await fleet.boot(instanceId);
    expect(second.id).not.toBe(attempt.id);
    await fleet.endRestore(instanceId, 'succeeded');
    expect(await untilOver(failover)).toMatchObject({ phase: 'complete', replacement_attempt_id: second.id });
    expect((await reread(failover)).provision_id).not.toBe(first);
  });

  it('that cannot restore its snapshot has it read back again, and goes on with an older one where it is damaged', async () => {
    await automation.asOwner(`create trigger hold_scripted_proof before insert on operations for each row
      when (new.kind = 'verify_snapshot') execute function hold_scripted()`);
    const { instanceId, nodeId, snapshotId: older } = await makeLost();
    await inTransaction(automation.db, (tx) =>
      beginSnapshot(tx, automation.queue, { instanceId, nodeId, cause: 'schedule' }),
    );
    const { id: damaged } = await fleet.endSnapshot(instanceId, 'verified');
    const failover = await begin(instanceId);
    for (let machine = 0; machine < 3; machine++) {
      await fleet.boot(instanceId);
      await fleet.endRestore(instanceId, 'failed');
    }
    const row = await automation.until(async () => {
      const found = await reread(failover);
      const ended = found.provision_id !== null && (await automation.operation(found.provision_id)).finished_at;
      return ended ? found : null;
    }, 'its provision is given up');
    const findProof = () =>
      automation.db
        .selectFrom('operations')
        .selectAll()
        .where('kind', '=', 'verify_snapshot')
        .where('target_id', '=', damaged)
        .executeTakeFirst();
    // It looks for a machine again when it has waited as long as it has tried.
    let proof = await findProof();
    for (let waits = 0; proof === undefined && waits < 10; waits++) {
      await automation.passWait(row.operation_id as string);
      proof = await findProof();
    }
    if (!proof) throw new Error('its snapshot is not read back again');
    expect(await reread(failover)).toMatchObject({ snapshot_id: damaged, provision_id: row.provision_id });
    await inTransaction(automation.db, async (tx) => {
      await tx.updateTable('snapshots').set({ status: 'failed' }).where('id', '=', damaged).execute();
      await finishOperation(tx, automation.queue, proof.id, 'failed', {});
    });
    await automation.passWait(row.operation_id as string);
    await fleet.boot(instanceId);
    await fleet.endRestore(instanceId, 'succeeded');
    expect(await untilOver(failover)).toMatchObject({ phase: 'complete', snapshot_id: older });
  });

  it('begins empty where nothing was saved and a person accepts that, and writes its snapshots from then on', async () => {
    const { instance } = await fleet.makeReady();
    const order = { instanceId: instance.id, cause: 'drill' as const, reasons: ['empty'], actor: SYSTEM };
    const accepted = await inTransaction(automation.db, (tx) =>
      acceptFailover(tx, automation.queue, { ...order, acceptsDataLoss: true }),
    );
    if (accepted.kind !== 'accepted') throw new Error(JSON.stringify(accepted));
    await untilPhase(accepted.failover, 'provisioning');
    const second = await fleet.boot(instance.id);
    expect(await untilOver(accepted.failover)).toMatchObject({ phase: 'complete', snapshot_id: null });
    expect(await findWorkspace(automation.db, instance.id)).toMatchObject({ writer_attempt_id: second.id });
  });

  it('ends with its instance while it looks for a machine again and again', async () => {
    const { instanceId } = await makeLost();
    automation.vendor.offers = [];
    await automation.db.deleteFrom('offers').execute();
    const failover = await begin(instanceId);
    await untilPhase(failover, 'provisioning');
    await automation.untilFinished((await reread(failover)).provision_id as string);
    await automation.until(
      async () => (await automation.instance(instanceId)).operation_id === failover.operation_id,
      'the provision gave it back',
    );
    await automation.destroy(instanceId);
    expect(await untilOver(failover)).toMatchObject({ phase: 'canceled' });
    await automation.untilDestroyed(instanceId);
    expect((await automation.operation(failover.operation_id as string)).status).toBe('canceled');
    expect(automation.vendor.live()).toEqual([]);
  });

  it('ends with its instance', async () => {
    const { instanceId } = await makeLost();
    const failover = await begin(instanceId);
    await untilPhase(failover, 'provisioning');
    await automation.destroy(instanceId);
    expect(await untilOver(failover)).toMatchObject({ phase: 'canceled', failure_code: 'canceled' });
    await automation.untilDestroyed(instanceId);
    expect(automation.vendor.live()).toEqual([]);
    expect(await findEndpoint(automation.db, instanceId)).toMatchObject({ kind: 'none' });
  });

  it('does not begin while nothing of the workspace was saved, and takes the first of many that ask', async () => {
    const { instance } = await fleet.makeReady();
    await inTransaction(automation.db, (tx) =>
      saveFailoverPolicy(tx, { id: instance.id, orgId: automation.orgId }, POLICY, 'test'),
    );
    expect(await accept(instance.id)).toMatchObject({ kind: 'hold' });
    const lost = await makeLost();
    const all = await Promise.all([1, 2, 3].map(() => accept(lost.instanceId)));
    expect(all.map(({ kind }) => kind).sort()).toEqual(['accepted', 'running', 'running']);
  });
});

describe('a worker killed in a failover', { timeout: 60_000 }, () => {
  /** Of a failover with a standby: fail-over-standby.test.ts. */
  const STANDBY_POINTS: readonly CrashPointName[] = ['failover_promoted', 'failover_released'];

  it.each(CRASH_POINTS.filter((name) => name.startsWith('failover_') && !STANDBY_POINTS.includes(name)))(
    'at %s: the next one goes on, with one replacement and one writer',
    async (point) => {
      const first = await automation.startWorker();
      const { instanceId, attempt } = await makeLost();
      await first.drain();
      const failover = await begin(instanceId);
      // What comes to pass while the first lives: the lost machine is given up as soon as there is another one, which is restored by the next.
      const isBooted = point === 'failover_destroy_accepted' || point === 'failover_switched';
      const isRestored = point === 'failover_switched';
      await runDoomedWorker(automation, point, async () => {
        if (isBooted) await fleet.boot(instanceId);
        if (isRestored) await fleet.endRestore(instanceId, 'succeeded');
      });
      await automation.startWorker();
      if (!isBooted) await fleet.boot(instanceId);
      if (!isRestored) await fleet.endRestore(instanceId, 'succeeded');
      const over = await untilOver(failover);
      expect(over.phase).toBe('complete');
      await automation.untilGone(attempt.id);
      const held = (await automation.attempts()).filter(({ status }) => status !== 'gone');
      expect(held.map(({ id }) => id)).toEqual([over.replacement_attempt_id]);
      expect(automation.vendor.live()).toEqual(held.map(({ label }) => label));
      expect(await findWorkspace(automation.db, instanceId)).toMatchObject({
        writer_attempt_id: over.replacement_attempt_id,
      });
      expect(await automation.attempts()).toHaveLength(2);
    },
  );
});
