/** Routes of what the state service knows of a stack: its updates with their events, what it holds, and who holds it. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { priceState } from '../../domain/prices/state-price.ts';
import { acceptCancel } from '../../db/accept-cancel.ts';
import { findStackUpdate } from '../../db/accept-stack.ts';
import { findClusterOfStack } from '../../db/clusters.ts';
import { readToldEvents, readChanges } from '../../db/update-events.ts';
import { findUpdateOfStack, listUpdatesOfStack } from '../../db/update-history.ts';
import { stackCanceled, stackResources, stackUpdatePage, type StackUpdateEvent } from '../contract/stacks.ts';
import { pageQuery } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { sendEvents, type StreamPage } from '../event-stream.ts';
import { cancelHolder, readHeldState } from '../held-stack.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { stackUpdateReply } from '../replies/stack-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';
import { requireStack, stackParams } from '../stack-view.ts';
import { lastEventId } from '../stream-feed.ts';

const AREA = 'stacks';
const updateParams = stackParams.extend({ updateId: z.uuid() });

export const stackHistoryRoutes: Route[] = [
  route({
    method: 'get',
    path: '/stacks/:id/history',
    access: 'read',
    area: AREA,
    summary: 'Updates of a stack, newest first',
    description: "Of its operations and of persons' CLIs; previews are not among them.",
    params: stackParams,
    query: pageQuery,
    replies: { 200: stackUpdatePage },
    handle: async (call) => {
      const row = await requireStack(call);
      const db = call.deps.database.kysely;
      const body = await pageByTime(
        call.query,
        (page) => listUpdatesOfStack(db, row.id, page),
        async (rows) => {
          const ids = rows.map(({ id }) => id);
          const changes = await readChanges(db, ids);
          return rows.map((update) => stackUpdateReply(update, changes.get(update.id) ?? {}));
        },
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/stacks/:id/updates/:updateId/events',
    access: 'read',
    area: AREA,
    summary: 'What the engine tells of an update',
    description:
      'Server-Sent Events from the beginning, or after `Last-Event-ID`; ends when the update has ended. Values of resources are not in them.',
    params: updateParams,
    replies: { 200: 'text/event-stream' },
    handle: async (call) => {
      await requireStack(call);
      await streamUpdate(call);
      return undefined;
    },
  }),
  route({
    method: 'get',
    path: '/stacks/:id/resources',
    access: 'read',
    area: AREA,
    summary: 'What a stack holds, with its price',
    description: 'While an update runs: what it has written so far.',
    params: stackParams,
    replies: { 200: stackResources },
    problems: ['conflict'],
    handle: async (call) => {
      const row = await requireStack(call);
      const db = call.deps.database.kysely;
      const cluster = await findClusterOfStack(db, row.id);
      const { resources } = priceState(row.config, await readHeldState(db, row), cluster?.status === 'stopped');
      const items = resources.map(({ microUsdPerHour, ...one }) => ({ ...one, priceMicroUsdPerHour: microUsdPerHour }));
      return { status: 200, body: { items } };
    },
  }),
  route({
    method: 'post',
    path: '/stacks/:id/cancel',
    access: 'change',
    area: AREA,
    summary: 'Cancel what holds the stack',
    description:
      "An operation of ours stops and cleans up (202). The update of a person's CLI ends at once (200): what it had written is kept, it may write no more, and what waited for it begins. It is not interrupted: a create that runs there ends at the cloud.",
    params: stackParams,
    replies: { 200: stackCanceled, 202: stackCanceled },
    problems: ['conflict'],
    handle: async (call) => {
      const { caller, actor, deps } = call;
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireStack(call);
        const update = await cancelHolder(tx, row, actor);
        if (update) return { status: 200, body: { operation: null, update } };
        const underWay = await findStackUpdate(tx, row.id);
        if (!underWay) throw new MusterError('conflict', `no update of ${row.title} is under way`);
        const operation = await acceptCancel(tx, deps.queue, {
          orgId: caller.orgId,
          operationId: underWay.id,
          actor,
          reason: 'canceled by its stack',
        });
        const body = { operation: operationRefReply(operation), update: null };
        return { status: 202, body, location: operationLocation(operation) };
      });
    },
  }),
];

type UpdateCall = Pick<Call<'read', z.output<typeof updateParams>>, 'params' | 'deps' | 'request' | 'response'>;

async function streamUpdate({ params, deps, request, response }: UpdateCall): Promise<void> {
  const db = deps.database.kysely;
  const { id: stackId, updateId } = params;
  let sequence = lastEventId(request, (text) => (/^\d{1,9}$/.test(text) ? Number(text) : null)) ?? -1;
  await sendEvents(
    request,
    response,
    {
      subscribe: (wake) => deps.hub.subscribe(updateId, wake),
      isClosed: () => deps.hub.isClosed,
      async read(limit): Promise<StreamPage> {
        const update = await findUpdateOfStack(db, stackId, updateId); // before the events: its last one is among them
        if (!update && response.headersSent) return { events: [], next: 'end' };
        if (!update) throw new MusterError('not_found', `there is no update ${updateId} of this stack`);
        const { events, last, isPageFull } = await readToldEvents(db, update, { after: sequence, limit });
        sequence = last;
        const isOver = update.status !== 'running' && update.status !== 'not_started';
        return {
          events: events.map(({ sequence: number, at, type, data }) => {
            const told: StackUpdateEvent = { updateId, sequence: number, at: iso(at), type, data };
            return { id: String(number), type, data: told };
          }),
          next: isPageFull ? 'more' : isOver ? 'end' : 'wait',
        };
      },
    },
    deps.heartbeatMs,
  );
}
