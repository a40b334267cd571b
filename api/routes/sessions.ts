/** Routes of sessions: a machine for a while, opened by the ordinary provision and ended by the ordinary destroy. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { extendedLifetimeMs, resolveLifetime } from '../../domain/lifetime.ts';
import { allowedSessionActions, isOver } from '../../domain/session.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { acceptProvision } from '../../db/accept-provision.ts';
import { auditRow } from '../../db/audit.ts';
import type { Executor, Tx } from '../../db/database.ts';
import { setExpiry } from '../../db/instance-lifetime.ts';
import { findInstance, listInstancesById, lockInstance, type InstanceRow } from '../../db/instances.ts';
import { findSession, insertSession, listSessions, setSessionExpiry, type SessionRow } from '../../db/sessions.ts';
import { identityAt } from '../../secrets/sealed-place.ts';
import type { Caller } from '../caller.ts';
import {
  createSessionBody,
  extendSessionBody,
  session,
  sessionAccepted,
  sessionDiagnostics,
  sessionEnded,
  sessionListQuery,
  sessionPage,
  sessionSshKey,
  type CreateSession,
  type Session,
} from '../contract/sessions.ts';
import { provisionPlan } from '../contract/instances.ts';
import { agentNotes } from '../agent-note.ts';
import { id } from '../contract/values.ts';
import { endToMove } from '../extension.ts';
import { pageByTime } from '../cursor.ts';
import { viewInstance, viewInstances } from '../instance-view.ts';
import { holdToPlan } from '../plan-hold.ts';
import { awaitFreshOffers } from '../fresh-offers.ts';
import { previewOrder } from '../provision-preview.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { sessionReply } from '../replies/session-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Answer, type Call, type Route } from '../route.ts';
import { diagnose } from '../session-diagnostics.ts';
import { makeSessionKey, prepareSession, requireOffer, type SessionOrder } from '../session-order.ts';

const AREA = 'sessions';
const HOUR_MS = 3_600_000;
const sessionParams = z.object({ id: id('session') });

export const sessionRoutes: Route[] = [
  route({
    method: 'post',
    path: '/sessions',
    access: 'change',
    area: AREA,
    summary: 'Open a session: a machine for a while',
    description:
      'By an offer of the inventory (this one and nothing else is bought; 409 when it is gone) or by requirements. Answers at once; when it is open, `ssh` says how to reach the machine directly. With `dryRun` it answers the plan and buys nothing.',
    body: createSessionBody,
    isIdempotent: true,
    replies: { 200: provisionPlan, 202: sessionAccepted },
    problems: ['conflict', 'plan_changed', 'cap_exceeded'],
    handle: async (call) => {
      const { body, caller, deps, once } = call;
      if (body.dryRun) await awaitFreshOffers(deps, caller, body.requirements?.providers ?? []);
      const order = await prepareSession(body, caller, deps).catch((error: unknown) => {
        // Thrown below: a request repeated with its Idempotency-Key gets its first answer though the offer is gone by now.
        if (error instanceof MusterError && error.code === 'conflict' && !body.dryRun) return error;
        throw error;
      });
      if (order instanceof MusterError) return once(() => Promise.reject(order));
      if (body.dryRun) {
        const notes = agentNotes(deps, 'instance');
        return { status: 200, body: await previewOrder(deps.database.kysely, caller, order, notes) };
      }
      const sshKey = body.sshPublicKeys.length > 0 ? null : await makeSessionKey(order.sessionId, deps);
      return once((tx) => openSession(tx, call, body, order, sshKey));
    },
  }),
  route({
    method: 'get',
    path: '/sessions',
    access: 'read',
    area: AREA,
    summary: 'List sessions, newest first',
    query: sessionListQuery,
    replies: { 200: sessionPage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const { status, consumer } = query;
      const body = await pageByTime(
        query,
        (page) => listSessions(db, { orgId: caller.orgId, status, consumer, ...page }),
        (rows) => viewSessions(db, rows),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/sessions/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a session',
    params: sessionParams,
    replies: { 200: session },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await requireSession(db, caller, params.id);
      return { status: 200, body: (await viewSessions(db, [row]))[0] };
    },
  }),
  endRoute({ method: 'post', path: '/sessions/:id/done', summary: 'End a session: its machine is given back' }),
  endRoute({ method: 'delete', path: '/sessions/:id', summary: 'End a session, whatever becomes of it' }),
  route({
    method: 'post',
    path: '/sessions/:id/extend',
    access: 'change',
    area: AREA,
    summary: 'Move the end of a session',
    description: 'Up to its `maxLifetime` from its beginning; further needs the operator role and a reason.',
    params: sessionParams,
    body: extendSessionBody,
    isIdempotent: true,
    replies: { 200: session },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, once }) =>
      once(async (tx) => {
        const { row, instance } = await lockSession(tx, caller, params.id);
        const endsAt = endToMove(row, allowedSessionActions(row.status));
        const beginsAt = row.created_at.getTime();
        const byMs = Math.round(body.hours * HOUR_MS);
        const wantedMs = extendedLifetimeMs(beginsAt, endsAt.getTime(), byMs) as number;
        const boundMs = row.max_lifetime_ms === null ? null : Number(row.max_lifetime_ms);
        const { overrideReason } = resolveLifetime(wantedMs, {
          maxLifetimeMs: boundMs ?? wantedMs,
          role: caller.role,
          overrideReason: body.overrideReason,
          path: 'hours',
        });
        const expiresAt = new Date(beginsAt + wantedMs);
        const changed = await setSessionExpiry(tx, row.id, {
          expiresAt,
          maxLifetimeMs: boundMs === null ? null : Math.max(boundMs, wantedMs),
          overrideReason,
        });
        const moved = await setExpiry(tx, instance.id, expiresAt, overrideReason);
        await auditRow(tx, actor, row, 'session.extend', {
          hours: body.hours,
          expiresAt: iso(expiresAt),
          ...(overrideReason === null ? {} : { overrideReason }),
        });
        return { status: 200, body: sessionReply(changed, await viewInstance(tx, moved)) };
      }),
  }),
  route({
    method: 'get',
    path: '/sessions/:id/ssh-key',
    access: 'change',
    area: AREA,
    summary: 'Get the private key made for a session',
    description: 'Again and again until it is over, by who opened it or an owner of the org; each time is audited.',
    params: sessionParams,
    replies: { 200: sessionSshKey },
    problems: ['conflict'],
    handle: async ({ params, caller, actor, deps, response }) => {
      const db = deps.database.kysely;
      const row = await requireSession(db, caller, params.id);
      if (!isOpener(row, caller)) {
        throw new MusterError('forbidden', 'only who opened the session, or an owner of the org, gets its key');
      }
      if (row.ssh_private_key_sealed === null || row.ssh_public_key === null) {
        const why =
          row.ssh_public_key === null ? 'was opened with keys of your own' : 'is over, and its key is deleted';
        throw new MusterError('conflict', `${row.id} ${why}`, { facts: { state: row.status } });
      }
      const privateKey = deps.envelope.open(
        row.ssh_private_key_sealed,
        identityAt('sessions.ssh_private_key_sealed', row.id),
      );
      await auditRow(db, actor, row, 'session.ssh_key');
      response.setHeader('cache-control', 'no-store');
      return { status: 200, body: { privateKey, publicKey: row.ssh_public_key } };
    },
  }),
  route({
    method: 'get',
    path: '/sessions/:id/diagnostics',
    access: 'read',
    area: AREA,
    summary: 'What was tried and found',
    description:
      "Every attempt with the offers that were refused, the vendor's own words, what SSH and nvidia-smi said, findings, and what its operations recorded.",
    params: sessionParams,
    replies: { 200: sessionDiagnostics },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await requireSession(db, caller, params.id);
      const instance = (await findInstance(db, null, row.instance_id)) as InstanceRow;
      return { status: 200, body: await diagnose(db, row, instance) };
    },
  }),
];

async function openSession(
  tx: Tx,
  { caller, actor, deps }: Call<'change'>,
  body: CreateSession,
  order: SessionOrder,
  sshKey: { publicKey: string; privateKeySealed: string } | null,
): Promise<Answer> {
  // Once more, in the transaction that takes it: it may have gone meanwhile.
  if (body.offerId !== undefined) await requireOffer(tx, body.offerId);
  const { planHash, priceTolerancePercent: tolerancePercent } = body;
  const held =
    planHash === undefined
      ? order.request
      : await holdToPlan(tx, order, { orgId: caller.orgId, planHash, tolerancePercent });
  const request = sshKey === null ? held : { ...held, sshPublicKeys: [sshKey.publicKey] };
  const { operation, instances } = await acceptProvision(tx, deps.queue, {
    orgId: caller.orgId,
    actor,
    names: order.names,
    request,
    consumer: body.consumer ?? null,
    overrideReason: order.overrideReason,
    stackId: order.stackId,
  });
  const instance = instances[0] as InstanceRow;
  const row = await insertSession(tx, {
    id: order.sessionId,
    orgId: caller.orgId,
    instanceId: instance.id,
    consumer: body.consumer ?? null,
    purpose: body.purpose ?? null,
    offerId: body.offerId ?? null,
    maxLifetimeMs: order.maxLifetimeMs,
    overrideReason: order.overrideReason,
    expiresAt: instance.expires_at,
    sshKey,
    openedBy: { id: caller.id, userId: caller.userId },
  });
  await auditRow(tx, actor, row, 'session.open', {
    instance: instance.id,
    operation: operation.id,
    consumer: row.consumer,
    purpose: row.purpose,
    ...(row.offer_id === null ? {} : { offerId: row.offer_id }),
    ...(order.overrideReason === null ? {} : { overrideReason: order.overrideReason }),
  });
  return {
    status: 202,
    body: { operation: operationRefReply(operation), session: sessionReply(row, await viewInstance(tx, instance)) },
    location: operationLocation(operation),
  };
}

/** Asked again, the operation under way is answered; once it is over, none. */
function endRoute(spec: { method: 'post' | 'delete'; path: string; summary: string }): Route {
  return route({
    ...spec,
    access: 'change',
    area: AREA,
    description: 'Over once the provider says not-found; until then it is ending and may cost.',
    params: sessionParams,
    ...(spec.method === 'post' ? { body: z.strictObject({}), isBodyOptional: true } : {}),
    isIdempotent: true,
    replies: { 200: sessionEnded, 202: sessionEnded },
    handle: ({ params, caller, actor, deps, once }) =>
      once(async (tx) => {
        const seen = await requireSession(tx, caller, params.id);
        if (isOver(seen.status)) {
          return { status: 200, body: { operation: null, session: (await viewSessions(tx, [seen]))[0] } };
        }
        const { operation, instance } = await acceptDestroy(tx, deps.queue, {
          orgId: caller.orgId,
          instanceId: seen.instance_id,
          actor,
          reason: 'the session was ended on request',
        });
        const row = await requireSession(tx, caller, params.id);
        if (seen.status !== 'ending') await auditRow(tx, actor, row, 'session.done', { operation: operation.id });
        return {
          status: 202,
          body: {
            operation: operationRefReply(operation),
            session: sessionReply(row, await viewInstance(tx, instance)),
          },
          location: operationLocation(operation),
        };
      }),
  });
}

