/**
 * Updates of the state service: the right to write a stack's state, what was written under it, and its end. The order of locks is stack,
 * then update. A journal is only appended to; it becomes a version of the state when the update ends, whoever ends it.
 */
import { createHash } from 'node:crypto';
import { sql, type Selectable } from 'kysely';
import type { VersionedDeployment } from '../domain/state/deployment.ts';
import { replayJournal, type JournalEntry, type ReplayStamp } from '../domain/state/journal.ts';
import { holdsStack, STATE_LEASE_MS, type StateUpdateKind, type StateUpdateRequest } from '../domain/state/update.ts';
import { runPrepared, type Database, type Executor, type Tx } from './database.ts';
import type { Schema } from './schema.ts';
import { wakeStackWaiters } from './stack-waiters.ts';
import { appendStateVersion, lockStateStack, readStateVersion, type StateStackRow } from './state-stacks.ts';
import { endUpdateEvents } from './update-events.ts';
import { hashUpdateToken } from './update-token.ts';

export type StateUpdateRow = Selectable<Schema['state_updates']>;

export interface NewStateUpdate {
  /** A new uuid. */
  id: string;
  stackUuid: string;
  kind: StateUpdateKind;
  isDryRun: boolean;
  request: StateUpdateRequest;
  engineVersion: string;
  requestedBy: string;
  /** null: a person's. */
  runId: string | null;
  /** The operation of ours whose progress its events are. */
  operationId?: string | null;
}

/** Idempotent by the id. */
export function insertStateUpdate(executor: Executor, update: NewStateUpdate): Promise<StateUpdateRow> {
  return executor
    .insertInto('state_updates')
    .values({
      id: update.id,
      stack_uuid: update.stackUuid,
      kind: update.kind,
      is_dry_run: update.isDryRun,
      request: JSON.stringify(update.request),
      engine_version: update.engineVersion,
      requested_by: update.requestedBy,
      run_id: update.runId,
      operation_id: update.operationId ?? null,
      // It outlives the stack that it destroys: then this alone says whose it was.
      stack_id: sql<
        string | null
      >`(select k.id from state_stacks s join stacks k on k.name = s.name where s.uuid = ${update.stackUuid} and s.is_engine)`,
    })
    .onConflict((conflict) => conflict.column('id').doUpdateSet({ id: update.id }))
    .returningAll()
    .executeTakeFirstOrThrow();
}

export function findStateUpdate(
  executor: Executor,
  stackUuid: string,
  id: string,
): Promise<StateUpdateRow | undefined> {
  return executor
    .selectFrom('state_updates')
    .selectAll()
    .where('id', '=', id)
    .where('stack_uuid', '=', stackUuid)
    .executeTakeFirst();
}

export type StartOutcome =
  /** `isRepeat`: by this very token, before. */
  | { kind: 'started'; update: StateUpdateRow; isRepeat: boolean }
  /** Another one holds the stack. */
  | { kind: 'held'; by: StateUpdateRow }
  | { kind: 'not_new' };

/**
 * Takes the stack, where the update may write. One whose lease ran out is ended first, with what it journaled.
 * @param token the caller made it; only its digest is kept
 */
export async function startStateUpdate(
  tx: Tx,
  input: {
    stackUuid: string;
    updateId: string;
    token: string;
    journalVersion: number;
    tags: Record<string, string> | null;
  },
): Promise<StartOutcome> {
  const stack = await lockStateStack(tx, input.stackUuid);
  const update = stack && (await findStateUpdate(tx, stack.uuid, input.updateId));
  if (update?.status === 'running' && update.token_hash?.equals(hashUpdateToken(input.token)) === true)
    return { kind: 'started', update, isRepeat: true };
  if (!stack || update?.status !== 'not_started') return { kind: 'not_new' };
  const holds = holdsStack({ kind: update.kind, isDryRun: update.is_dry_run });
  let version = stack.version;
  if (holds) {
    const active = await findActiveUpdate(tx, stack);
    if (active && !isLeaseOver(active)) return { kind: 'held', by: active };
    if (active) version = await endStateUpdate(tx, stack, active, 'failed', 'its lease ran out');
  }
  const started = await tx
    .updateTable('state_updates')
    .set({
      status: 'running',
      started_at: sql<Date>`now()`,
      token_hash: hashUpdateToken(input.token),
      lease_expires_at: leaseEnd(STATE_LEASE_MS),
      journal_version: input.journalVersion,
      base_version: version,
      version: holds ? version + 1 : version,
    })
    .where('id', '=', update.id)
    .returningAll()
    .executeTakeFirstOrThrow();
  if (holds)
    await tx
      .updateTable('state_stacks')
      .set({ active_update_id: update.id, ...(input.tags ? { tags: JSON.stringify(input.tags) } : {}) })
      .where('uuid', '=', stack.uuid)
      .execute();
  return { kind: 'started', update: started, isRepeat: false };
}

