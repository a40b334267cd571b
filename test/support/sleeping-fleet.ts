/**
 * Instances that sleep and wake in the scripted automation: their nodes are rows, and the operations that copy and restore files end as the
 * test says (they are held by a lease from the moment they are accepted, so no worker touches them).
 */
import { randomBytes } from 'node:crypto';
import { acceptHibernate } from '../../db/accept-hibernate.ts';
import { acceptWake, type WakeHold } from '../../db/accept-wake.ts';
import type { AttemptRow } from '../../db/attempts.ts';
import { inTransaction } from '../../db/database.ts';
import { listHibernations, type HibernationRow } from '../../db/hibernations.ts';
import type { InstanceRow } from '../../db/instances.ts';
import { newId } from '../../db/new-id.ts';
import { finishOperation, wakeOperation, type OperationRow } from '../../db/operations.ts';
import type { SnapshotRow } from '../../db/snapshots.ts';
import { ensureWorkspace } from '../../db/workspaces.ts';
import type { HibernationCause } from '../../domain/hibernation.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { ACTOR } from './fleet-database.ts';
import type { ScriptedAutomation } from './scripted-automation.ts';

export interface SleepingFleet {
  /** An instance with a workspace that is ready, and its machine. Needs a worker. */
  makeReady(
    change?: Partial<ProvisionRequest>,
  ): Promise<{ instance: InstanceRow; attempt: AttemptRow; nodeId: string }>;
  hibernate(instanceId: string, cause?: HibernationCause): Promise<OperationRow>;
  wake(instanceId: string, hold?: WakeHold | null): Promise<OperationRow>;
  /** As an agent that registers. */
  addNode(attempt: AttemptRow): Promise<string>;
  /** Waits for the snapshot under way and ends it. */
  endSnapshot(instanceId: string, status: 'verified' | 'failed', failureCode?: string): Promise<SnapshotRow>;
  /** Waits for the restore under way and ends it; returns the machine. */
  endRestore(instanceId: string, status: 'succeeded' | 'failed'): Promise<string>;
  /** Lets what was bought for the instance boot, with an agent. */
  boot(instanceId: string): Promise<AttemptRow>;
  /** Puts it to sleep all the way; returns its hibernation. */
  putToSleep(instanceId: string): Promise<HibernationRow>;
  sleepOf(instanceId: string): Promise<HibernationRow>;
}

const SCRIPTED = `
  create function hold_scripted() returns trigger language plpgsql as $$ begin
    new.status := 'running'; new.claim := 1; new.lease_owner := 'scripted'; new.lease_expires_at := now() + interval '30 days';
    return new; end $$;
  create trigger hold_scripted before insert on operations for each row
    when (new.kind in ('take_snapshot', 'restore_workspace')) execute function hold_scripted()`;

export async function createSleepingFleet(automation: ScriptedAutomation): Promise<SleepingFleet> {
  const { db, queue } = automation;
  await automation.asOwner(SCRIPTED);

  const fleet: SleepingFleet = {
    async makeReady(change = {}) {
      const { operation, instances } = await automation.provision(change);
      const instanceId = instances[0]?.id as string;
      await inTransaction(db, (tx) => ensureWorkspace(tx, { instanceId, orgId: automation.orgId }));
      const attempt = await fleet.boot(instanceId);
      await automation.untilFinished(operation.id);
      const node = await db.selectFrom('nodes').select('id').where('attempt_id', '=', attempt.id).executeTakeFirst();
      return { instance: await automation.instance(instanceId), attempt, nodeId: node?.id as string };
    },
    hibernate: async (instanceId, cause = 'request') =>
      (
        await inTransaction(db, (tx) =>
          acceptHibernate(tx, queue, { orgId: null, instanceId, actor: ACTOR, cause, reason: 'asked' }),
        )
      ).operation,
    wake: async (instanceId, hold = null) =>
      (
        await inTransaction(db, (tx) =>
          acceptWake(tx, queue, { orgId: null, instanceId, actor: ACTOR, cause: 'request', hold }),
        )
      ).operation,
    async addNode(attempt) {
      const id = newId('node');
      await db
        .insertInto('nodes')
        .values({
          id,
          org_id: attempt.org_id,
          attempt_id: attempt.id,
          instance_id: attempt.instance_id,
          key_hash: randomBytes(32),
          agent_version: 'test',
          heartbeat_at: new Date(),
          is_activity_known: true,
        })
        .execute();
      return id;
    },
    async endSnapshot(instanceId, status, failureCode = 'snapshot_damaged') {
      const taking = await automation.until(
        () =>
          db
            .selectFrom('snapshots')
            .selectAll()
            .where('instance_id', '=', instanceId)
            .where('status', '=', 'taking')
            .executeTakeFirst(),
        `a snapshot of ${instanceId} is taken`,
      );
      await inTransaction(db, async (tx) => {
        await tx
          .updateTable('snapshots')
          .set(
            status === 'verified'
              ? { status, verified_at: new Date(), data_at: new Date(), source_bytes: 1_000n }
              : {
                  status,
                  failure_code: failureCode,
                  failure_detail: 'what was read back is not what was written',
                },
          )
          .where('id', '=', taking.id)
          .execute();
        await finishOperation(
          tx,
          queue,
          taking.operation_id as string,
          status === 'verified' ? 'succeeded' : 'failed',
          {},
        );
        await wakeOperation(tx, queue, taking.waiting_operation_id as string);
      });
      return taking;
    },
    async endRestore(instanceId, status) {
      const restore = await automation.until(async () => {
        const { restore_operation_id: id } = await automation.instance(instanceId);
        const found = id === null ? undefined : await automation.operation(id);
        return found?.status === 'running' && found;
      }, `${instanceId} is restored`);
      const instance = await automation.instance(instanceId);
      await inTransaction(db, async (tx) => {
        const error = { code: 'restore_failed', detail: 'the node has no room' };
        await finishOperation(tx, queue, restore.id, status, status === 'failed' ? { error } : {});
        await wakeOperation(tx, queue, (restore.input as { waitingOperationId: string }).waitingOperationId);
      });
      return instance.winner_attempt_id as string;
    },
    async boot(instanceId) {
      const attempt = await automation.until(
        async () =>
          (await automation.attempts()).find((one) => one.instance_id === instanceId && one.status === 'bought'),
        `a machine for ${instanceId} is bought`,
      );
      await fleet.addNode(attempt);
      automation.vendor.run(attempt.label);
      await automation.tick('readiness');
      return attempt;
    },
    async putToSleep(instanceId) {
      const operation = await fleet.hibernate(instanceId);
      await fleet.endSnapshot(instanceId, 'verified');
      await automation.untilFinished(operation.id);
      return fleet.sleepOf(instanceId);
    },
    sleepOf: async (instanceId) => (await listHibernations(db, [instanceId])).at(-1) as HibernationRow,
  };
  return fleet;
}
