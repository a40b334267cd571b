/** Webhooks: addresses of others that want to be told. What is told to them are their deliveries: webhook-deliveries.ts. */
import { sql, type Selectable } from 'kysely';
import type { WebhookFilter } from '../domain/webhook.ts';
import type { Envelope } from '../secrets/envelope.ts';
import { identityAt } from '../secrets/sealed-place.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type WebhookRow = Selectable<Schema['webhooks']>;

export interface NewWebhook {
  orgId: string;
  url: string;
  description: string | null;
  events: readonly WebhookFilter[];
  includesDeployment: boolean;
  /** As shown, once. */
  secret: string;
  createdBy: string;
}

export function insertWebhook(tx: Tx, envelope: Envelope, webhook: NewWebhook): Promise<WebhookRow> {
  const id = newId('webhook');
  return tx
    .insertInto('webhooks')
    .values({
      id,
      org_id: webhook.orgId,
      url: webhook.url,
      description: webhook.description,
      events: [...webhook.events],
      includes_deployment: webhook.includesDeployment,
      secret_sealed: envelope.seal(webhook.secret, identityAt('webhooks.secret_sealed', id)),
      created_by: webhook.createdBy,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

export async function countWebhooks(executor: Executor, orgId: string): Promise<number> {
  const row = await executor
    .selectFrom('webhooks')
    .select(sql<bigint>`count(*)`.as('count'))
    .where('org_id', '=', orgId)
    .executeTakeFirstOrThrow();
  return Number(row.count);
}

/** @returns undefined where there is none or it is another org's. */
export function findWebhook(executor: Executor, orgId: string, webhookId: string): Promise<WebhookRow | undefined> {
  return executor
    .selectFrom('webhooks')
    .selectAll()
    .where('id', '=', webhookId)
    .where('org_id', '=', orgId)
    .executeTakeFirst();
}

/** Newest first. */
export function listWebhooks(
  executor: Executor,
  orgId: string,
  page: { limit: number; before?: { createdAt: Date; id: string } },
): Promise<WebhookRow[]> {
  let query = executor.selectFrom('webhooks').selectAll().where('org_id', '=', orgId);
  if (page.before) query = query.where(sql<boolean>`(created_at, id) < (${page.before.createdAt}, ${page.before.id})`);
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(page.limit).execute();
}

export interface WebhookChange {
  url?: string;
  description?: string | null;
  events?: readonly WebhookFilter[];
  enabled?: boolean;
}

/** Enabling forgives what failed; disabling cancels what is pending. */
export async function changeWebhook(tx: Tx, webhookId: string, change: WebhookChange): Promise<WebhookRow> {
  const { events, enabled, ...rest } = change;
  const row = await tx
    .updateTable('webhooks')
    .set({
      ...rest,
      ...(events === undefined ? {} : { events: [...events] }),
      ...(enabled === undefined
        ? {}
        : { enabled, failing_since: null, disabled_reason: enabled ? null : 'disabled on request' }),
      updated_at: sql`now()`,
    })
    .where('id', '=', webhookId)
    .returningAll()
    .executeTakeFirstOrThrow();
  if (enabled === false) await cancelPending(tx, webhookId);
  return row;
}

/** By itself, for what its receiver did. @returns whether it was enabled until now */
export async function disableWebhook(tx: Tx, webhookId: string, reason: string): Promise<boolean> {
  const row = await tx
    .updateTable('webhooks')
    .set({ enabled: false, disabled_reason: reason, updated_at: sql`now()` })
    .where('id', '=', webhookId)
    .where('enabled', '=', true)
    .returning('id')
    .executeTakeFirst();
  await cancelPending(tx, webhookId);
  return row !== undefined;
}

async function cancelPending(tx: Tx, webhookId: string): Promise<void> {
  await tx
    .updateTable('webhook_deliveries')
    .set({ status: 'canceled', finished_at: sql`now()`, leased_until: null })
    .where('webhook_id', '=', webhookId)
    .where('status', '=', 'pending')
    .execute();
}

/** With all its deliveries. */
export async function deleteWebhook(tx: Tx, webhookId: string): Promise<void> {
  await tx.deleteFrom('webhooks').where('id', '=', webhookId).execute();
}

/** The present secret goes on signing beside the new one for `overlapMs`; 0: not at all. */
export function rotateWebhookSecret(
  tx: Tx,
  envelope: Envelope,
  row: WebhookRow,
  secret: string,
  overlapMs: number,
): Promise<WebhookRow> {
  return tx
    .updateTable('webhooks')
    .set({
      secret_sealed: envelope.seal(secret, identityAt('webhooks.secret_sealed', row.id)),
      previous_secret_sealed: overlapMs > 0 ? row.secret_sealed : null,
      previous_secret_until: overlapMs > 0 ? sql<Date>`now() + ${overlapMs} * interval '1 millisecond'` : null,
      updated_at: sql`now()`,
    })
    .where('id', '=', row.id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The secrets that count at `now`, the present one first. Throws SealError where the master key is another. */
export function openWebhookSecrets(
  envelope: Envelope,
  row: Pick<WebhookRow, 'id' | 'secret_sealed' | 'previous_secret_sealed' | 'previous_secret_until'>,
  now: Date,
): string[] {
  const sealed = [row.secret_sealed];
  if (row.previous_secret_sealed !== null && row.previous_secret_until !== null && row.previous_secret_until > now) {
    sealed.push(row.previous_secret_sealed);
  }
  return sealed.map((one) => envelope.open(one, identityAt('webhooks.secret_sealed', row.id)));
}