/** The one that holds the stack; undefined: none does. */
export async function findActiveUpdate(
  executor: Executor,
  stack: Pick<StateStackRow, 'uuid' | 'active_update_id'>,
): Promise<StateUpdateRow | undefined> {
  if (stack.active_update_id === null) return undefined;
  const update = await findStateUpdate(executor, stack.uuid, stack.active_update_id);
  return update?.status === 'running' ? update : undefined;
}

export function isLeaseOver(update: StateUpdateRow, now = new Date()): boolean {
  return update.lease_expires_at === null || update.lease_expires_at <= now;
}

/** Whose token it is, while it runs and its lease lasts; undefined: it may write nothing (any more). */
export function findHolder(executor: Executor, updateId: string, token: string): Promise<StateUpdateRow | undefined> {
  return executor
    .selectFrom('state_updates')
    .selectAll()
    .where('id', '=', updateId)
    .where('token_hash', '=', hashUpdateToken(token))
    .where('status', '=', 'running')
    .where('lease_expires_at', '>', sql<Date>`now()`)
    .executeTakeFirst();
}

/** Whose token it is or was: it runs, or ended itself by it. An update that others ended is nobody's. */
export function findOwnedUpdate(
  executor: Executor,
  updateId: string,
  token: string,
): Promise<StateUpdateRow | undefined> {
  return executor
    .selectFrom('state_updates')
    .selectAll()
    .where('id', '=', updateId)
    .where('token_hash', '=', hashUpdateToken(token))
    .executeTakeFirst();
}

