/**
 * Deliveries: events on their way to webhooks. They are written by the triggers of migrations/0006-webhooks.ts, taken under a lease by
 * whoever delivers, and kept as the log. States: domain/webhook.ts. Each is delivered at least once: a receiver that answered while we
 * died is told again, with the same id.
 */
import { sql, type Selectable } from 'kysely';
import { TEST_EVENT, type DeliveryStatus, type Verdict } from '../domain/webhook.ts';
import { inTransaction, type Db, type Executor, type Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';
import { disableWebhook, type WebhookRow } from './webhooks.ts';

export type DeliveryRow = Selectable<Schema['webhook_deliveries']>;

export type DueDelivery = DeliveryRow & {
  webhook: Pick<
    WebhookRow,
    'id' | 'url' | 'secret_sealed' | 'previous_secret_sealed' | 'previous_secret_until' | 'failing_since'
  >;
};

/** Far above the longest try: past it the process that tried is dead. */
const LEASE_MS = 60_000;
/** Of one webhook at a time: one that is slow holds up nobody else. */
const MAX_OF_ONE = 4;

/** Due ones, each the earliest of its object that is not over, with a lease on them and the try counted. */
export async function takeDue(db: Db, limit: number): Promise<DueDelivery[]> {
  const { rows } = await sql<DeliveryRow>`
    with due as (
      select d.id, row_number() over (partition by d.webhook_id order by d.next_at, d.seq) as place
      from webhook_deliveries d join webhooks w on w.id = d.webhook_id
      where d.status = 'pending' and d.next_at <= now() and coalesce(d.leased_until <= now(), true)
        and (w.enabled or d.type = ${TEST_EVENT})
        and not exists (
          select from webhook_deliveries e
          where e.webhook_id = d.webhook_id and e.object_id = d.object_id and e.status = 'pending' and e.seq < d.seq)
        and (select count(*) from webhook_deliveries e
             where e.webhook_id = d.webhook_id and e.status = 'pending' and e.leased_until > now()) < ${MAX_OF_ONE}
    ), held as (
      select id from webhook_deliveries where id in (select id from due where place <= ${MAX_OF_ONE})
      order by next_at, seq limit ${limit} for update skip locked
    )
    update webhook_deliveries d
    set leased_until = now() + ${LEASE_MS} * interval '1 millisecond', tries = tries + 1, tried_at = now()
    from held
    where d.id = held.id and d.status = 'pending' and coalesce(d.leased_until <= now(), true)
    returning d.*`.execute(db);
  if (rows.length === 0) return [];
  const webhooks = await db
    .selectFrom('webhooks')
    .select(['id', 'url', 'secret_sealed', 'previous_secret_sealed', 'previous_secret_until', 'failing_since'])
    .where(
      'id',
      'in',
      rows.map((row) => row.webhook_id),
    )
    .execute();
  const byId = new Map(webhooks.map((webhook) => [webhook.id, webhook]));
  return rows.flatMap((row) => {
    const webhook = byId.get(row.webhook_id);
    return webhook ? [{ ...row, webhook }] : [];
  });
}

export async function hasDue(db: Db): Promise<boolean> {
  const row = await db
    .selectFrom('webhook_deliveries')
    .select('id')
    .where('status', '=', 'pending')
    .where('next_at', '<=', sql<Date>`now()`)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

export interface TryRecord {
  responseStatus: number | null;
  responseExcerpt: string | null;
  error: string | null;
  durationMs: number;
  verdict: Verdict;
  /** Until the next try, where there is one. */
  delayMs: number;
}

/** What a try came to. Dropped where the lease was lost meanwhile. @returns whether the webhook was disabled by it */
export function recordTry(db: Db, delivery: DeliveryRow, outcome: TryRecord): Promise<boolean> {
  const { verdict } = outcome;
  const status: DeliveryStatus =
    verdict.kind === 'again' ? 'pending' : verdict.kind === 'succeeded' ? 'succeeded' : 'failed';
  return inTransaction(db, async (tx) => {
    const row = await tx
      .updateTable('webhook_deliveries')
      .set({
        status,
        leased_until: null,
        response_status: outcome.responseStatus,
        response_excerpt: outcome.responseExcerpt,
        error: outcome.error,
        duration_ms: outcome.durationMs,
        next_at: sql`now() + ${outcome.delayMs} * interval '1 millisecond'`,
        finished_at: status === 'pending' ? null : sql<Date>`now()`,
      })
      .where('id', '=', delivery.id)
      .where('status', '=', 'pending')
      .where('tries', '=', delivery.tries)
      .returning('id')
      .executeTakeFirst();
    if (!row) return false;
    const isSuccess = verdict.kind === 'succeeded';
    await tx
      .updateTable('webhooks')
      .set({ failing_since: isSuccess ? null : sql<Date>`coalesce(failing_since, now())` })
      .where('id', '=', delivery.webhook_id)
      .where('failing_since', isSuccess ? 'is not' : 'is', null)
      .execute();
    return verdict.kind === 'disable' && disableWebhook(tx, delivery.webhook_id, verdict.reason);
  });
}

/** An event for one webhook only, whether it is enabled or not. */
export function insertTestDelivery(tx: Tx, webhook: WebhookRow, requestedBy: string): Promise<DeliveryRow> {
  return tx
    .insertInto('webhook_deliveries')
    .values({
      id: newId('delivery'),
      webhook_id: webhook.id,
      type: TEST_EVENT,
      object_kind: 'webhook',
      object_id: webhook.id,
      org_id: webhook.org_id,
      data: JSON.stringify({ requestedBy }),
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Holds the row. */
export function lockDelivery(tx: Tx, webhookId: string, deliveryId: string): Promise<DeliveryRow | undefined> {
  return tx
    .selectFrom('webhook_deliveries')
    .selectAll()
    .where('webhook_id', '=', webhookId)
    .where('id', '=', deliveryId)
    .forUpdate()
    .executeTakeFirst();
}

/** The same delivery again, from its first try on; its receiver knows it by its id. */
export function redeliver(tx: Tx, deliveryId: string): Promise<DeliveryRow> {
  return tx
    .updateTable('webhook_deliveries')
    .set({ status: 'pending', tries: 0, next_at: sql`now()`, leased_until: null, finished_at: null })
    .where('id', '=', deliveryId)
    .returningAll()
    .executeTakeFirstOrThrow();
}

export interface DeliveryFilter {
  webhookId: string;
  status?: DeliveryStatus[] | undefined;
  limit: number;
  beforeSeq?: string | undefined;
}

/** The log, newest first. */
export function listDeliveries(executor: Executor, filter: DeliveryFilter): Promise<DeliveryRow[]> {
  let query = executor.selectFrom('webhook_deliveries').selectAll().where('webhook_id', '=', filter.webhookId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.beforeSeq !== undefined) query = query.where('seq', '<', BigInt(filter.beforeSeq));
  return query.orderBy('seq', 'desc').limit(filter.limit).execute();
}
