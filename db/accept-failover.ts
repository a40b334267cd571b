/**
 * Accepting a failover: whether it may begin is asked here, in the transaction that holds the instance, so that many ticks and people make
 * one. What it does is the operation's.
 */
import { sql } from 'kysely';
import {
  decideFailover,
  DEFAULT_RPO_MS,
  DEFAULT_STORM_LIMIT,
  type FailoverCause,
  type FailoverDecision,
} from '../domain/failover.ts';
import { isAtRest } from '../domain/standby.ts';
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { findFailoverPolicy } from './failover-policies.ts';
import { findRunningFailover, insertFailover, readBegun, updateFailover, type FailoverRow } from './failovers.ts';
import { findInstance, lockInstance, type InstanceRow } from './instances.ts';
import { acceptOperation, appendEvents, lockOperation, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { latestVerified } from './snapshots.ts';
import { findStandbyOfInstance } from './standbys.ts';
import { findWorkspace } from './workspaces.ts';

export interface FailoverOrder {
  instanceId: string;
  cause: FailoverCause;
  /** Why, for people. */
  reasons: readonly string[];
  actor: Actor;
  /** Only where this attempt is still the instance's machine. Absent: whatever that is. */
  attemptId?: string;
  /** The last proof of life of the lost machine. Absent: its last heartbeat, or now. */
  lostAt?: Date;
  /** Failovers that may begin by themselves within domain/failover.ts's STORM_WINDOW_MS. @default DEFAULT_STORM_LIMIT */
  stormLimit?: number;
  /** @default as the policy says */
  mode?: 'replace' | 'standby';
  /** @default false */
  acceptsDataLoss?: boolean;
}

export type FailoverAcceptance =
  | { kind: 'accepted'; failover: FailoverRow; operation: OperationRow }
  | { kind: 'running'; failover: FailoverRow }
  | Exclude<FailoverDecision, { kind: 'begin' }>;

export async function acceptFailover(tx: Tx, queue: Queue, order: FailoverOrder): Promise<FailoverAcceptance> {
  const instance = await lockOf(tx, order.instanceId);
  if (!instance) return { kind: 'none', reason: `there is no instance ${order.instanceId}` };
  const running = await findRunningFailover(tx, instance.id);
  if (running) return { kind: 'running', failover: running };
  const attemptId = instance.winner_attempt_id;
  if (order.attemptId !== undefined && order.attemptId !== attemptId) {
    return { kind: 'none', reason: 'the instance stands on another machine by now' };
  }
  const [policy, workspace, standby, begun] = await Promise.all([
    findFailoverPolicy(tx, instance.id),
    findWorkspace(tx, instance.id),
    findStandbyOfInstance(tx, instance.id),
    readBegun(tx, instance.id),
  ]);
  const now = await readNow(tx);
  const decision = decideFailover({
    cause: order.cause,
    policy,
    instanceStatus: instance.status,
    hasRunning: false,
    ...begun,
    stormLimit: order.stormLimit ?? DEFAULT_STORM_LIMIT,
    workspace: workspace ? { hasVerifiedSnapshot: (await latestVerified(tx, instance.id)) !== undefined } : null,
    isStandbyReady: standby !== undefined && isAtRest(standby.status),
    wantedMode: order.mode ?? null,
    acceptsDataLoss: order.acceptsDataLoss ?? false,
    now: now.getTime(),
  });
  if (decision.kind !== 'begin') return decision;
  const node = attemptId === null ? undefined : await nodeOf(tx, attemptId);
  const failover = await insertFailover(tx, {
    org_id: instance.org_id,
    instance_id: instance.id,
    cause: order.cause,
    mode: decision.mode,
    failback: policy?.failback ?? 'automatic',
    rpo_ms: BigInt(policy?.rpoMs ?? DEFAULT_RPO_MS),
    lost_attempt_id: attemptId,
    lost_node_id: node?.id ?? null,
    lost_at: order.lostAt ?? node?.heartbeat_at ?? now,
    standby_id: decision.mode === 'standby' ? (standby?.id ?? null) : null,
    reasons: decision.reason === null ? order.reasons : [...order.reasons, decision.reason],
    created_by: order.actor.id,
  });
  const operation = await acceptOperation(tx, queue, {
    orgId: instance.org_id,
    kind: 'fail_over',
    targetKind: 'instance',
    targetId: instance.id,
    // Not of the stack: it would hold up the very operations that it waits for.
    stackId: null,
    input: { failoverId: failover.id },
    deterministicKey: `fail-over:${instance.id}`,
    createdBy: order.actor.id,
  });
  await updateFailover(tx, failover.id, { operation_id: operation.id });
  await appendEvents(tx, instance.operation_id, [
    {
      type: 'failover',
      data: {
        instanceId: instance.id,
        failoverId: failover.id,
        phase: 'detected',
        operationId: operation.id,
        reasons: order.reasons,
      },
    },
  ]);
  await appendAudit(tx, {
    orgId: instance.org_id,
    actor: order.actor,
    action: 'instance.fail_over',
    targetKind: 'instance',
    targetId: instance.id,
    detail: { failoverId: failover.id, cause: order.cause, mode: decision.mode, reasons: order.reasons },
  });
  return { kind: 'accepted', failover: { ...failover, operation_id: operation.id }, operation };
}

/** In the order of locks that everybody keeps: operation, then instance. */
async function lockOf(tx: Tx, instanceId: string): Promise<InstanceRow | undefined> {
  const seen = await findInstance(tx, null, instanceId);
  if (seen) await lockOperation(tx, seen.operation_id);
  return lockInstance(tx, instanceId);
}

/** The clock by which heartbeats and earlier failovers are recorded. */
async function readNow(tx: Tx): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`select now() as now`.execute(tx);
  return rows[0]?.now as Date;
}

function nodeOf(tx: Tx, attemptId: string) {
  return tx.selectFrom('nodes').select(['id', 'heartbeat_at']).where('attempt_id', '=', attemptId).executeTakeFirst();
}
