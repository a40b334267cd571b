/** Streams of the event feed: events of many operations to one client, resumable by Last-Event-ID. */
import { MusterError } from '../domain/error-table.ts';
import {
  FEED_START,
  formatPosition,
  parsePosition,
  readFeed,
  readFeedNow,
  type FeedEvent,
  type FeedFilter,
} from '../db/event-feed.ts';
import type { OperationEvent } from './contract/operations.ts';
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
        const { events, isSettled } = await readFeed(db, wanted, position, limit);
        position = events.at(-1) ?? position;
        const next = events.length === limit ? 'more' : !isSettled ? 'soon' : isOver ? 'end' : 'wait';
        return { events: events.map(toStreamEvent), next };
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
