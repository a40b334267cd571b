/**
 * Operations: the durable record of work, its claims and its events. Every write by a worker is fenced by (operation, claim):
 * zero rows mean that the lease was lost, and StaleClaim is thrown so that the result is dropped. States: domain/operation.ts.
 */
import { sql, type Selectable } from 'kysely';
import { LEASE_MS, type OperationKind, type OperationStatus } from '../domain/operation.ts';
import { inTransaction, type Db, type Executor, type Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Queue } from './queue.ts';
import type { Schema } from './schema.ts';

export type OperationRow = Selectable<Schema['operations']>;

/** A worker's hold on an operation; `claim` numbers it. */
export interface Claim {
  operationId: string;
  claim: number;
  owner: string;
}

export class StaleClaim extends Error {
  constructor(claim: Claim) {
    super(`the lease on ${claim.operationId} (claim ${claim.claim}) is over`);
    this.name = 'StaleClaim';
  }
}

/** NOTIFY channels: payload is the operation's id. */
export const EVENTS_CHANNEL = 'operation_events';
export const CANCEL_CHANNEL = 'operation_cancel';

export interface NewOperation {
  id?: string;
  orgId: string | null;
  kind: OperationKind;
  targetKind: string;
  targetId: string;
  stackId: string | null;
  input?: unknown;
  /** At most one unfinished operation has this key: a second acceptance returns the first. */
  deterministicKey?: string;
  createdBy: string;
}

/** Inserts the operation and its queue entry in the caller's transaction. Returns the unfinished one with the same key, if there is one. */
export async function acceptOperation(tx: Tx, queue: Queue, input: NewOperation): Promise<OperationRow> {
  const inserted = await tx
    .insertInto('operations')
    .values({
      id: input.id ?? newId('operation'),
      org_id: input.orgId,
      kind: input.kind,
      target_kind: input.targetKind,
      target_id: input.targetId,
      stack_id: input.stackId,
      deterministic_key: input.deterministicKey ?? null,
      input: JSON.stringify(input.input ?? {}),
      created_by: input.createdBy,
      event_seq: 1,
    })
    .onConflict((conflict) =>
      conflict
        .column('deterministic_key')
        .where('deterministic_key', 'is not', null)
        .where('status', 'in', ['queued', 'running'])
        .doNothing(),
    )
    .returningAll()
    .executeTakeFirst();
  if (!inserted) {
    const unfinished = await tx
      .selectFrom('operations')
      .selectAll()
      .where('deterministic_key', '=', input.deterministicKey as string)
      .where('status', 'in', ['queued', 'running'])
      .executeTakeFirst();
    // It finished between the two statements: then this one is new after all.
    return unfinished ?? acceptOperation(tx, queue, input);
  }
  await tx
    .insertInto('operation_events')
    .values({ operation_id: inserted.id, seq: 1, type: 'status', data: JSON.stringify({ status: 'queued' }) })
    .execute();
  await queue.dispatch(tx, inserted.id);
  return inserted;
}

export type ClaimResult =
  | { kind: 'claimed'; claim: Claim; operation: OperationRow }
  | { kind: 'not_due' | 'finished' | 'held' }
  /** Another operation on the same stack holds a lease; `release` dispatches the next one. */
  | { kind: 'stack_busy' };

/** Takes the operation for `owner`: due, not held by a live lease, and no other operation on its stack held either. */
export function claimOperation(db: Db, operationId: string, owner: string): Promise<ClaimResult> {
  return inTransaction(db, async (tx) => {
    const found = await tx
      .selectFrom('operations')
      .select([
        'status',
        'stack_id',
        sql<boolean>`coalesce(lease_expires_at > now(), false)`.as('held'),
        sql<boolean>`coalesce(wait_until > now(), false) and cancel_requested_at is null`.as('waiting'),
      ])
      .where('id', '=', operationId)
      .forUpdate()
      .executeTakeFirst();
    if (!found || (found.status !== 'queued' && found.status !== 'running')) return { kind: 'finished' };
    if (found.held) return { kind: 'held' };
    if (found.waiting) return { kind: 'not_due' };
    if (found.stack_id !== null && (await isStackHeld(tx, found.stack_id, operationId))) return { kind: 'stack_busy' };
    const operation = await tx
      .updateTable('operations')
      .set((eb) => ({
        status: 'running',
        claim: eb('claim', '+', 1),
        lease_owner: owner,
        lease_expires_at: leaseEnd(),
        claimed_at: sql`clock_timestamp()`,
        wait_until: null,
        started_at: sql`coalesce(started_at, now())`,
      }))
      .where('id', '=', operationId)
      .returningAll()
      .executeTakeFirstOrThrow();
    if (found.status === 'queued')
      await appendEvents(tx, operationId, [{ type: 'status', data: { status: 'running' } }]);
    return { kind: 'claimed', claim: { operationId, claim: operation.claim, owner }, operation };
  });
}

