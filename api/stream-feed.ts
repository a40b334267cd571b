/** Streams of the event feed: events of many operations and pods to one client, resumable by Last-Event-ID. */
import { MusterError } from '../domain/error-table.ts';
import type { Db } from '../db/database.ts';
import {
  FEED_START,
  formatPosition,
  parsePosition,
  readFeed,
  readFeedNow,
  type FeedEvent,
  type FeedFilter,
  type FeedPosition,
} from '../db/event-feed.ts';
import { readPodFeed, type PodFeedEvent } from '../db/pod-events.ts';
import type { OperationEvent } from './contract/operations.ts';
import type { PodEvent } from './contract/pods.ts';
import { sendEvents, type StreamEvent, type StreamPage } from './event-stream.ts';
import { iso } from './reply-values.ts';
import type { Call } from './route.ts';

export async function streamFeed(
  { request, response, deps }: Pick<Call, 'request' | 'response' | 'deps'>,
  filter: FeedFilter,
  options: { from: 'start' | 'now'; isOver: () => Promise<boolean> },
): Promise<void> {
  const db = deps.database.kysely;
  const resumed = lastEventId(request, parsePosition);
  const since = resumed || options.from === 'start' ? undefined : await readFeedNow(db);
  const wanted = since ? { ...filter, since } : filter;
  let position = resumed ?? { ...FEED_START, ...(since ? { xid: since.xid } : {}) };
  await sendEvents(
    request,
    response,
    {
      subscribe: (wake) => deps.hub.subscribe(null, wake),
      isClosed: () => deps.hub.isClosed,
      async read(limit): Promise<StreamPage> {
        const isOver = await options.isOver(); // before the events: what ended it is among them
        const { events, isSettled } = await readBoth(db, wanted, position, limit);
        position = events.at(-1)?.position ?? position;
        const next = events.length === limit ? 'more' : !isSettled ? 'soon' : isOver ? 'end' : 'wait';
        return { events: events.map(({ event }) => event), next };
      },
    },
    deps.heartbeatMs,
  );
}

/** Throws MusterError `malformed_request` for an id that none of our streams has given. */
export function lastEventId<T>(request: Call['request'], parse: (text: string) => T | null): T | null {
  const text = request.headers['last-event-id'];
  if (text === undefined || text === '') return null;
  const parsed = typeof text === 'string' ? parse(text) : null;
  if (parsed === null)
    throw new MusterError('malformed_request', 'Last-Event-ID is not the id of an event of this stream');
  return parsed;
}

interface Placed {
  position: FeedPosition;
  event: StreamEvent;
}

/** Of operations and of pods, in one order. Both are read up to one moment: what one of them could read a moment later is for the next page. */
async function readBoth(
  db: Db,
  filter: FeedFilter,
  after: FeedPosition,
  limit: number,
): Promise<{ events: Placed[]; isSettled: boolean }> {
  const bound = BigInt((await readFeedNow(db)).xid);
  const operations = await readFeed(db, filter, after, limit);
  const pods = await readPodFeed(db, filter, after, limit);
  const found = [...operations.events.map(placeOperationEvent), ...pods.events.map(placePodEvent)];
  const events = found.filter(({ position }) => BigInt(position.xid) < bound).sort(inOrder);
  const isSettled = operations.isSettled && pods.isSettled && events.length === found.length;
  return { events: events.slice(0, limit), isSettled };
}

function inOrder({ position: a }: Placed, { position: b }: Placed): number {
  if (a.xid !== b.xid) return BigInt(a.xid) < BigInt(b.xid) ? -1 : 1;
  if (a.operationId !== b.operationId) return a.operationId < b.operationId ? -1 : 1;
  return a.seq - b.seq;
}

function placeOperationEvent(event: FeedEvent): Placed {
  return { position: event, event: toStreamEvent(event) };
}

function placePodEvent({ xid, podId, seq, at, data }: PodFeedEvent): Placed {
  const position = { xid, operationId: podId, seq };
  const event: PodEvent = { podId, seq, at: iso(at), type: 'pod', data };
  return { position, event: { id: formatPosition(position), type: 'pod', data: event } };
}

function toStreamEvent(event: FeedEvent): StreamEvent {
  const data: OperationEvent = {
    operationId: event.operationId,
    seq: event.seq,
    at: iso(event.at),
    type: event.type,
    data: event.data,
  };
  return { id: formatPosition(event), type: event.type, data };
}
