/** Routes of findings: the differences between recorded and observed, and what people do about them. */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import type { FindingAction } from '../../domain/finding.ts';
import { toBase32 } from '../../domain/ids.ts';
import { resolveLifetime } from '../../domain/lifetime.ts';
import { acceptAdopt } from '../../db/accept-adopt.ts';
import { acceptDriftRepair } from '../../db/accept-drift-repair.ts';
import { acceptFoundDestroy } from '../../db/accept-found-destroy.ts';
import { listAttemptsOfInstances } from '../../db/attempts.ts';
import { auditRow } from '../../db/audit.ts';
import type { Executor, Tx } from '../../db/database.ts';
import { changeFinding, findFinding, listFindings, lockFinding, type FindingRow } from '../../db/findings.ts';
import type { OperationRow } from '../../db/operations.ts';
import { findOrg } from '../../db/orgs.ts';
import { lockStack, type StackRow } from '../../db/stacks.ts';
import { readUsageOfAttempts } from '../../db/usage.ts';
import type { ApiContext } from '../api-deps.ts';
import type { Caller } from '../caller.ts';
import {
  finding,
  findingAdoptAccepted,
  findingAdoptBody,
  findingDestroyAccepted,
  findingDestroyBody,
  findingIgnoreBody,
  findingListQuery,
  findingPage,
  findingRepairAccepted,
  findingRepairBody,
  type Finding,
} from '../contract/findings.ts';
import { id } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { actionsOf, findingReply } from '../replies/finding-reply.ts';
import { instanceReply } from '../replies/instance-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'fleet';
const findingParams = z.object({ id: id('finding') });

export const findingRoutes: Route[] = [
  route({
    method: 'get',
    path: '/findings',
    access: 'read',
    area: AREA,
    summary: 'List differences between recorded and observed, newest first',
    description: "The deployment's admin also sees those of no org and of other orgs.",
    query: findingListQuery,
    replies: { 200: findingPage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const { cursor, limit, ...filter } = query;
      const wanted = {
        orgId: caller.isAdmin ? null : caller.orgId,
        ...(filter.status === undefined ? {} : { status: filter.status }),
        ...(filter.class === undefined ? {} : { class: filter.class }),
        ...(filter.provider === undefined ? {} : { provider: filter.provider }),
        ...(filter.stackId === undefined ? {} : { stackId: filter.stackId }),
      };
      const body = await pageByTime(
        { cursor, limit },
        (page) => listFindings(db, { ...wanted, ...page }),
        async (rows) => rows.map(await prepareReply(db, rows)),
        (row) => row.first_seen_at,
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'post',
    path: '/findings/:id/destroy',
    access: 'change',
    area: AREA,
    summary: 'Destroy an orphan or a duplicate',
    description: 'An ordinary destroy operation: retried until the provider says not-found.',
    params: findingParams,
    body: findingDestroyBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: findingDestroyAccepted },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await requireAction(tx, caller, params.id, 'destroy');
        const operation = await acceptFoundDestroy(tx, deps.queue, {
          findingId: row.id,
          from: ['open', 'ignored'],
          actor,
          reason: body.reason ?? null,
          createdBy: caller.id,
        });
        if (operation === null) {
          throw new MusterError('conflict', `the machine of ${row.id} has a live instance by now: destroy that`, {
            facts: { state: row.status, class: row.class },
          });
        }
        return {
          status: 202,
          body: { operation: operationRefReply(operation), finding: await reload(tx, row.id) },
          location: operationLocation(operation),
        };
      }),
  }),
  route({
    method: 'post',
    path: '/findings/:id/adopt',
    access: 'change',
    area: AREA,
    summary: 'Keep an orphan: make it the machine of a new instance',
    description:
      'Counts against the caps like a request. The machine keeps its label and its price; it is verified like any rented one (running, SSH with our key, the GPUs) and destroyed if it does not come up.',
    params: findingParams,
    body: findingAdoptBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: findingAdoptAccepted },
    problems: ['conflict', 'cap_exceeded'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await requireAction(tx, caller, params.id, 'adopt');
        const { operation, instance } = await acceptAdopt(tx, deps.queue, {
          finding: row,
          actor,
          orgId: await orgFor(tx, caller, row, body.orgId),
          name: body.name ?? `adopted-${toBase32(randomBytes(4)).slice(0, 6)}`,
          consumer: body.consumer ?? null,
          ...lifetimeFor(body, caller, deps),
          bootTimeoutMs: deps.bootTimeoutMs,
          reason: body.reason ?? null,
        });
        const attempts = await listAttemptsOfInstances(tx, [instance.id]);
        return {
          status: 202,
          body: {
            operation: operationRefReply(operation),
            finding: await reload(tx, row.id),
            instance: instanceReply(instance, attempts, new Map(), Date.now()),
          },
          location: operationLocation(operation),
        };
      }),
  }),
  route({
    method: 'post',
    path: '/findings/:id/repair',
    access: 'change',
    area: AREA,
    summary: "Undo a stack's drift",
    description: 'An ordinary up after a refresh: planned first, held to policies and ceiling.',
    params: findingParams,
    body: findingRepairBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: findingRepairAccepted },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        // Whoever looks for drift holds the stack before its findings.
        const stackId = (await findFinding(tx, params.id))?.stack_id ?? null;
        const stack = stackId === null ? undefined : await lockStack(tx, stackId);
        const row = await requireAction(tx, caller, params.id, 'repair');
        const order = { finding: row, stack: stack as StackRow, actor, reason: body.reason ?? null };
        const operation = (await acceptDriftRepair(tx, deps.queue, order)) as OperationRow;
        return {
          status: 202,
          body: { operation: operationRefReply(operation), finding: await reload(tx, row.id) },
          location: operationLocation(operation),
        };
      }),
  }),
  route({
    method: 'post',
    path: '/findings/:id/ignore',
    access: 'change',
    area: AREA,
    summary: 'Ignore a finding, for good or for a time',
    description:
      'Its machine goes on billing; it can still be destroyed or adopted. Drift stays as it is, also where its stack repairs by itself.',
    params: findingParams,
    body: findingIgnoreBody,
    replies: { 200: finding },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireAction(tx, caller, params.id, 'ignore');
        const until = body.until === undefined ? null : new Date(body.until);
        if (until !== null && until.getTime() <= Date.now()) {
          throw new MusterError('invalid_request', `until must be in the future, got ${body.until}`, {
            errors: [{ path: 'until', message: 'must be in the future' }],
          });
        }
        await changeFinding(tx, row.id, {
          status: 'ignored',
          from: ['open'],
          reason: body.reason,
          ignoredUntil: until,
        });
        await auditIgnored(tx, actor, row, body.reason);
        return { status: 200, body: await reload(tx, row.id) };
      }),
  }),
];

