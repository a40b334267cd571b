/**
 * Orders to nodes' agents (domain/order.ts): made with the operation that waits for them, handed out until they end, ended by the agent's
 * report, by their deadline, or because nobody wants them any more. What an order brings that is secret is sealed, and wiped at its end.
 */
import { sql, type Selectable } from 'kysely';
import type { OrderKind, OrderReportStatus } from '../domain/order.ts';
import type { Envelope } from '../secrets/envelope.ts';
import { identityAt } from '../secrets/sealed-place.ts';
import type { Executor, Tx } from './database.ts';
import { raiseDesired } from './desired.ts';
import { newId } from './new-id.ts';
import { lockOperation, wakeOperation } from './operations.ts';
import type { Queue } from './queue.ts';
import type { Schema } from './schema.ts';

export type OrderRow = Selectable<Schema['node_orders']>;

export interface NewOrder {
  orgId: string;
  nodeId: string;
  kind: OrderKind;
  input: Record<string, unknown>;
  /** Joined with `input` for the agent alone. */
  secrets?: { values: Record<string, unknown>; envelope: Envelope };
  /** Woken when the order ends. */
  operationId?: string;
  /** From now on. */
  deadlineMs: number;
  createdBy: string;
}

/** The agent is told at once. Call it in the transaction that records what the order is for. */
export async function createOrder(tx: Tx, order: NewOrder): Promise<{ id: string }> {
  const id = newId('order');
  const { secrets } = order;
  await tx
    .insertInto('node_orders')
    .values({
      id,
      org_id: order.orgId,
      node_id: order.nodeId,
      kind: order.kind,
      input: JSON.stringify(order.input),
      secrets_sealed: secrets
        ? secrets.envelope.seal(JSON.stringify(secrets.values), identityAt('node_orders.secrets_sealed', id))
        : null,
      operation_id: order.operationId ?? null,
      deadline_at: sql<Date>`now() + ${order.deadlineMs} * interval '1 millisecond'`,
      created_by: order.createdBy,
    })
    .execute();
  await raiseDesired(tx, order.nodeId);
  return { id };
}

/** undefined: there is none, or its node was forgotten. */
export function findOrder(executor: Executor, id: string): Promise<OrderRow | undefined> {
  return executor.selectFrom('node_orders').selectAll().where('id', '=', id).executeTakeFirst();
}

/** The agent stops what it does of it. An order that has ended stays as it ended. @returns whether it was canceled by this call */
export async function cancelOrder(tx: Tx, id: string, reason: string): Promise<boolean> {
  const row = await tx
    .updateTable('node_orders')
    .set({
      status: 'canceled',
      secrets_sealed: null,
      error_code: 'canceled',
      error_detail: reason,
      finished_at: sql<Date>`now()`,
    })
    .where('id', '=', id)
    .where('status', 'in', OPEN)
    .returning('node_id')
    .executeTakeFirst();
  if (row) await raiseDesired(tx, row.node_id);
  return row !== undefined;
}

/** An order as its agent is told of it. */
export interface HandedOrder {
  id: string;
  kind: OrderKind;
  input: Record<string, unknown>;
  /** Until its deadline; 0 where that has passed. */
  remainingMs: number;
}

/** What a node's agent shall do or go on doing, oldest first. */
export async function listOpenOrders(executor: Executor, envelope: Envelope, nodeId: string): Promise<HandedOrder[]> {
  const rows = await executor
    .selectFrom('node_orders')
    .select(['id', 'kind', 'input', 'secrets_sealed'])
    .select(sql<number>`greatest(0, extract(epoch from deadline_at - now()) * 1000)::float8`.as('remaining_ms'))
    .where('node_id', '=', nodeId)
    .where('status', 'in', OPEN)
    .orderBy('created_at')
    .orderBy('id')
    .limit(MAX_HANDED)
    .execute();
  return rows.map((row) => ({
    id: row.id,
    kind: row.kind,
    input: {
      ...(row.input as Record<string, unknown>),
      ...(row.secrets_sealed === null
        ? {}
        : (JSON.parse(envelope.open(row.secrets_sealed, identityAt('node_orders.secrets_sealed', row.id))) as Record<
            string,
            unknown
          >)),
    },
    remainingMs: Math.round(row.remaining_ms),
  }));
}

export interface ReportedOrder {
  orderId: string;
  status: OrderReportStatus;
  progress?: { percent: number | null; note: string | null } | undefined;
  result?: unknown;
  error?: { code: string; detail: string } | undefined;
}

/**
 * Takes down what an agent says of its orders, and wakes the operation of one that ended.
 * @returns the ended ones among `reports`, which the agent may forget: recorded, ended before in another way, or not this node's
 */