/** @returns false: the token is not, or no longer, the one of a running update */
export async function renewStateLease(
  executor: Executor,
  updateId: string,
  token: string,
  forMs: number,
): Promise<boolean> {
  const { numUpdatedRows } = await executor
    .updateTable('state_updates')
    .set({ lease_expires_at: leaseEnd(Math.min(forMs, STATE_LEASE_MS)) })
    .where('id', '=', updateId)
    .where('token_hash', '=', hashUpdateToken(token))
    .where('status', '=', 'running')
    .where('lease_expires_at', '>', sql<Date>`now()`)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/**
 * Appends entries under the update's right, in one statement: whoever ends the update waits for it, or it is refused. An entry that was
 * sent before is left as it is. Prepared, because engines wait for it at each of their steps: to plan it takes Postgres longer than to run
 * it. @returns false: the token may write nothing
 */
export async function appendJournal(
  database: Pick<Database, 'kysely' | 'pool'>,
  updateId: string,
  token: string,
  entries: readonly { sequenceId: number; text: string }[],
): Promise<boolean> {
  const statement = sql<{ is_holder: boolean }>`
    with holder as (
      select id from state_updates
      where id = ${updateId} and token_hash = ${hashUpdateToken(token)} and status = 'running' and lease_expires_at > now()
      for share
    ), added as (
      insert into state_journal (update_id, sequence_id, entry)
      select holder.id, sent.sequence_id, sent.entry
      from holder, unnest(${entries.map(({ sequenceId }) => sequenceId)}::bigint[], ${entries.map(({ text }) => text)}::text[])
        as sent(sequence_id, entry)
      on conflict do nothing
    )
    select exists (select from holder) as is_holder`;
  const [row] = await runPrepared(database, 'append_journal', statement);
  return row?.is_holder === true;
}

/** Of a CLI that writes whole states. @returns false: the token may write nothing */
export async function writeCheckpoint(
  executor: Executor,
  updateId: string,
  token: string,
  state: VersionedDeployment,
): Promise<boolean> {
  const { numUpdatedRows } = await executor
    .updateTable('state_updates')
    .set({ checkpoint: JSON.stringify(state) })
    .where('id', '=', updateId)
    .where('token_hash', '=', hashUpdateToken(token))
    .where('status', '=', 'running')
    .where('lease_expires_at', '>', sql<Date>`now()`)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/**
 * Ends an update that runs, and with it its right to write; what it wrote becomes the stack's newest version. The stack's row is held.
 * Idempotent. @param reason null: it ends itself, and its token still tells that it did @returns the stack's version
 */
export async function endStateUpdate(
  tx: Tx,
  stack: StateStackRow,
  update: StateUpdateRow,
  status: 'succeeded' | 'failed' | 'canceled',
  reason: string | null = null,
): Promise<number> {
  const ended = await tx
    .updateTable('state_updates')
    .set({
      status,
      ended_at: sql<Date>`now()`,
      lease_expires_at: null,
      end_reason: reason,
      ...(reason === null ? {} : { token_hash: null }),
    })
    .where('id', '=', update.id)
    .where('status', 'in', ['running', 'not_started'])
    .returningAll()
    .executeTakeFirst();
  if (ended) await endUpdateEvents(tx, ended);
  if (ended?.stack_id != null && ended.run_id === null) await wakeStackWaiters(tx, ended.stack_id);
  if (!ended || !holdsStack({ kind: update.kind, isDryRun: update.is_dry_run })) return stack.version;
  const version = await appendStateVersion(tx, stack, await readWritten(tx, stack, ended), update.id);
  await tx
    .updateTable('state_stacks')
    .set({ active_update_id: null })
    .where('uuid', '=', stack.uuid)
    .where('active_update_id', '=', update.id)
    .execute();
  return version;
}

/** Ends an update without a look at what it wrote: another state has taken its place. @param version its own, where it made one */
export async function abandonStateUpdate(
  tx: Tx,
  stack: StateStackRow,
  update: StateUpdateRow,
  reason: string | null,
  version: number | null = null,
): Promise<void> {
  await tx
    .updateTable('state_updates')
    .set({
      status: version === null ? 'failed' : 'succeeded',
      started_at: sql<Date>`coalesce(started_at, now())`,
      ended_at: sql<Date>`now()`,
      token_hash: null,
      lease_expires_at: null,
      end_reason: reason,
      ...(version === null ? {} : { version, base_version: version - 1 }),
    })
    .where('id', '=', update.id)
    .execute();
  await tx
    .updateTable('state_stacks')
    .set({ active_update_id: null })
    .where('uuid', '=', stack.uuid)
    .where('active_update_id', '=', update.id)
    .execute();
  await endUpdateEvents(tx, update);
  if (update.stack_id !== null && update.run_id === null) await wakeStackWaiters(tx, update.stack_id);
}

/** The state as it is now: of a running update what it has written so far. */
export async function readCurrentState(executor: Executor, stack: StateStackRow): Promise<VersionedDeployment> {
  const active = await findActiveUpdate(executor, stack);
  if (active) return readWritten(executor, stack, active);
  return (await readStateVersion(executor, stack)) as VersionedDeployment;
}

async function readWritten(
  executor: Executor,
  stack: StateStackRow,
  update: StateUpdateRow,
): Promise<VersionedDeployment> {
  if (update.checkpoint !== null) return JSON.parse(update.checkpoint) as VersionedDeployment;
  const base = (await readStateVersion(executor, stack, update.base_version ?? stack.version)) as VersionedDeployment;
  const entries = await readJournal(executor, update.id);
  return entries.length === 0 ? base : replayJournal(base, entries, stampOf(update));
}

export async function readJournal(executor: Executor, updateId: string): Promise<JournalEntry[]> {
  const rows = await executor
    .selectFrom('state_journal')
    .select('entry')
    .where('update_id', '=', updateId)
    .orderBy('sequence_id')
    .execute();
  return rows.map(({ entry }) => JSON.parse(entry) as JournalEntry);
}

function stampOf(update: StateUpdateRow): ReplayStamp {
  const version = update.engine_version;
  return {
    time: new Date().toISOString(),
    version,
    magic: version === '' ? '' : createHash('sha256').update(version).digest('hex'),
  };
}

/** Newest first; previews are not among them. */
export function listStateUpdates(
  executor: Executor,
  stackUuid: string,
  page: { limit: number; offset: number },
): Promise<StateUpdateRow[]> {
  return executor
    .selectFrom('state_updates')
    .selectAll()
    .where('stack_uuid', '=', stackUuid)
    .where('is_dry_run', '=', false)
    .where('kind', '<>', 'preview')
    .where('status', '<>', 'not_started')
    .orderBy('created_at', 'desc')
    .orderBy('version', 'desc')
    .limit(page.limit)
    .offset(page.offset)
    .execute();
}

function leaseEnd(ms: number) {
  return sql<Date>`now() + ${ms} * interval '1 millisecond'`;
}
