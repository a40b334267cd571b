/** Accepting a drill: whether it may take the machine of a workload away is asked here, in the caller's transaction. */
import { MusterError } from '../domain/error-table.ts';
import type { DrillMode, DrillTargets } from '../domain/drill.ts';
import { isFinished } from '../domain/operation.ts';
import { isAtRest } from '../domain/standby.ts';
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { changeDrill, endDrill, findRunningDrill, insertDrill, type DrillRow } from './drills.ts';
import { findFailoverPolicy } from './failover-policies.ts';
import { findRunningFailover } from './failovers.ts';
import { findInstance } from './instances.ts';
import { acceptOperation, findOperation, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { lockStandby } from './standbys.ts';

export interface DrillOrder {
  standbyId: string;
  mode: DrillMode;
  targets: DrillTargets;
  actor: Actor;
}

/** Throws MusterError `conflict` where it cannot begin now, with why. */
export async function acceptDrill(
  tx: Tx,
  queue: Queue,
  { standbyId, mode, targets, actor }: DrillOrder,
): Promise<{ drill: DrillRow; operation: OperationRow }> {
  const standby = await lockStandby(tx, standbyId);
  if (!standby) throw new MusterError('not_found', `there is no standby ${standbyId}`);
  if (!isAtRest(standby.status) || standby.removed_at !== null)
    throw new MusterError('conflict', `${standby.name} is ${standby.status}: a drill begins at rest`, {
      facts: { state: standby.status },
    });
  await refuseInstance(tx, standby.instance_id, mode);
  await endForgotten(tx, standby.instance_id);
  const drill = await insertDrill(tx, {
    orgId: standby.org_id,
    standbyId,
    instanceId: standby.instance_id,
    mode,
    targets,
    createdBy: actor.id,
  });
  if (drill === null) throw new MusterError('conflict', `a drill of ${standby.name} is under way`);
  const operation = await acceptOperation(tx, queue, {
    orgId: standby.org_id,
    kind: 'run_drill',
    targetKind: 'drill',
    targetId: drill.id,
    stackId: null,
    input: {},
    createdBy: actor.id,
  });
  await changeDrill(tx, drill.id, { operationId: operation.id });
  await appendAudit(tx, {
    orgId: standby.org_id,
    actor,
    action: 'standby.drill',
    targetKind: 'standby',
    targetId: standbyId,
    detail: { drillId: drill.id, mode, instanceId: standby.instance_id },
  });
  return { drill: { ...drill, operation_id: operation.id }, operation };
}

async function refuseInstance(tx: Tx, instanceId: string, mode: DrillMode): Promise<void> {
  const instance = await findInstance(tx, null, instanceId);
  if (instance?.status !== 'ready')
    throw new MusterError(
      'conflict',
      `${instanceId} is ${instance?.status ?? 'gone'}: a drill begins with one that is ready`,
      {
        facts: { state: instance?.status ?? 'gone' },
      },
    );
  const failover = await findRunningFailover(tx, instanceId);
  if (failover)
    throw new MusterError('conflict', `failover ${failover.id} of ${instanceId} is under way`, {
      facts: { state: failover.phase, failoverId: failover.id },
    });
  if (mode === 'consented') return;
  // Nobody would notice the loss, and the machine would be lost for nothing.
  const policy = await findFailoverPolicy(tx, instanceId);
  if (!policy || policy.mode === 'off')
    throw new MusterError(
      'conflict',
      `${instanceId} has no failover policy: POST /instances/${instanceId}/failover-policy`,
      {
        facts: { state: 'no_policy' },
      },
    );
}

/** One whose operation ended without it: of a worker that failed in a way it did not know. */
async function endForgotten(tx: Tx, instanceId: string): Promise<void> {
  const running = await findRunningDrill(tx, instanceId);
  if (!running || running.operation_id === null) return;
  const operation = await findOperation(tx, null, running.operation_id);
  if (operation && !isFinished(operation.status)) return;
  const measures = { detectionMs: null, rtoMs: null, rpoMs: null, restoredMs: null, costMicroUsd: null };
  const failures = [`it was not run to its end: ${operation?.error_detail ?? 'its operation is gone'}`];
  await endDrill(tx, running, { status: 'failed', measures, failures });
}
