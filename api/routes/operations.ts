/** Routes of operations: seeing, watching and canceling them. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { isFinished } from '../../domain/operation.ts';
import { acceptCancel } from '../../db/accept-cancel.ts';
import { listEventsAfter } from '../../db/operation-log.ts';
import { findOperation, listOperations } from '../../db/operations.ts';
import {
  cancelBody,
  operation,
  operationListQuery,
  operationPage,
  type OperationEvent,
} from '../contract/operations.ts';
import { id } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { sendEvents, type StreamPage } from '../event-stream.ts';
import { operationLocation, operationReply } from '../replies/operation-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';
import { lastEventId, streamFeed } from '../stream-feed.ts';

const AREA = 'operations';
const operationParams = z.object({ id: id('operation') });

export const operationRoutes: Route[] = [
  route({
    method: 'get',
    path: '/operations',
    access: 'read',
    area: AREA,
    summary: 'List operations, newest first',
    query: operationListQuery,
    replies: { 200: operationPage },
    handle: async ({ query, caller, deps }) => {
      const { cursor, limit, ...filter } = query;
      const body = await pageByTime(
        { cursor, limit },
        (page) => listOperations(deps.database.kysely, { orgId: caller.orgId, ...filter, ...page }),
        (rows) => rows.map(operationReply),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/operations/:id',
    access: 'read',
    area: AREA,
    summary: 'Get an operation',
    params: operationParams,
    replies: { 200: operation },
    handle: async (call) => ({ status: 200, body: operationReply(await requireOperation(call)) }),
  }),
  route({
    method: 'get',
    path: '/operations/:id/events',
    access: 'read',
    area: AREA,
    summary: 'Events of an operation',
    description:
      'Server-Sent Events from the beginning, or after `Last-Event-ID`; ends when the operation is finished.',
    params: operationParams,
    replies: { 200: 'text/event-stream' },
    handle: async (call) => {
      await streamOperation(call);
      return undefined;
    },
  }),
  route({
    method: 'post',
    path: '/operations/:id/cancel',
    access: 'change',
    area: AREA,
    summary: 'Cancel an operation',
    description: 'Queued: at once. Running: it stops and cleans up. What destroys is never canceled.',
    params: operationParams,
    body: cancelBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: z.object({ operation }) },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await acceptCancel(tx, deps.queue, {
          orgId: caller.orgId,
          operationId: params.id,
          actor,
          reason: body.reason ?? 'canceled on request',
        });
        return { status: 202, body: { operation: operationReply(row) }, location: operationLocation(row) };
      }),
  }),
  route({
    method: 'get',
    path: '/events',
    access: 'read',
    area: AREA,
    summary: 'Events of everything in my org',
    description:
      'Server-Sent Events of operations, and of pods (`pod`: one has another status), from now, or after `Last-Event-ID`. Never ends by itself.',
    replies: { 200: 'text/event-stream' },
    handle: async (call) => {
      await streamFeed(call, { orgId: call.caller.orgId }, { from: 'now', isOver: async () => false });
      return undefined;
    },
  }),
];

type OperationCall = Call<'read', z.output<typeof operationParams>>;

/** The caller's, or for the admin also what belongs to no org. */
async function requireOperation({ params, caller, deps }: Pick<OperationCall, 'params' | 'caller' | 'deps'>) {
  const row = await findOperation(deps.database.kysely, caller.isAdmin ? null : caller.orgId, params.id);
  if (!row || (row.org_id !== null && row.org_id !== caller.orgId)) {
    throw new MusterError('not_found', `there is no operation ${params.id}`);
  }
  return row;
}

async function streamOperation(
  call: Pick<OperationCall, 'params' | 'caller' | 'deps' | 'request' | 'response'>,
): Promise<void> {
  const { request, response, deps } = call;
  const db = deps.database.kysely;
  const { id: operationId } = await requireOperation(call);
  let seq = lastEventId(request, (text) => (/^\d{1,9}$/.test(text) ? Number(text) : null)) ?? 0;
  await sendEvents(
    request,
    response,
    {
      subscribe: (wake) => deps.hub.subscribe(operationId, wake),
      isClosed: () => deps.hub.isClosed,
      async read(limit): Promise<StreamPage> {
        const row = await findOperation(db, null, operationId); // before the events: its last one is among them
        const rows = await listEventsAfter(db, operationId, seq, limit);
        seq = rows.at(-1)?.seq ?? seq;
        const events = rows.map((event) => {
          const data: OperationEvent = {
            operationId,
            seq: event.seq,
            at: iso(event.at),
            type: event.type,
            data: event.data,
          };
          return { id: String(event.seq), type: event.type, data };
        });
        if (rows.length === limit) return { events, next: 'more' };
        return { events, next: !row || isFinished(row.status) ? 'end' : 'wait' };
      },
    },
    deps.heartbeatMs,
  );
}