async function isStackHeld(tx: Tx, stackId: string, operationId: string): Promise<boolean> {
  await tx.selectFrom('stacks').select('id').where('id', '=', stackId).forUpdate().execute();
  const other = await tx
    .selectFrom('operations')
    .select('id')
    .where('stack_id', '=', stackId)
    .where('id', '<>', operationId)
    .where('status', '=', 'running')
    .where('lease_expires_at', '>', sql<Date>`now()`)
    .executeTakeFirst();
  return other !== undefined;
}

/** Extends every lease of `owner`; returns the operations still held. One that is missing was lost: stop its work at once. */
export async function renewLeases(db: Db, owner: string): Promise<string[]> {
  const rows = await db
    .updateTable('operations')
    .set({ lease_expires_at: leaseEnd() })
    .where('lease_owner', '=', owner)
    .where('status', '=', 'running')
    .where('lease_expires_at', '>', sql<Date>`now()`)
    .returning('id')
    .execute();
  return rows.map((row) => row.id);
}

/** Runs `work` in a transaction that holds the operation's row and only if the claim still stands; else throws StaleClaim. */
export function withClaim<T>(db: Db, claim: Claim, work: (tx: Tx) => Promise<T>): Promise<T> {
  return inTransaction(db, async (tx) => {
    const held = await tx
      .selectFrom('operations')
      .select('id')
      .where('id', '=', claim.operationId)
      .where('claim', '=', claim.claim)
      .where('lease_owner', '=', claim.owner)
      .where('status', '=', 'running')
      .forUpdate()
      .executeTakeFirst();
    if (!held) throw new StaleClaim(claim);
    return work(tx);
  });
}

/** Holds an operation's row. Whoever also locks instances or attempts calls this first: one order, no deadlocks. */
export async function lockOperation(tx: Tx, operationId: string): Promise<void> {
  await tx.selectFrom('operations').select('id').where('id', '=', operationId).forUpdate().execute();
}

export interface StepEnd {
  state?: unknown;
  note?: string | null;
}

/** Ends the step with a wait: no lease, no worker. A wake that came during the step makes the wait end at once. */
export async function recordWait(
  tx: Tx,
  queue: Queue,
  claim: Claim,
  until: Date,
  end: StepEnd & { failures?: number },
): Promise<void> {
  const row = await tx
    .updateTable('operations')
    .set({
      lease_owner: null,
      lease_expires_at: null,
      wait_until: sql`case when woken_at >= claimed_at then now() else ${until}::timestamptz end`,
      ...(end.state === undefined ? {} : { state: JSON.stringify(end.state) }),
      ...(end.note === undefined ? {} : { note: end.note }),
      ...(end.failures === undefined ? {} : { failures: end.failures }),
    })
    .where('id', '=', claim.operationId)
    .returning([
      sql<number>`greatest(0, extract(epoch from wait_until - now()) * 1000)::float8`.as('afterMs'),
      'stack_id',
    ])
    .executeTakeFirstOrThrow();
  await queue.dispatch(tx, claim.operationId, { afterMs: row.afterMs, isUnderWay: true });
  await dispatchNextOnStack(tx, queue, row.stack_id, claim.operationId);
}