async function requireSession(executor: Executor, caller: Caller, sessionId: string): Promise<SessionRow> {
  const row = await findSession(executor, caller.orgId, sessionId);
  if (!row) throw new MusterError('not_found', `there is no session ${sessionId}`);
  return row;
}

/** Holds the instance first, as everything does that ends it: the session follows it. */
async function lockSession(
  tx: Tx,
  caller: Caller,
  sessionId: string,
): Promise<{ row: SessionRow; instance: InstanceRow }> {
  const seen = await requireSession(tx, caller, sessionId);
  const instance = (await lockInstance(tx, seen.instance_id)) as InstanceRow;
  return { row: await requireSession(tx, caller, sessionId), instance };
}

async function viewSessions(executor: Executor, rows: SessionRow[]): Promise<Session[]> {
  const instances = await listInstancesById(
    executor,
    rows.map((row) => row.instance_id),
  );
  const views = new Map((await viewInstances(executor, instances)).map((view) => [view.id, view]));
  return rows.flatMap((row) => {
    const view = views.get(row.instance_id);
    return view ? [sessionReply(row, view)] : [];
  });
}

function isOpener(row: SessionRow, caller: Caller): boolean {
  if (caller.role === 'owner' || caller.id === row.opened_by) return true;
  return caller.userId !== null && caller.userId === row.opened_by_user;
}
