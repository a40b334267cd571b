/**
 * Events of updates: what an engine told of its run, ours or a person's, once and for good with its update. Those of an operation of ours take
 * their places among the operation's own events (operation-log.ts), in the engine's order: its CLI sends several batches at once, and one
 * that overtook another waits for it, or for the end of the update.
 */
import { sql, type Selectable } from 'kysely';
import { tellEngineEvent, type ToldEvent } from '../domain/state/engine-event.ts';
import { inTransaction, type Db, type Executor, type Tx } from './database.ts';
import { EVENTS_CHANNEL } from './operations.ts';
import type { Schema } from './schema.ts';
import { hashUpdateToken } from './update-token.ts';

type UpdateRow = Selectable<Schema['state_updates']>;

/** NOTIFY channel: payload is the update's id. */
export const UPDATE_CHANNEL = 'update_events';

export interface SentEvent {
  /** From 0 on, without a gap. */
  sequence: number;
  at: Date;
  /** As it came. */
  event: object;
}

/** Under the update's right; one that was sent before is left as it is. @returns false: the token may write nothing */
export function appendUpdateEvents(
  db: Db,
  updateId: string,
  token: string,
  events: readonly SentEvent[],
): Promise<boolean> {
  return inTransaction(db, async (tx) => {
    const holder = await tx
      .selectFrom('state_updates')
      .select(['id', 'operation_id'])
      .where('id', '=', updateId)
      .where('token_hash', '=', hashUpdateToken(token))
      .where('status', '=', 'running')
      .where('lease_expires_at', '>', sql<Date>`now()`)
      .forShare()
      .executeTakeFirst();
    if (!holder) return false;
    if (events.length === 0) return true;
    await tx
      .insertInto('state_events')
      .values(events.map((sent) => toRow(holder, sent)))
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    if (holder.operation_id !== null) await placeEvents(tx, updateId, holder.operation_id, { isEnded: false });
    await sql`select pg_notify(${UPDATE_CHANNEL}, ${updateId})`.execute(tx);
    return true;
  });
}

/** The update has ended: nothing that is missing will come. */
export async function endUpdateEvents(tx: Tx, update: Pick<UpdateRow, 'id' | 'operation_id'>): Promise<void> {
  if (update.operation_id !== null) await placeEvents(tx, update.id, update.operation_id, { isEnded: true });
  await sql`select pg_notify(${UPDATE_CHANNEL}, ${update.id})`.execute(tx);
}

function toRow(update: { id: string; operation_id: string | null }, { sequence, at, event }: SentEvent) {
  const told = tellEngineEvent(event);
  return {
    update_id: update.id,
    sequence,
    at,
    event: JSON.stringify(event),
    type: told?.type ?? null,
    resource: told?.resource ?? null,
    operation_id: update.operation_id,
  };
}

/** Whoever holds the operation's row gives the places, so that a reader by number misses none. */
async function placeEvents(
  tx: Tx,
  updateId: string,
  operationId: string,
  { isEnded }: { isEnded: boolean },
): Promise<void> {
  await tx.selectFrom('operations').select('id').where('id', '=', operationId).forUpdate().execute();
  const { rows } = await sql<{ placed: number }>`
    with gap as (
      select min(sequence) + 1 as first from state_events e
      where update_id = ${updateId}
        and not exists (select from state_events after where after.update_id = ${updateId} and after.sequence = e.sequence + 1)
    ), start as (
      select min(sequence) as first from state_events where update_id = ${updateId}
    ), ready as (
      select sequence, row_number() over (order by sequence)::int as position from state_events, gap, start
      where update_id = ${updateId} and operation_id is not null and operation_seq is null
        and type in ('resource', 'diagnostic')
        and (${isEnded} or (start.first = 0 and sequence < gap.first))
    ), counter as (
      update operations set event_seq = event_seq + (select count(*) from ready)
      where id = ${operationId} and exists (select from ready)
      returning event_seq - (select count(*) from ready) as before
    )
    update state_events e
    set operation_seq = counter.before + ready.position, xid = pg_current_xact_id()
    from ready, counter where e.update_id = ${updateId} and e.sequence = ready.sequence
    returning e.operation_seq as placed`.execute(tx);
  if (rows.length > 0) await sql`select pg_notify(${EVENTS_CHANNEL}, ${operationId})`.execute(tx);
}

/** As they came, in their order, after `after`. */
export function listUpdateEvents(
  executor: Executor,
  updateId: string,
  page: { after: number; limit: number },
): Promise<{ sequence: number; at: Date; event: string }[]> {
  return executor
    .selectFrom('state_events')
    .select(['sequence', 'at', 'event'])
    .where('update_id', '=', updateId)
    .where('sequence', '>', page.after)
    .orderBy('sequence')
    .limit(page.limit)
    .execute();
}

export interface ToldUpdateEvent extends ToldEvent {
  sequence: number;
  at: Date;
}

/** The CLI tries to send a batch four times within seven seconds, and then forgets it. */
const MISSING_FOR_GOOD_MS = 30_000;

/**
 * What the events after `after` tell people, for somebody who follows them. While the update runs, an event whose predecessor may still come
 * waits for it. @returns how far it read, also where nothing is told of the last ones
 */
export async function readToldEvents(
  executor: Executor,
  update: Pick<UpdateRow, 'id' | 'status'>,
  page: { after: number; limit: number },
): Promise<{ events: ToldUpdateEvent[]; last: number; isPageFull: boolean }> {
  const rows = await listUpdateEvents(executor, update.id, page);
  const isUnderWay = update.status === 'running' || update.status === 'not_started';
  const believedMissing = Date.now() - MISSING_FOR_GOOD_MS;
  const events: ToldUpdateEvent[] = [];
  let last = page.after;
  for (const { sequence, at, event } of rows) {
    if (isUnderWay && sequence !== last + 1 && at.getTime() > believedMissing)
      return { events, last, isPageFull: false };
    const told = tellEngineEvent(JSON.parse(event) as object);
    if (told) events.push({ ...told, sequence, at });
    last = sequence;
  }
  return { events, last, isPageFull: rows.length === page.limit };
}

/** What each update changed, by kind of step, as its engine summed it up; nothing where it did not come so far. */
export async function readChanges(
  executor: Executor,
  updateIds: readonly string[],
): Promise<Map<string, Record<string, number>>> {
  if (updateIds.length === 0) return new Map();
  const rows = await executor
    .selectFrom('state_events')
    .select(['update_id', 'event'])
    .where('update_id', 'in', [...updateIds])
    .where('type', '=', 'summary')
    .orderBy('sequence')
    .execute();
  return new Map(
    rows.map(({ update_id: id, event }) => {
      const told = tellEngineEvent(JSON.parse(event) as object);
      return [id, (told?.data['changes'] ?? {}) as Record<string, number>];
    }),
  );
}