/** Ends the operation for good. */
export async function finishOperation(
  tx: Tx,
  queue: Queue,
  operationId: string,
  status: Exclude<OperationStatus, 'queued' | 'running'>,
  end: StepEnd & { error?: { code: string; detail: string } },
): Promise<void> {
  const row = await tx
    .updateTable('operations')
    .set({
      status,
      lease_owner: null,
      lease_expires_at: null,
      wait_until: null,
      finished_at: sql`now()`,
      error_code: end.error?.code ?? null,
      error_detail: end.error?.detail ?? null,
      ...(end.state === undefined ? {} : { state: JSON.stringify(end.state) }),
      ...(end.note === undefined ? {} : { note: end.note }),
    })
    .where('id', '=', operationId)
    .returning('stack_id')
    .executeTakeFirstOrThrow();
  await appendEvents(tx, operationId, [
    { type: 'status', data: { status, ...(end.error ? { error: end.error } : {}) } },
  ]);
  await dispatchNextOnStack(tx, queue, row.stack_id, operationId);
}

async function dispatchNextOnStack(tx: Tx, queue: Queue, stackId: string | null, except: string): Promise<void> {
  if (stackId === null) return;
  const next = await tx
    .selectFrom('operations')
    .select('id')
    .where('stack_id', '=', stackId)
    .where('id', '<>', except)
    .where('status', 'in', ['queued', 'running'])
    .where((eb) => eb.or([eb('wait_until', 'is', null), eb('wait_until', '<=', sql<Date>`now()`)]))
    .orderBy('created_at')
    .execute();
  for (const { id } of next) await queue.dispatch(tx, id);
}

/** Keeps state or note in the middle of a step. */
export async function saveProgress(tx: Tx, claim: Claim, end: StepEnd & { update?: unknown }): Promise<void> {
  await tx
    .updateTable('operations')
    .set({
      ...(end.state === undefined ? {} : { state: JSON.stringify(end.state) }),
      ...(end.note === undefined ? {} : { note: end.note }),
      ...(end.update === undefined ? {} : { updates: sql`updates || ${JSON.stringify([end.update])}::jsonb` }),
    })
    .where('id', '=', claim.operationId)
    .execute();
}

/** Ends a wait early; harmless where nothing waits. */
export async function wakeOperation(tx: Executor, queue: Queue, operationId: string): Promise<void> {
  const row = await tx
    .updateTable('operations')
    .set({
      woken_at: sql`clock_timestamp()`,
      wait_until: sql`case when wait_until is null then null else now() end`,
    })
    .where('id', '=', operationId)
    .where('status', 'in', ['queued', 'running'])
    .returning('id')
    .executeTakeFirst();
  if (row) await queue.dispatch(tx, operationId, { isUnderWay: true });
}

/**
 * Asks that an operation be canceled. Queued: canceled at once (returns `canceled`). Running or waiting: its worker is told or woken, and
 * cleans up (`requested`). Finished ones are left alone (`finished`).
 */
export async function requestCancel(
  tx: Tx,
  queue: Queue,
  operationId: string,
  reason: string,
): Promise<'canceled' | 'requested' | 'finished'> {
  const row = await tx
    .selectFrom('operations')
    .select(['status', 'cancel_requested_at'])
    .where('id', '=', operationId)
    .forUpdate()
    .executeTakeFirst();
  if (!row || (row.status !== 'queued' && row.status !== 'running')) return 'finished';
  await tx
    .updateTable('operations')
    .set({ cancel_requested_at: sql`coalesce(cancel_requested_at, now())`, cancel_reason: reason })
    .where('id', '=', operationId)
    .execute();
  if (row.status === 'queued') {
    await finishOperation(tx, queue, operationId, 'canceled', { error: { code: 'canceled', detail: reason } });
    return 'canceled';
  }
  await appendEvents(tx, operationId, [{ type: 'cancel_requested', data: { reason } }]);
  await wakeOperation(tx, queue, operationId);
  await interruptOperation(tx, operationId);
  return 'requested';
}

/** What its step does now is not wanted any more: it winds down, and the operation goes on from the rows. Harmless where nothing runs. */
export async function interruptOperation(tx: Executor, operationId: string): Promise<void> {
  await sql`select pg_notify(${CANCEL_CHANNEL}, ${operationId})`.execute(tx);
}

export interface NewEvent {
  type: string;
  data: Record<string, unknown>;
}

