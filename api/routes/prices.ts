/** Routes of prices: floors over time, and as they change. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import {
  formatPricePosition,
  listPriceHistory,
  parsePricePosition,
  readPriceFeed,
  type PriceChange,
  type PricePoint as PricePointRow,
} from '../../db/price-pages.ts';
import { readFeedNow } from '../../db/event-feed.ts';
import { PRICES_WORD } from '../../db/prices.ts';
import {
  PRICE_BUCKETS,
  priceEventsQuery,
  priceHistoryQuery,
  pricePointPage,
  type PriceEvent,
  type PricePoint,
} from '../contract/prices.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { sendEvents, type StreamPage } from '../event-stream.ts';
import { iso, microOrNull } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';
import { lastEventId } from '../stream-feed.ts';

const AREA = 'inventory';
const DAY_MS = 86_400_000;
const historyCursor = z.tuple([
  z.enum(PRICE_BUCKETS),
  z.iso.datetime(),
  z.string().max(64),
  z.string().max(64),
  z.boolean(),
]);

export const priceRoutes: Route[] = [
  route({
    method: 'get',
    path: '/prices/history',
    access: 'read',
    area: AREA,
    summary: 'Floors of a GPU over time, oldest first',
    description:
      'By hour or day, or each change. Hours in which no listing of a provider was believed have no point: what is not known is not a price.',
    query: priceHistoryQuery,
    replies: { 200: pricePointPage },
    handle: async ({ query, deps }) => {
      const { cursor, limit, bucket, from, to, ...filter } = query;
      const end = to === undefined ? new Date() : new Date(to);
      const start = from === undefined ? new Date(end.getTime() - DAY_MS) : new Date(from);
      if (start >= end) {
        throw new MusterError('invalid_request', 'from must be before to', {
          errors: [{ path: 'from', message: `must be before ${iso(end)}` }],
        });
      }
      const after = readCursor(historyCursor, cursor);
      if (after && after[0] !== bucket) {
        throw new MusterError('invalid_request', 'cursor belongs to another bucket', {
          errors: [{ path: 'cursor', message: `belongs to a history by ${after[0]}` }],
        });
      }
      const gpu = await deps.gpus.resolve(filter.gpu);
      const rows = await listPriceHistory(deps.database.kysely, {
        ...filter,
        gpu,
        bucket,
        from: start,
        to: end,
        limit: limit + 1,
        ...(after
          ? { after: { at: new Date(after[1]), provider: after[2], gpuKey: after[3], interruptible: after[4] } }
          : {}),
      });
      const position = (row: PricePointRow) => [bucket, iso(row.at), row.provider, row.gpuKey, row.interruptible];
      return { status: 200, body: cutPage(rows, limit, position, pointReply) };
    },
  }),
  route({
    method: 'get',
    path: '/prices/events',
    access: 'read',
    area: AREA,
    summary: 'Each changed floor per GPU and provider',
    description:
      'Server-Sent Events of the type `price` (their data is a PriceEvent) from now, or after `Last-Event-ID`. Never ends by itself.',
    query: priceEventsQuery,
    replies: { 200: 'text/event-stream' },
    handle: async (call) => {
      await streamPrices(call);
      return undefined;
    },
  }),
];

async function streamPrices({
  query,
  request,
  response,
  deps,
}: Call<'read', unknown, z.output<typeof priceEventsQuery>>): Promise<void> {
  const db = deps.database.kysely;
  const { gpu, ...others } = query;
  const resumed = lastEventId(request, parsePricePosition);
  const since = resumed ? undefined : await readFeedNow(db);
  const filter = {
    ...others,
    ...(gpu === undefined ? {} : { gpu: await deps.gpus.resolve(gpu) }),
    ...(since ? { since } : {}),
  };
  let position = resumed ?? { xid: since?.xid ?? '0', seq: '0' };
  await sendEvents(
    request,
    response,
    {
      subscribe: (wake) => deps.hub.subscribe(PRICES_WORD, wake),
      isClosed: () => deps.hub.isClosed,
      async read(limit): Promise<StreamPage> {
        const { changes, isSettled } = await readPriceFeed(db, filter, position, limit);
        position = changes.at(-1) ?? position;
        return {
          events: changes.map((change) => ({
            id: formatPricePosition(change),
            type: 'price',
            data: eventReply(change),
          })),
          next: changes.length === limit ? 'more' : isSettled ? 'wait' : 'soon',
        };
      },
    },
    deps.heartbeatMs,
  );
}

function pointReply(row: PricePointRow): PricePoint {
  return {
    at: iso(row.at),
    provider: row.provider,
    gpu: row.gpu,
    interruptible: row.interruptible,
    floorMicroUsdPerGpuHour: microOrNull(row.floor),
    lowMicroUsdPerGpuHour: microOrNull(row.low),
    highMicroUsdPerGpuHour: microOrNull(row.high),
    samples: row.samples,
  };
}

function eventReply(change: PriceChange): PriceEvent {
  return {
    at: iso(change.at),
    provider: change.provider,
    gpu: change.gpu,
    interruptible: change.interruptible,
    floorMicroUsdPerGpuHour: microOrNull(change.floor),
    previousMicroUsdPerGpuHour: microOrNull(change.previous),
  };
}
