/** What is recorded when a machine turned out ready, failed or lost: the attempt, the machine's history, and a wake-up of whoever waits. */
import type { ErrorCode } from '../../domain/error-table.ts';
import { isProvisioning } from '../../domain/instance.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { stayAwake } from '../../db/accept-hibernate.ts';
import { acceptFailover } from '../../db/accept-failover.ts';
import { lockAttemptStatus, markAttemptReady, markLost, type AttemptRow } from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db, type Tx } from '../../db/database.ts';
import { wakeFailover } from '../../db/failovers.ts';
import { findInstance, lockInstance, reportBoot, setInstanceStatus, updateInstance } from '../../db/instances.ts';
import { recordOutcome } from '../../db/machines.ts';
import { findNodeOfAttempt } from '../../db/nodes.ts';
import { lockOperation, wakeOperation } from '../../db/operations.ts';
import type { Queue } from '../../db/queue.ts';
import { recordReadySample } from '../../db/ready-samples.ts';
import { declareWinner } from './winner.ts';

/** The first of its instance wins. Returns what that made of its rivals; null where it won nothing: a rival had, or it is being destroyed. */
export async function recordReady(
  db: Db,
  queue: Queue,
  attempt: AttemptRow,
  now: Date,
): Promise<{ losers: number } | null> {
  const outcome = await inTransaction(db, async (tx) => {
    await lockProvision(tx, attempt);
    await lockInstance(tx, attempt.instance_id);
    if (!(await markAttemptReady(tx, attempt.id))) return null;
    const purchasedAt = attempt.purchased_at ?? attempt.created_at;
    await countForMachine(tx, attempt, { kind: 'ready', readyMs: now.getTime() - purchasedAt.getTime() }, null, now);
    const won = await declareWinner(tx, queue, { instanceId: attempt.instance_id, attemptId: attempt.id });
    await wakeProvision(tx, queue, attempt);
    return won;
  });
  if (outcome !== null) await wakeFailover(db, queue, attempt.instance_id);
  return outcome;
}

/** Not what we paid for, or never going to come up: destroyed by an operation of its own; the provision takes the next candidate. */
export async function recordFailed(
  db: Db,
  queue: Queue,
  attempt: AttemptRow,
  failure: { code: ErrorCode; detail: string },
  now: Date,
): Promise<void> {
  await inTransaction(db, async (tx) => {
    await lockProvision(tx, attempt);
    if ((await lockAttemptStatus(tx, attempt.id)) !== 'bought') return; // somebody gave it up meanwhile
    await acceptAttemptDestroy(tx, queue, attempt, { failure, by: 'watch-readiness' });
    await countForMachine(tx, attempt, { kind: 'failed' }, failure, now);
    await reportBoot(tx, attempt.instance_id, { note: failure.detail });
    await wakeProvision(tx, queue, attempt);
  });
}

/** Vanished though nobody destroyed it. A winner's instance is lost and then destroyed, because lost hardware may still bill. */
export async function recordLost(db: Db, queue: Queue, attempt: AttemptRow, detail: string, now: Date): Promise<void> {
  await inTransaction(db, async (tx) => {
    await lockProvision(tx, attempt);
    if (!(await markLost(tx, attempt.id, detail))) return;
    await countForMachine(tx, attempt, { kind: 'lost', wasReady: attempt.ready_at !== null }, { code: 'lost' }, now);
    const instance = await findInstance(tx, null, attempt.instance_id);
    if (instance?.winner_attempt_id !== attempt.id) return wakeProvision(tx, queue, attempt);
    // It never was ready: its files are elsewhere, and come to the next machine.
    if (isProvisioning(instance.status)) {
      const change = { phase: 'purchasing' as const, note: detail, winnerAttemptId: null, restoreOperationId: null };
      await setInstanceStatus(tx, instance.id, 'creating', change);
      return wakeProvision(tx, queue, attempt);
    }
    // Nothing of it was given up yet: it is lost as one that is awake.
    await stayAwake(tx, instance.id, { code: 'lost', detail });
    if (await failOverLost(tx, queue, attempt, detail)) return;
    const failure = { code: 'lost', detail };
    await setInstanceStatus(tx, instance.id, 'lost', { note: detail, failure });
    await acceptDestroy(tx, queue, { orgId: null, instanceId: instance.id, actor: SYSTEM, reason: detail, failure });
  });
}

/** By its policy it goes on elsewhere, now or when that is allowed (the check-nodes cron asks again). Returns whether it does. */
async function failOverLost(tx: Tx, queue: Queue, attempt: AttemptRow, detail: string): Promise<boolean> {
  const order = {
    instanceId: attempt.instance_id,
    attemptId: attempt.id,
    cause: 'detected' as const,
    reasons: [detail],
  };
  const outcome = await acceptFailover(tx, queue, { ...order, actor: SYSTEM });
  // Without a node nobody would ask again.
  if (outcome.kind === 'hold' && !(await findNodeOfAttempt(tx, attempt.id))) return false;
  if (outcome.kind === 'hold') await updateInstance(tx, attempt.instance_id, { note: `${detail}; ${outcome.reason}` });
  return outcome.kind !== 'none';
}

async function lockProvision(tx: Tx, attempt: AttemptRow): Promise<void> {
  const instance = await findInstance(tx, null, attempt.instance_id);
  if (instance) await lockOperation(tx, instance.operation_id);
}

/** Of the machine where the vendor names it; of its kind in any case. */
async function countForMachine(
  tx: Tx,
  attempt: AttemptRow,
  outcome: Parameters<typeof recordOutcome>[2],
  failure: { code: string } | null,
  now: Date,
): Promise<void> {
  if (attempt.gpu !== null && !(outcome.kind === 'lost' && outcome.wasReady)) {
    await recordReadySample(tx, {
      attemptId: attempt.id,
      provider: attempt.provider,
      machineId: attempt.machine_id,
      gpu: attempt.gpu,
      readyMs: outcome.kind === 'ready' ? outcome.readyMs : null,
      at: now,
    });
  }
  if (attempt.machine_id === null) return;
  const machine = { provider: attempt.provider as ProviderName, machineId: attempt.machine_id };
  await recordOutcome(tx, machine, outcome, failure, now);
}

async function wakeProvision(tx: Tx, queue: Queue, attempt: AttemptRow): Promise<void> {
  const instance = await findInstance(tx, null, attempt.instance_id);
  if (instance) await wakeOperation(tx, queue, instance.operation_id);
}
