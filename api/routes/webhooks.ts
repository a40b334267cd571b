/** Routes of webhooks: who is told what happens, and what they were told. The telling is a cron's. */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import { isPublicAddress } from '../../domain/public-address.ts';
import { formatWebhookSecret } from '../../domain/webhook.ts';
import { auditRow } from '../../db/audit.ts';
import type { Executor, Tx } from '../../db/database.ts';
import {
  insertTestDelivery,
  listDeliveries,
  lockDelivery,
  redeliver,
  type DeliveryRow,
} from '../../db/webhook-deliveries.ts';
import {
  changeWebhook,
  countWebhooks,
  deleteWebhook,
  findWebhook,
  insertWebhook,
  listWebhooks,
  rotateWebhookSecret,
  type WebhookRow,
} from '../../db/webhooks.ts';
import type { ApiContext } from '../api-deps.ts';
import {
  changeWebhookBody,
  createWebhookBody,
  delivery,
  deliveryListQuery,
  deliveryPage,
  madeWebhook,
  rotateWebhookBody,
  webhook,
  webhookPage,
  type Delivery,
  type Webhook,
} from '../contract/webhooks.ts';
import { id, pageQuery } from '../contract/values.ts';
import { cutPage, pageByTime, readCursor } from '../cursor.ts';
import { iso, isoOrNull } from '../reply-values.ts';
import { API_PREFIX, route, type Call, type Route } from '../route.ts';

const AREA = 'webhooks';
/** Every change of every object is written once for each. */
const MAX_WEBHOOKS = 20;
const webhookParams = z.object({ id: id('webhook') });
const deliveryParams = z.object({ id: id('webhook'), deliveryId: id('delivery') });