export async function recordOrderReports(
  tx: Tx,
  queue: Queue,
  nodeId: string,
  reports: readonly ReportedOrder[],
): Promise<string[]> {
  const ended = reports.filter(({ status }) => status !== 'running').map(({ orderId }) => orderId);
  await lockOperationsOf(tx, ended);
  for (const report of reports) {
    if (report.status === 'running') await recordProgress(tx, nodeId, report);
    else await recordEnd(tx, queue, nodeId, report);
  }
  return ended;
}

async function recordProgress(tx: Tx, nodeId: string, report: ReportedOrder): Promise<void> {
  await tx
    .updateTable('node_orders')
    .set({
      status: 'running',
      started_at: sql<Date>`coalesce(started_at, now())`,
      ...(report.progress === undefined ? {} : { progress: JSON.stringify(report.progress) }),
    })
    .where('id', '=', report.orderId)
    .where('node_id', '=', nodeId)
    .where('status', 'in', OPEN)
    .execute();
}

async function recordEnd(tx: Tx, queue: Queue, nodeId: string, report: ReportedOrder): Promise<void> {
  const row = await tx
    .updateTable('node_orders')
    .set({
      status: report.status === 'done' ? 'done' : 'failed',
      secrets_sealed: null,
      started_at: sql<Date>`coalesce(started_at, now())`,
      finished_at: sql<Date>`now()`,
      ...(report.progress === undefined ? {} : { progress: JSON.stringify(report.progress) }),
      result: report.result === undefined ? null : JSON.stringify(report.result),
      error_code: report.status === 'failed' ? (report.error?.code ?? 'failed') : null,
      error_detail: report.status === 'failed' ? (report.error?.detail ?? null) : null,
    })
    .where('id', '=', report.orderId)
    .where('node_id', '=', nodeId)
    .where('status', 'in', OPEN)
    .returning('operation_id')
    .executeTakeFirst();
  if (row?.operation_id != null) await wakeOperation(tx, queue, row.operation_id);
}

/** Orders that nobody will end any more: past their deadline, or of a node whose machine is gone. */
export function listLapsedOrders(
  executor: Executor,
  limit = 100,
): Promise<{ id: string; code: 'deadline_passed' | 'node_gone' }[]> {
  const isGone = sql<boolean>`(coalesce(attempts.status in ('gone', 'lost'), false) or hosts.removed_at is not null)`;
  return executor
    .selectFrom('node_orders')
    .innerJoin('nodes', 'nodes.id', 'node_orders.node_id')
    .leftJoin('attempts', 'attempts.id', 'nodes.attempt_id')
    .leftJoin('hosts', 'hosts.node_id', 'nodes.id')
    .select('node_orders.id')
    .select(
      sql<'deadline_passed' | 'node_gone'>`case when ${isGone} then 'node_gone' else 'deadline_passed' end`.as('code'),
    )
    .where('node_orders.status', 'in', OPEN)
    .where((eb) => eb.or([eb('deadline_at', '<=', sql<Date>`now()`), isGone]))
    .orderBy('deadline_at')
    .limit(limit)
    .execute();
}

/** Fails an order for a reason of ours. @returns whether it was still open */
export async function failOrder(
  tx: Tx,
  queue: Queue,
  id: string,
  error: { code: string; detail: string },
): Promise<boolean> {
  await lockOperationsOf(tx, [id]);
  const row = await tx
    .updateTable('node_orders')
    .set({
      status: 'failed',
      secrets_sealed: null,
      error_code: error.code,
      error_detail: error.detail,
      finished_at: sql<Date>`now()`,
    })
    .where('id', '=', id)
    .where('status', 'in', OPEN)
    .returning(['node_id', 'operation_id'])
    .executeTakeFirst();
  if (!row) return false;
  if (row.operation_id !== null) await wakeOperation(tx, queue, row.operation_id);
  await raiseDesired(tx, row.node_id);
  return true;
}

const OPEN = ['queued', 'running'] as const;
/** In one answer; the others wait for those before them. */
const MAX_HANDED = 50;

/** Operations before orders, as whoever makes and cancels orders locks them. */
async function lockOperationsOf(tx: Tx, orderIds: readonly string[]): Promise<void> {
  if (orderIds.length === 0) return;
  const rows = await tx
    .selectFrom('node_orders')
    .select('operation_id')
    .distinct()
    .where('id', 'in', orderIds)
    .where('operation_id', 'is not', null)
    .orderBy('operation_id')
    .execute();
  for (const { operation_id: operationId } of rows) await lockOperation(tx, operationId as string);
}
