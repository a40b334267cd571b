/**
 * Logs on their way: an agent writes batches of lines, a reader takes them, both through any process of ours. There are never more than a few
 * batches of a stream here: the writer waits for the reader, and what no reader wants any more is forgotten.
 */
import { sql } from 'kysely';
import type { LogLine } from '../domain/pods/pod.ts';
import type { Db, Executor, Tx } from './database.ts';
import { createOrder } from './orders.ts';
import type { PodRow } from './pods.ts';

/** NOTIFY channel: payload is the stream's id, which is its order's. */
export const LOGS_CHANNEL = 'pod_logs';

/** Batches of a stream that may wait for its reader. */
export const MAX_WAITING_BATCHES = 16;
/** A reader that is not heard of for so long is gone. */
const WANTED_MS = 30_000;
/** For the agent to begin. */
const ORDER_MS = 30_000;

export interface LogWish {
  follow: boolean;
  /** Later lines only; null: from the beginning. */
  since: string | null;
  tail: number;
}

/** Asks the pod's agent for its log. @returns the stream's id */
export async function openLogStream(
  tx: Tx,
  pod: PodRow & { node_id: string },
  wish: LogWish,
  by: string,
): Promise<string> {
  await forgetLapsed(tx);
  const { id } = await createOrder(tx, {
    orgId: pod.org_id,
    nodeId: pod.node_id,
    kind: 'stream_pod_logs',
    input: { podId: pod.id, ...wish },
    deadlineMs: ORDER_MS,
    createdBy: by,
  });
  await tx
    .insertInto('pod_log_streams')
    .values({ order_id: id, pod_id: pod.id, node_id: pod.node_id, wanted_until: wantedUntil() })
    .execute();
  return id;
}

export interface TakenLogs {
  batches: LogLine[][];
  /** Nothing comes after these. */
  isEnded: boolean;
  error: string | null;
}

/** What came since the last call, oldest first; each line is given once. Says that somebody still reads. */
export async function takeLogs(db: Db, streamId: string): Promise<TakenLogs> {
  const stream = await db
    .updateTable('pod_log_streams')
    .set({ wanted_until: wantedUntil() })
    .where('order_id', '=', streamId)
    .returning(['ended_at', 'error'])
    .executeTakeFirst();
  const chunks = await db
    .deleteFrom('pod_log_chunks')
    .where('order_id', '=', streamId)
    .returning(['seq', 'lines'])
    .execute();
  if (chunks.length >= MAX_WAITING_BATCHES) await sql`select pg_notify(${LOGS_CHANNEL}, ${streamId})`.execute(db);
  return {
    batches: chunks.sort((a, b) => a.seq - b.seq).map(({ lines }) => lines),
    // Ended and then read: what was written before the end is among these.
    isEnded: stream === undefined || stream.ended_at !== null,
    error: stream === undefined ? 'the stream was given up' : stream.error,
  };
}

/** Nobody reads it any more. */
export async function closeLogStream(executor: Executor, streamId: string): Promise<void> {
  await executor.deleteFrom('pod_log_streams').where('order_id', '=', streamId).execute();
}

export interface WrittenBatch {
  orderId: string;
  seq: number;
  lines: readonly LogLine[];
  isEnd: boolean;
  error: string | null;
}

/** `full`: its reader is slow. The same batch again counts once. Only the node that was asked may write. */
export async function writeLogs(db: Db, nodeId: string, batch: WrittenBatch): Promise<'taken' | 'full' | 'unwanted'> {
  return db.transaction().execute(async (tx) => {
    const stream = await tx
      .selectFrom('pod_log_streams')
      .select('next_seq')
      .where('order_id', '=', batch.orderId)
      .where('node_id', '=', nodeId)
      .where('ended_at', 'is', null)
      .where('wanted_until', '>', sql<Date>`now()`)
      .forUpdate()
      .executeTakeFirst();
    if (!stream) return 'unwanted';
    if (batch.seq < stream.next_seq) return 'taken'; // its answer was lost
    const { count } = await tx
      .selectFrom('pod_log_chunks')
      .select(sql<number>`count(*)::integer`.as('count'))
      .where('order_id', '=', batch.orderId)
      .executeTakeFirstOrThrow();
    if (count >= MAX_WAITING_BATCHES) return 'full';
    await tx
      .insertInto('pod_log_chunks')
      .values({ order_id: batch.orderId, seq: batch.seq, lines: JSON.stringify(batch.lines) })
      .execute();
    await tx
      .updateTable('pod_log_streams')
      .set({
        next_seq: batch.seq + 1,
        ...(batch.isEnd ? { ended_at: sql<Date>`now()`, error: batch.error } : {}),
      })
      .where('order_id', '=', batch.orderId)
      .execute();
    await sql`select pg_notify(${LOGS_CHANNEL}, ${batch.orderId})`.execute(tx);
    return 'taken';
  });
}

/** Streams whose reader died without closing them, with what is left of them. */
async function forgetLapsed(tx: Tx): Promise<void> {
  await tx
    .deleteFrom('pod_log_streams')
    .where('wanted_until', '<', sql<Date>`now() - interval '1 minute'`)
    .execute();
}

function wantedUntil() {
  return sql<Date>`now() + ${WANTED_MS} * interval '1 millisecond'`;
}