/** Appends events in order; the row lock on the operation makes their numbers appear in commit order, so a reader by number misses none. */
export async function appendEvents(executor: Executor, operationId: string, events: NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  await sql`
    with counter as (
      update operations set event_seq = event_seq + ${events.length} where id = ${operationId} returning event_seq
    )
    insert into operation_events (operation_id, seq, at, type, data)
    select ${operationId}, counter.event_seq - ${events.length} + e.position, clock_timestamp(), e.value->>'type', e.value->'data'
    from counter, jsonb_array_elements(${JSON.stringify(events)}::jsonb) with ordinality as e(value, position)`.execute(
    executor,
  );
  await sql`select pg_notify(${EVENTS_CHANNEL}, ${operationId})`.execute(executor);
}

/** @returns undefined where there is none or it is another org's. `orgId` null: any org (the deployment's admin, workers). */
export function findOperation(
  executor: Executor,
  orgId: string | null,
  operationId: string,
): Promise<OperationRow | undefined> {
  let query = executor.selectFrom('operations').selectAll().where('id', '=', operationId);
  if (orgId !== null) query = query.where('org_id', '=', orgId);
  return query.executeTakeFirst();
}

export interface OperationFilter {
  orgId: string | null;
  status?: OperationStatus[];
  kind?: OperationKind;
  targetId?: string;
  limit: number;
  /** Rows older than this one, newest first. */
  before?: { createdAt: Date; id: string };
}

export function listOperations(executor: Executor, filter: OperationFilter): Promise<OperationRow[]> {
  let query = executor.selectFrom('operations').selectAll();
  if (filter.orgId !== null) query = query.where('org_id', '=', filter.orgId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.kind) query = query.where('kind', '=', filter.kind);
  if (filter.targetId) query = query.where('target_id', '=', filter.targetId);
  if (filter.before) {
    query = query.where(sql<boolean>`(created_at, id) < (${filter.before.createdAt}, ${filter.before.id})`);
  }
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

/** Unfinished operations that nobody holds and that are due: what a crash or a lost dispatch left behind. */
export async function listAbandoned(db: Db, limit = 100): Promise<string[]> {
  const rows = await db
    .selectFrom('operations')
    .select('id')
    .where('status', 'in', ['queued', 'running'])
    .where((eb) => eb.or([eb('lease_expires_at', 'is', null), eb('lease_expires_at', '<=', sql<Date>`now()`)]))
    .where((eb) =>
      eb.or([
        eb('wait_until', '<=', sql<Date>`now() - interval '2 seconds'`),
        eb.and([eb('wait_until', 'is', null), eb('created_at', '<', sql<Date>`now() - interval '2 seconds'`)]),
      ]),
    )
    .orderBy('created_at')
    .limit(limit)
    .execute();
  return rows.map((row) => row.id);
}

/** Who holds live leases, for finding dead processes. */
export async function listLeaseOwners(db: Db): Promise<string[]> {
  const rows = await db
    .selectFrom('operations')
    .select('lease_owner')
    .distinct()
    .where('status', '=', 'running')
    .where('lease_expires_at', '>', sql<Date>`now()`)
    .execute();
  return rows.flatMap((row) => (row.lease_owner === null ? [] : [row.lease_owner]));
}

/** Ends the leases of an owner that is known to be dead; returns its operations. */
export async function expireLeases(db: Db, owner: string): Promise<string[]> {
  const rows = await db
    .updateTable('operations')
    .set({ lease_owner: null, lease_expires_at: null })
    .where('lease_owner', '=', owner)
    .where('status', '=', 'running')
    .returning('id')
    .execute();
  return rows.map((row) => row.id);
}

/** Gives an operation back unfinished (drain): due at once for anybody. */
export async function releaseClaim(db: Db, queue: Queue, claim: Claim): Promise<void> {
  await withClaim(db, claim, async (tx) => {
    await tx
      .updateTable('operations')
      .set({ lease_owner: null, lease_expires_at: null })
      .where('id', '=', claim.operationId)
      .execute();
    await queue.dispatch(tx, claim.operationId, { isUnderWay: true });
  });
}

function leaseEnd() {
  return sql<Date>`now() + ${LEASE_MS} * interval '1 millisecond'`;
}