/** The caller's finding (the admin's: any) that allows the action now; its row is held. */
async function requireAction(tx: Tx, caller: Caller, findingId: string, action: FindingAction): Promise<FindingRow> {
  const row = await lockFinding(tx, findingId);
  if (!row || (!caller.isAdmin && row.org_id !== caller.orgId)) {
    throw new MusterError('not_found', `there is no finding ${findingId}`);
  }
  if (!actionsOf(row).includes(action)) {
    throw new MusterError(
      'conflict',
      `${row.id} is ${row.status} and of the class ${row.class}: it allows ${actionsOf(row).join(', ') || 'nothing'}, not ${action}`,
      { facts: { state: row.status, class: row.class } },
    );
  }
  return row;
}

async function orgFor(tx: Tx, caller: Caller, row: FindingRow, asked: string | undefined): Promise<string> {
  const orgId = asked ?? row.org_id ?? caller.orgId;
  if (!caller.isAdmin && orgId !== caller.orgId) {
    throw new MusterError('forbidden', "only the deployment's admin may adopt for another org");
  }
  if (asked !== undefined && !(await findOrg(tx, asked))) {
    throw new MusterError('invalid_request', `there is no org ${asked}`, {
      errors: [{ path: 'orgId', message: 'there is no such org' }],
    });
  }
  return orgId;
}

function lifetimeFor(
  body: z.output<typeof findingAdoptBody>,
  caller: Caller,
  deps: ApiContext,
): { lifetimeMs: number | null; overrideReason: string | null } {
  const requested = body.maxLifetime === undefined ? undefined : parseDuration(body.maxLifetime);
  return resolveLifetime(requested, {
    maxLifetimeMs: deps.maxLifetimeMs,
    role: caller.role,
    overrideReason: body.overrideReason,
  });
}

async function reload(tx: Tx, findingId: string): Promise<Finding> {
  const row = (await findFinding(tx, findingId)) as FindingRow;
  return (await prepareReply(tx, [row]))(row);
}

async function prepareReply(executor: Executor, rows: FindingRow[]): Promise<(row: FindingRow) => Finding> {
  const ids = rows.flatMap((row) => (row.attempt_id === null ? [] : [row.attempt_id]));
  const usage = await readUsageOfAttempts(executor, [...new Set(ids)]);
  const now = Date.now();
  return (row) => findingReply(row, usage.get(row.attempt_id ?? '') ?? [], now);
}

function auditIgnored(tx: Tx, actor: Call['actor'], row: FindingRow, reason: string | undefined): Promise<void> {
  return auditRow(tx, actor, row, 'finding.ignore', {
    class: row.class,
    provider: row.provider,
    providerInstanceId: row.provider_instance_id,
    ...(row.stack_id === null ? {} : { stack: row.stack_id }),
    ...(reason ? { reason } : {}),
  });
}
