/** Accepting an operation on a stack that people made, in the caller's transaction, which holds the stack's row. */
import { MusterError } from '../domain/error-table.ts';
import { isPowerOperation, isStackOperation, type OperationKind } from '../domain/operation.ts';
import { appendAudit, type Actor } from './audit.ts';
import { findClusterOfStack } from './clusters.ts';
import type { Executor, Tx } from './database.ts';
import { acceptOperation, requestCancel, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { findStackPlan } from './stack-plans.ts';
import type { StackRow } from './stacks.ts';

export type StackOperationKind = Extract<OperationKind, `${string}_stack` | 'check_stack_drift'>;

export interface StackOrder {
  stack: StackRow;
  kind: StackOperationKind;
  actor: Actor;
  /** Only for an up: it is held to the plan with this hash. */
  planHash?: string;
  /** Only for a preview. @default up */
  updateKind?: 'up' | 'destroy';
  /** Only for an up. */
  refreshFirst?: boolean;
  /** Of a preview or an up: autoscaled groups of nodes whose number it sets. */
  resize?: string[];
  /** Of a preview or an up: what the stack is to be instead of its configuration. An up that is planned and not refused makes it the stack's. */
  config?: unknown;
  /** The operation in whose step this is accepted: what it asks for runs after it. */
  follows?: string;
  /** What is under way is canceled, and this runs when it has wound down. @default false: refused while it is */
  supersedes?: boolean;
}

/**
 * Throws MusterError `conflict` for a stack that is destroyed or has an update under way, `stack_protected`, `plan_changed` for a plan
 * that is unknown, of another update or expired.
 */
export async function acceptStackOperation(tx: Tx, queue: Queue, order: StackOrder): Promise<OperationRow> {
  const { stack, kind, actor, planHash, updateKind, refreshFirst, resize, config } = order;
  if (stack.status === 'destroyed')
    throw new MusterError('conflict', `${stack.id} is destroyed`, { facts: { state: stack.status } });
  // Whatever it made would be in no list.
  if (stack.removed_at !== null && kind !== 'preview_stack')
    throw new MusterError('conflict', `${stack.id} is of a dry run: send the request with its planHash`);
  if (kind === 'destroy_stack' && stack.protect) {
    throw new MusterError(
      'stack_protected',
      `${stack.title} is protected: set protect to false first (PATCH /stacks/${stack.id})`,
    );
  }
  if (kind !== 'destroy_stack') await refuseWhileStopped(tx, stack);
  const isHeld = order.follows === undefined && changes(kind);
  const superseded = isHeld && order.supersedes === true ? await findOtherUpdate(tx, stack, kind) : undefined;
  if (isHeld && !superseded) await refuseWhileUpdating(tx, stack, kind);
  if (planHash !== undefined) await checkPlanHash(tx, stack, planHash);
  const operation = await acceptOperation(tx, queue, {
    orgId: stack.org_id,
    kind,
    targetKind: 'stack',
    targetId: stack.id,
    stackId: stack.id,
    input: {
      ...(planHash === undefined ? {} : { planHash }),
      ...(updateKind === undefined ? {} : { updateKind }),
      ...(refreshFirst === undefined ? {} : { refreshFirst }),
      ...(resize === undefined ? {} : { resize }),
      ...(config === undefined ? {} : { config }),
    },
    // A second request for the same joins the first; previews and plans are each their own.
    ...(kind === 'preview_stack' || planHash !== undefined ? {} : { deterministicKey: `${kind}:${stack.id}` }),
    createdBy: actor.id,
  });
  // A stack has one step at a time, so this one begins after the other has ended.
  if (superseded) await requestCancel(tx, queue, superseded.id, `superseded by ${operation.id}`);
  if (changes(kind)) {
    await appendAudit(tx, {
      orgId: stack.org_id,
      actor,
      action: `stack.${kind.replace(/_stack$/, '')}`,
      targetKind: 'stack',
      targetId: stack.id,
      detail: {
        title: stack.title,
        operation: operation.id,
        ...(planHash === undefined ? {} : { planHash }),
        ...(superseded ? { supersedes: superseded.id } : {}),
      },
    });
  }
  return operation;
}

/** The update under way; undefined: none. */
export async function findStackUpdate(executor: Executor, stackId: string): Promise<OperationRow | undefined> {
  const rows = await executor
    .selectFrom('operations')
    .selectAll()
    .where('stack_id', '=', stackId)
    .where('status', 'in', ['queued', 'running'])
    .orderBy('created_at')
    .execute();
  return rows.find(
    ({ kind }) => isPowerOperation(kind) || (isStackOperation(kind) && changes(kind as StackOperationKind)),
  );
}

function changes(kind: StackOperationKind): boolean {
  return kind === 'up_stack' || kind === 'refresh_stack' || kind === 'destroy_stack';
}

/** Throws MusterError `conflict` while an update of the stack is queued or runs, whichever it is. */
export function refuseBesideUpdate(tx: Tx, stack: StackRow): Promise<void> {
  return refuseWhileUpdating(tx, stack, null);
}

/** Throws MusterError `conflict` while an update is under way that carries a configuration: it was made from the one of now. */
export async function refuseBesideChange(tx: Tx, stack: StackRow): Promise<void> {
  const under = await findStackUpdate(tx, stack.id);
  if (under && (under.input as { config?: unknown }).config !== undefined) await refuseBesideUpdate(tx, stack);
}

/** Nothing in a stopped cluster answers: the engine would take all of it for gone. */
async function refuseWhileStopped(tx: Tx, stack: StackRow): Promise<void> {
  const cluster = await findClusterOfStack(tx, stack.id);
  if (cluster?.status !== 'stopped') return;
  throw new MusterError('conflict', `${stack.title} is stopped: start it first (POST /clusters/${cluster.id}/start)`, {
    facts: { state: cluster.status, clusterId: cluster.id },
  });
}

/** The update under way, unless it is of this kind. */
async function findOtherUpdate(
  tx: Tx,
  stack: StackRow,
  kind: StackOperationKind | null,
): Promise<OperationRow | undefined> {
  const under = await findStackUpdate(tx, stack.id);
  return under?.kind === kind ? undefined : under;
}

async function refuseWhileUpdating(tx: Tx, stack: StackRow, kind: StackOperationKind | null): Promise<void> {
  const under = await findOtherUpdate(tx, stack, kind);
  if (!under) return;
  throw new MusterError('conflict', `${under.kind} ${under.id} is under way on ${stack.title}`, {
    facts: { state: stack.status, operationId: under.id },
  });
}

async function checkPlanHash(tx: Tx, stack: StackRow, planHash: string): Promise<void> {
  const plan = await findStackPlan(tx, stack.id, planHash);
  const trouble =
    plan === undefined
      ? `there is no plan with this planHash for ${stack.title}`
      : plan.update_kind !== 'up'
        ? 'the plan is one of a destroy'
        : plan.isExpired
          ? `the plan expired at ${plan.expires_at.toISOString()}`
          : plan.violations.length > 0
            ? 'the plan breaks policies'
            : null;
  if (trouble !== null) throw new MusterError('plan_changed', `${trouble}: preview again`);
}