export const webhookRoutes: Route[] = [
  route({
    method: 'post',
    path: '/webhooks',
    access: 'change',
    area: AREA,
    summary: 'Tell an address what happens',
    description:
      'Requests are signed after the Standard Webhooks specification (`webhook-id`, `webhook-timestamp`, `webhook-signature`) with the secret that this reply alone shows. Each event is delivered at least once, those of one object in their order; refuse what is older than five minutes, and ids that you have seen. Any answer of 200 to 299 takes it; others are tried again with backoff for most of a day.',
    body: createWebhookBody,
    replies: { 201: madeWebhook },
    problems: ['conflict'],
    handle: ({ body, caller, actor, deps }) => {
      assertReachable(body.url, deps);
      if (body.includesDeployment && !caller.isAdmin) {
        throw new MusterError('forbidden', "only the deployment's admin is told what belongs to no org");
      }
      return deps.database.kysely.transaction().execute(async (tx) => {
        if ((await countWebhooks(tx, caller.orgId)) >= MAX_WEBHOOKS) {
          throw new MusterError('conflict', `an org has at most ${MAX_WEBHOOKS} webhooks`, {
            facts: { max: MAX_WEBHOOKS },
          });
        }
        const secret = formatWebhookSecret(randomBytes(32));
        const row = await insertWebhook(tx, deps.envelope, {
          orgId: caller.orgId,
          url: body.url,
          description: body.description ?? null,
          events: body.events,
          includesDeployment: body.includesDeployment,
          secret,
          createdBy: caller.id,
        });
        await auditWebhook(tx, actor, row, 'webhook.create', { events: row.events });
        return {
          status: 201,
          body: { ...webhookReply(row), secret },
          location: `${API_PREFIX}/webhooks/${row.id}`,
        };
      });
    },
  }),
  route({
    method: 'get',
    path: '/webhooks',
    access: 'read',
    area: AREA,
    summary: 'List webhooks, newest first',
    query: pageQuery,
    replies: { 200: webhookPage },
    handle: async ({ query, caller, deps }) => {
      const body = await pageByTime(
        query,
        (page) => listWebhooks(deps.database.kysely, caller.orgId, page),
        (rows) => rows.map(webhookReply),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/webhooks/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a webhook',
    params: webhookParams,
    replies: { 200: webhook },
    handle: async ({ params, caller, deps }) => {
      const row = await requireWebhook(deps.database.kysely, caller.orgId, params.id);
      return { status: 200, body: webhookReply(row) };
    },
  }),
  route({
    method: 'patch',
    path: '/webhooks/:id',
    access: 'change',
    area: AREA,
    summary: 'Change a webhook, disable or enable it',
    params: webhookParams,
    body: changeWebhookBody,
    replies: { 200: webhook },
    handle: ({ params, body, caller, actor, deps }) => {
      if (body.url !== undefined) assertReachable(body.url, deps);
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireWebhook(tx, caller.orgId, params.id);
        const { url, events, description, enabled } = body;
        const changed = await changeWebhook(tx, row.id, {
          ...(url === undefined ? {} : { url }),
          ...(events === undefined ? {} : { events }),
          ...(description === undefined ? {} : { description }),
          ...(enabled === undefined ? {} : { enabled }),
        });
        await auditWebhook(tx, actor, row, 'webhook.change', { changed: Object.keys(body).sort() });
        return { status: 200, body: webhookReply(changed) };
      });
    },
  }),
  route({
    method: 'delete',
    path: '/webhooks/:id',
    access: 'change',
    area: AREA,
    summary: 'Delete a webhook with its log',
    params: webhookParams,
    replies: { 204: null },
    handle: ({ params, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireWebhook(tx, caller.orgId, params.id);
        await deleteWebhook(tx, row.id);
        await auditWebhook(tx, actor, row, 'webhook.delete', {});
        return { status: 204 };
      }),
  }),
  route({
    method: 'post',
    path: '/webhooks/:id/rotate',
    access: 'change',
    area: AREA,
    summary: 'Give it a new secret',
    description: 'The present one signs beside it until `overlap` is over, so that no delivery is refused meanwhile.',
    params: webhookParams,
    body: rotateWebhookBody,
    isBodyOptional: true,
    replies: { 200: madeWebhook },
    handle: ({ params, body, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireWebhook(tx, caller.orgId, params.id);
        const secret = formatWebhookSecret(randomBytes(32));
        const overlapMs = parseDuration(body.overlap) as number;
        const changed = await rotateWebhookSecret(tx, deps.envelope, row, secret, overlapMs);
        await auditWebhook(tx, actor, row, 'webhook.rotate', { overlap: body.overlap });
        return { status: 200, body: { ...webhookReply(changed), secret } };
      }),
  }),
  route({
    method: 'post',
    path: '/webhooks/:id/test',
    access: 'change',
    area: AREA,
    summary: 'Send it a test event',
    description:
      'Of the type `webhook.test`, whatever it wants and whether it is enabled or not; its delivery shows what came of it.',
    params: webhookParams,
    body: z.strictObject({}),
    isBodyOptional: true,
    replies: { 202: delivery },
    handle: ({ params, caller, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireWebhook(tx, caller.orgId, params.id);
        const made = await insertTestDelivery(tx, row, caller.id);
        return { status: 202, body: deliveryReply(made) };
      }),
  }),
  route({
    method: 'get',
    path: '/webhooks/:id/deliveries',
    access: 'read',
    area: AREA,
    summary: 'List what it was told, newest first',
    description: 'Kept for 30 days.',
    params: webhookParams,
    query: deliveryListQuery,
    replies: { 200: deliveryPage },
    handle: async ({ params, query, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await requireWebhook(db, caller.orgId, params.id);
      const before = readCursor(z.tuple([z.string().regex(/^\d{1,18}$/)]), query.cursor);
      const rows = await listDeliveries(db, {
        webhookId: row.id,
        status: query.status,
        limit: query.limit + 1,
        beforeSeq: before?.[0],
      });
      return { status: 200, body: cutPage(rows, query.limit, (one) => [one.seq.toString()], deliveryReply) };
    },
  }),
  route({
    method: 'post',
    path: '/webhooks/:id/deliveries/:deliveryId/redeliver',
    access: 'change',
    area: AREA,
    summary: 'Deliver it again',
    description: 'With the same id. Later events of the same object wait for it.',
    params: deliveryParams,
    body: z.strictObject({}),
    isBodyOptional: true,
    replies: { 202: delivery },
    problems: ['conflict'],
    handle: ({ params, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireWebhook(tx, caller.orgId, params.id);
        const told = await lockDelivery(tx, row.id, params.deliveryId);
        if (!told) throw new MusterError('not_found', `there is no delivery ${params.deliveryId}`);
        const problem =
          told.status === 'pending' ? `${told.id} is pending` : row.enabled ? null : `${row.id} is disabled`;
        if (problem !== null) {
          throw new MusterError('conflict', problem, { facts: { state: told.status, enabled: row.enabled } });
        }
        await auditWebhook(tx, actor, row, 'webhook.redeliver', { delivery: told.id });
        return { status: 202, body: deliveryReply(await redeliver(tx, told.id)) };
      }),
  }),
];

/** What can be refused at once; names are looked up and checked again whenever something is sent. */
function assertReachable(url: string, deps: ApiContext): void {
  if (deps.webhookTargets === 'any') return;
  const { protocol, hostname } = new URL(url);
  const isLiteral = /^\[|^[\d.]+$/.test(hostname);
  const message =
    protocol !== 'https:'
      ? 'must begin with https://'
      : (isLiteral && !isPublicAddress(hostname)) || /(^|\.)localhost\.?$/.test(hostname)
        ? `must lead to a public address, got ${hostname}`
        : null;
  if (message !== null)
    throw new MusterError('invalid_request', `url ${message}`, { errors: [{ path: 'url', message }] });
}

async function requireWebhook(executor: Executor, orgId: string, webhookId: string): Promise<WebhookRow> {
  const row = await findWebhook(executor, orgId, webhookId);
  if (!row) throw new MusterError('not_found', `there is no webhook ${webhookId}`);
  return row;
}

/** The address may hold a token in its path: only its host is written down. */
function auditWebhook(
  tx: Tx,
  actor: Call['actor'],
  row: WebhookRow,
  action: `webhook.${string}`,
  detail: Record<string, unknown>,
): Promise<void> {
  return auditRow(tx, actor, row, action, { host: new URL(row.url).host, ...detail });
}

function webhookReply(row: WebhookRow): Webhook {
  return {
    id: row.id,
    url: row.url,
    events: row.events,
    description: row.description,
    includesDeployment: row.includes_deployment,
    enabled: row.enabled,
    disabledReason: row.disabled_reason,
    failingSince: isoOrNull(row.failing_since),
    previousSecretUntil:
      row.previous_secret_until !== null && row.previous_secret_until.getTime() > Date.now()
        ? iso(row.previous_secret_until)
        : null,
    createdBy: row.created_by,
    createdAt: iso(row.created_at),
  };
}

function deliveryReply(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    type: row.type,
    object: { kind: row.object_kind, id: row.object_id },
    data: row.data as Record<string, unknown>,
    happenedAt: iso(row.happened_at),
    status: row.status,
    tries: row.tries,
    nextTryAt: row.status === 'pending' ? iso(row.next_at) : null,
    lastTryAt: isoOrNull(row.tried_at),
    responseStatus: row.response_status,
    responseExcerpt: row.response_excerpt,
    error: row.error,
    durationMs: row.duration_ms,
    finishedAt: isoOrNull(row.finished_at),
  };
}
