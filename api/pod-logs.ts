/** Logs of pods to people: asked of the node's agent by an order, taken from the database as they come, at the reader's pace. */
import { MusterError } from '../domain/error-table.ts';
import type { LogLine } from '../domain/pods/pod.ts';
import { inTransaction } from '../db/database.ts';
import { closeLogStream, openLogStream, takeLogs, writeLogs, type LogWish, type TakenLogs } from '../db/pod-logs.ts';
import type { PodRow } from '../db/pods.ts';
import type { ApiContext } from './api-deps.ts';
import { createBell, type Bell } from './bell.ts';
import { MAX_LOG_LINES, type LogBatch, type LogBatchReply, type PodLogs } from './contract/pods.ts';
import { sendEvents, type StreamPage } from './event-stream.ts';
import type { Call } from './route.ts';
import { lastEventId } from './stream-feed.ts';

/** For the agent's first word: it waits for orders, so it comes at once or not at all. */
const PATIENCE_MS = 10_000;
/** An agent waits so long for a slow reader before it asks again. */
const ROOM_MS = 5_000;
const MAX_CHARS = 1_000_000;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/;

type LogCall = Pick<Call<'read'>, 'request' | 'response' | 'deps' | 'caller'>;
interface LogQuery {
  since?: string | undefined;
  tail: number;
}

/** All that there is now. Throws MusterError `conflict` where it has no container, `unavailable` where its agent does not answer. */
export async function readPodLogs({ deps, caller }: LogCall, pod: PodRow, query: LogQuery): Promise<PodLogs> {
  const nodeId = requireNode(pod);
  const reader = await openReader(
    deps,
    pod,
    { follow: false, since: query.since ?? null, tail: query.tail },
    caller.id,
  );
  const lines: LogLine[] = [];
  let chars = 0;
  try {
    for (let page = await reader.first(); ; page = await reader.next(PATIENCE_MS)) {
      if (page.error !== null && lines.length === 0) throw noLogs(pod, page.error);
      for (const line of page.batches.flat()) {
        chars += line.text.length;
        lines.push(line);
      }
      const isTruncated = lines.length > MAX_LOG_LINES || chars > MAX_CHARS;
      if (page.isEnded || isTruncated)
        return { podId: pod.id, nodeId, lines: lines.slice(0, MAX_LOG_LINES), isTruncated };
    }
  } finally {
    await reader.close();
  }
}

/** Until the container has ended or the client goes. Throws as readPodLogs, before anything is sent. */
export async function streamPodLogs(call: LogCall, pod: PodRow, query: LogQuery): Promise<void> {
  const { request, response, deps, caller } = call;
  requireNode(pod);
  const resumed = lastEventId(request, (text) => (TIME.test(text) ? text : null));
  const wish = {
    follow: true,
    since: resumed ?? query.since ?? null,
    tail: resumed === null ? query.tail : MAX_LOG_LINES,
  };
  const reader = await openReader(deps, pod, wish, caller.id);
  let isFirst = true;
  try {
    await sendEvents(
      request,
      response,
      {
        subscribe: (wake) => deps.hub.subscribe(reader.streamId, wake),
        isClosed: () => deps.hub.isClosed,
        async read(): Promise<StreamPage> {
          const page = isFirst ? await reader.first() : await reader.take();
          if (isFirst && page.error !== null) throw noLogs(pod, page.error);
          isFirst = false;
          const events = page.batches.flat().map((line) => ({ id: line.at, type: 'log', data: line }));
          return { events, next: page.isEnded ? 'end' : 'wait' };
        },
      },
      deps.heartbeatMs,
    );
  } finally {
    await reader.close();
  }
}

/** Takes lines from an agent; waits a while where their reader is slow, which slows the agent. */
export async function takeLogBatch(
  { database, hub }: ApiContext,
  nodeId: string,
  batch: LogBatch,
): Promise<LogBatchReply> {
  const bell = createBell();
  const stop = hub.subscribe(batch.orderId, bell.ring);
  const until = performance.now() + ROOM_MS;
  try {
    for (;;) {
      const outcome = await writeLogs(database.kysely, nodeId, batch);
      const leftMs = until - performance.now();
      if (outcome !== 'full') return { isWanted: outcome === 'taken', isTaken: outcome === 'taken' };
      if (leftMs <= 0 || hub.isClosed) return { isWanted: true, isTaken: false };
      await bell.wait(Math.min(leftMs, 1_000));
    }
  } finally {
    stop();
  }
}

interface Reader {
  streamId: string;
  /** The agent's first word. Throws MusterError `unavailable` where none comes. */
  first(): Promise<TakenLogs>;
  /** What is there now. */
  take(): Promise<TakenLogs>;
  /** Something new, or the end. Throws MusterError `unavailable` where nothing comes. */
  next(patienceMs: number): Promise<TakenLogs>;
  close(): Promise<void>;
}

async function openReader({ database, hub }: ApiContext, pod: PodRow, wish: LogWish, by: string): Promise<Reader> {
  const nodeId = requireNode(pod);
  const streamId = await inTransaction(database.kysely, (tx) =>
    openLogStream(tx, { ...pod, node_id: nodeId }, wish, by),
  );
  const bell: Bell = createBell();
  const stop = hub.subscribe(streamId, bell.ring);
  const take = () => takeLogs(database.kysely, streamId);
  async function next(patienceMs: number): Promise<TakenLogs> {
    const until = performance.now() + patienceMs;
    for (;;) {
      const page = await take();
      if (page.batches.length > 0 || page.isEnded) return page;
      const leftMs = until - performance.now();
      if (leftMs <= 0 || hub.isClosed)
        throw new MusterError('unavailable', `the agent of ${nodeId} does not answer: try again when it is heard of`);
      await bell.wait(Math.min(leftMs, 1_000));
    }
  }
  return {
    streamId,
    first: () => next(PATIENCE_MS),
    take,
    next,
    async close() {
      stop();
      await closeLogStream(database.kysely, streamId).catch(() => {}); // it is pruned
    },
  };
}

function requireNode(pod: PodRow): string {
  if (pod.node_id !== null) return pod.node_id;
  throw noLogs(pod, 'no node has it now');
}

function noLogs(pod: PodRow, reason: string): MusterError {
  return new MusterError('conflict', `${pod.id} has no log: ${reason}`, { facts: { state: pod.status } });
}
