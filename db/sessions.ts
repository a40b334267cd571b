/** Sessions: a consumer's right to an instance for a time. Their status follows their instance's; setInstanceStatus calls followSession. */
import { sql, type Selectable } from 'kysely';
import type { InstanceStatus } from '../domain/instance.ts';
import { dueWarning, followInstance, isOver, reachedWarning, type SessionStatus } from '../domain/session.ts';
import type { Executor, Tx } from './database.ts';
import { appendEvents, lockOperation } from './operations.ts';
import type { Schema } from './schema.ts';

export type SessionRow = Selectable<Schema['sessions']>;

export interface NewSession {
  id: string;
  orgId: string;
  instanceId: string;
  consumer: string | null;
  purpose: string | null;
  offerId: string | null;
  maxLifetimeMs: number | null;
  overrideReason: string | null;
  expiresAt: Date | null;
  /** Of the pair made for it; null: its opener brought keys. The private key is sealed to the session. */
  sshKey: { publicKey: string; privateKeySealed: string } | null;
  openedBy: { id: string; userId: string | null };
}

export function insertSession(tx: Tx, session: NewSession): Promise<SessionRow> {
  return tx
    .insertInto('sessions')
    .values({
      id: session.id,
      org_id: session.orgId,
      instance_id: session.instanceId,
      consumer: session.consumer,
      purpose: session.purpose,
      offer_id: session.offerId,
      max_lifetime_ms: session.maxLifetimeMs === null ? null : BigInt(session.maxLifetimeMs),
      override_reason: session.overrideReason,
      expires_at: session.expiresAt,
      warned_minutes: session.expiresAt === null ? null : reachedWarning(session.expiresAt.getTime() - Date.now()),
      ssh_public_key: session.sshKey?.publicKey ?? null,
      ssh_private_key_sealed: session.sshKey?.privateKeySealed ?? null,
      opened_by: session.openedBy.id,
      opened_by_user: session.openedBy.userId,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** @returns undefined where there is none or it is another org's. */
export function findSession(executor: Executor, orgId: string, sessionId: string): Promise<SessionRow | undefined> {
  return executor
    .selectFrom('sessions')
    .selectAll()
    .where('id', '=', sessionId)
    .where('org_id', '=', orgId)
    .executeTakeFirst();
}

export function findSessionOfInstance(executor: Executor, instanceId: string): Promise<SessionRow | undefined> {
  return executor.selectFrom('sessions').selectAll().where('instance_id', '=', instanceId).executeTakeFirst();
}

export interface SessionFilter {
  orgId: string;
  status?: SessionStatus[] | undefined;
  consumer?: string | undefined;
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export function listSessions(executor: Executor, filter: SessionFilter): Promise<SessionRow[]> {
  let query = executor.selectFrom('sessions').selectAll().where('org_id', '=', filter.orgId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.consumer !== undefined) query = query.where('consumer', '=', filter.consumer);
  if (filter.before) {
    query = query.where(sql<boolean>`(created_at, id) < (${filter.before.createdAt}, ${filter.before.id})`);
  }
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

/** The caller holds its instance. `overrideReason` null keeps the one there is. */
export function setSessionExpiry(
  tx: Tx,
  sessionId: string,
  end: { expiresAt: Date; maxLifetimeMs: number | null; overrideReason: string | null },
): Promise<SessionRow> {
  return tx
    .updateTable('sessions')
    .set({
      expires_at: end.expiresAt,
      max_lifetime_ms: end.maxLifetimeMs === null ? null : BigInt(end.maxLifetimeMs),
      warned_minutes: reachedWarning(end.expiresAt.getTime() - Date.now()),
      updated_at: sql`now()`,
      ...(end.overrideReason === null ? {} : { override_reason: end.overrideReason }),
    })
    .where('id', '=', sessionId)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The instance has come to `status`: its session, if it has one, goes along. One that is over keeps no private key. */
export async function followSession(
  tx: Tx,
  instanceId: string,
  status: InstanceStatus,
  failureCode: string | null,
): Promise<void> {
  const session = await tx
    .selectFrom('sessions')
    .select(['id', 'status'])
    .where('instance_id', '=', instanceId)
    .forUpdate()
    .executeTakeFirst();
  if (!session) return;
  // One after the other: each is told to webhooks.
  for (const next of followInstance(session.status, status, failureCode)) {
    await tx
      .updateTable('sessions')
      .set({
        status: next,
        updated_at: sql`now()`,
        ...(next === 'open' ? { opened_at: sql<Date>`coalesce(opened_at, now())` } : {}),
        ...(isOver(next) ? { ended_at: sql<Date>`now()`, ssh_private_key_sealed: null } : {}),
      })
      .where('id', '=', session.id)
      .execute();
  }
}

/** Sessions whose end is near enough for the first warning. */
export function listExpiring(executor: Executor, now: Date, withinMs: number): Promise<SessionRow[]> {
  return executor
    .selectFrom('sessions')
    .selectAll()
    .where('status', 'in', ['opening', 'open'])
    .where('expires_at', '>', now)
    .where('expires_at', '<=', new Date(now.getTime() + withinMs))
    .orderBy('expires_at')
    .limit(500)
    .execute();
}

/** Tells of the end that comes: an event of its operation and, for webhooks, of the session; once however many ask. */
export async function warnSession(tx: Tx, sessionId: string, now: Date): Promise<boolean> {
  const { operation_id: operationId } = await tx
    .selectFrom('instances')
    .innerJoin('sessions', 'sessions.instance_id', 'instances.id')
    .select('operation_id')
    .where('sessions.id', '=', sessionId)
    .executeTakeFirstOrThrow();
  await lockOperation(tx, operationId);
  const session = await tx
    .selectFrom('sessions')
    .selectAll()
    .where('id', '=', sessionId)
    .where('status', 'in', ['opening', 'open'])
    .forUpdate()
    .executeTakeFirst();
  const expiresAt = session?.expires_at?.getTime() ?? null;
  const due = session ? dueWarning(expiresAt, session.warned_minutes, now.getTime()) : null;
  if (!session || due === null) return false;
  await tx.updateTable('sessions').set({ warned_minutes: due }).where('id', '=', sessionId).execute();
  const minutesLeft = Math.ceil(((expiresAt as number) - now.getTime()) / 60_000);
  const end = { minutesLeft, expiresAt: session.expires_at?.toISOString() };
  const told = { instanceId: session.instance_id, consumer: session.consumer, purpose: session.purpose, ...end };
  await sql`select record_webhook_event(${session.org_id}, 'session', ${sessionId}, 'expiring', ${JSON.stringify(told)}::jsonb)`.execute(
    tx,
  );
  const message = `the session ends in ${minutesLeft} minutes`;
  const data = { instanceId: session.instance_id, sessionId, message, ...end };
  await appendEvents(tx, operationId, [{ type: 'session_expiring', data }]);
  return true;
}
