/** Routes of stacks: what people make of cloud resources, previewed with its price, then carried out. */
import { z } from 'zod';
import { isMadeClusterKind } from '../../domain/clusters/change.ts';
import { MusterError, type ErrorCode } from '../../domain/error-table.ts';
import { parseUsd } from '../../domain/money.ts';
import type { StackKind } from '../../domain/stack-kind.ts';
import {
  acceptStackOperation,
  findStackUpdate,
  refuseBesideChange,
  type StackOperationKind,
} from '../../db/accept-stack.ts';
import { findPlanOfOperation } from '../../db/stack-plans.ts';
import { changeStack, insertStack, listStacks, type NewStack, type StackRow } from '../../db/stacks.ts';
import { SECRET_CONFIG_FIELDS, STACK_CONFIG_SCHEMAS } from '../../stacks/schemas.ts';
import { agentNotes } from '../agent-note.ts';
import { recordCluster } from '../cluster-making.ts';
import { checkCredentials, nameTaken, ownerOf } from '../cluster-order.ts';
import { awaitOperation } from '../await-operation.ts';
import { operationAccepted } from '../contract/operations.ts';
import {
  changeStackBody,
  createStackBody,
  MADE_KINDS,
  previewStackBody,
  stack,
  stackAccepted,
  stackDrift,
  stackKinds,
  stackListQuery,
  stackOutputs,
  stackPage,
  stackPlan,
  upStackBody,
} from '../contract/stacks.ts';
import { id } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { stackPlanReply, stackReply } from '../replies/stack-reply.ts';
import { isoOrNull } from '../reply-values.ts';
import { route, type Route } from '../route.ts';
import { answerPlan } from '../stack-planning.ts';
import { changeStandbyConfig, lockStandbyOfStack } from '../standby-change.ts';
import { auditStack, holdStack, requireStack, stackParams, type StackCall } from '../stack-view.ts';

const AREA = 'stacks';

export const stackRoutes: Route[] = [
  route({
    method: 'get',
    path: '/stacks',
    access: 'read',
    area: AREA,
    summary: 'List stacks, newest first',
    query: stackListQuery,
    replies: { 200: stackPage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const { kind, status } = query;
      const filter = { orgId: caller.orgId, ...(kind ? { kind } : {}), ...(status ? { status } : {}) };
      const body = await pageByTime(
        query,
        (page) => listStacks(db, { ...filter, ...page }),
        (rows) => Promise.all(rows.map(async (row) => stackReply(row, await findStackUpdate(db, row.id)))),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/stacks/kinds',
    access: 'read',
    area: AREA,
    summary: 'The kinds of stack, each with the schema of its configuration',
    replies: { 200: stackKinds },
    handle: () =>
      Promise.resolve({
        status: 200,
        body: {
          items: MADE_KINDS.map((kind) => ({
            kind,
            config: z.toJSONSchema(STACK_CONFIG_SCHEMAS[kind], { io: 'input', unrepresentable: 'any' }),
          })),
        },
      }),
  }),
  route({
    method: 'post',
    path: '/stacks',
    access: 'change',
    area: AREA,
    summary: 'Record a stack',
    description:
      'Nothing is made yet: preview it, then up. One that makes a cluster (eks, aks, onprem) has its cluster from now on (`GET /clusters`).',
    body: createStackBody,
    isIdempotent: true,
    replies: { 201: stack },
    problems: ['conflict'],
    handle: async ({ body, caller, actor, once }) => {
      const config = parseConfig(body.kind, body.config);
      const { name, kind, costCentre, ceilingUsdPerHour, protect, onDrift } = body;
      return once(async (tx) => {
        const wanted: NewStack = {
          orgId: caller.orgId,
          kind,
          title: name,
          config,
          owner: body.owner ?? ownerOf(caller),
          costCentre,
          ceilingMicroUsdPerHour: ceilingUsdPerHour === undefined ? null : parseUsd(ceilingUsdPerHour),
          protect,
          onDrift,
          createdBy: caller.id,
        };
        await checkCredentials(tx, wanted, 'config.');
        const row = await insertStack(tx, wanted);
        if (row === null) throw nameTaken(name);
        await auditStack(tx, actor, row, 'stack.create');
        if (isMadeClusterKind(kind)) await recordCluster(tx, { caller, actor }, row, kind);
        return { status: 201, body: stackReply(row, undefined), location: `/api/v1/stacks/${row.id}` };
      });
    },
  }),
  route({
    method: 'get',
    path: '/stacks/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a stack',
    params: stackParams,
    replies: { 200: stack },
    handle: async (call) => {
      const row = await requireStack(call);
      return { status: 200, body: stackReply(row, await findStackUpdate(call.deps.database.kysely, row.id)) };
    },
  }),
  route({
    method: 'patch',
    path: '/stacks/:id',
    access: 'change',
    area: AREA,
    summary: 'Change what a stack wants',
    description: 'Nothing is made by it: the next up carries it out.',
    params: stackParams,
    body: changeStackBody,
    replies: { 200: stack },
    problems: ['conflict'],
    handle: async (call) => {
      const { body, actor, deps } = call;
      return deps.database.kysely.transaction().execute(async (tx) => {
        const standby = body.config === undefined ? null : await lockStandbyOfStack(tx, call.params.id);
        const row = await holdStack(tx, call);
        if (body.config !== undefined) await refuseBesideChange(tx, row);
        const change = body.config && { wanted: parseConfig(row.kind, body.config), given: body.config };
        const config = standby && change ? await changeStandbyConfig(tx, standby, row, change) : change?.wanted;
        const changed = await changeStack(tx, row.id, {
          ...(config === undefined ? {} : { config }),
          ...(body.ceilingUsdPerHour === undefined
            ? {}
            : {
                ceilingMicroUsdPerHour: body.ceilingUsdPerHour === null ? null : parseUsd(body.ceilingUsdPerHour),
              }),
          ...(body.protect === undefined ? {} : { protect: body.protect }),
          ...(body.onDrift === undefined ? {} : { onDrift: body.onDrift }),
        });
        await auditStack(tx, actor, changed, 'stack.change');
        return { status: 200, body: stackReply(changed, await findStackUpdate(tx, row.id)) };
      });
    },
  }),
  route({
    method: 'post',
    path: '/stacks/:id/preview',
    access: 'change',
    area: AREA,
    summary: 'What an up or a destroy would change, and what it would cost',
    description:
      'Changes nothing. Answered when the preview is there; one that takes longer than a minute answers 202 with its operation, and its plan is `GET /stacks/:id/plans/:operationId`.',
    params: stackParams,
    body: previewStackBody,
    isBodyOptional: true,
    replies: { 200: stackPlan, 202: operationAccepted },
    problems: ['conflict', 'stack_refused', 'engine_unavailable', 'engine_failed', 'canceled'],
    handle: async (call) => {
      const { body, actor, deps } = call;
      const [row, operation] = await deps.database.kysely.transaction().execute(async (tx) => {
        const held = await holdStack(tx, call);
        const order = { stack: held, kind: 'preview_stack', actor, updateKind: body.update } as const;
        return [held, await acceptStackOperation(tx, deps.queue, order)] as const;
      });
      return answerPlan(deps, operation, row.kind, (underWay) => ({ operation: operationRefReply(underWay) }));
    },
  }),
  route({
    method: 'get',
    path: '/stacks/:id/plans/:operationId',
    access: 'read',
    area: AREA,
    summary: 'The plan that a preview or an up made',
    params: stackParams.extend({ operationId: id('operation') }),
    replies: { 200: stackPlan },
    handle: async (call) => {
      const row = await requireStack(call);
      return { status: 200, body: await planReply(call, row, call.params.operationId) };
    },
  }),
  updateRoute('up', 'up_stack', 'Make a stack what it is to be', {
    description:
      'It is previewed first, in the same operation: nothing is made when it breaks a policy, costs more than its ceiling, or is not what the preview with `planHash` showed.',
    problems: ['conflict', 'plan_changed'],
  }),
  updateRoute('refresh', 'refresh_stack', 'Learn what the clouds say of its resources', {
    description: 'Changes nothing at the clouds; what was changed outside is undone by the next up.',
    problems: ['conflict'],
  }),
  updateRoute('destroy', 'destroy_stack', 'Destroy everything that a stack made', {
    description: 'Refused while the stack is protected.',
    problems: ['conflict', 'stack_protected'],
  }),
  route({
    method: 'get',
    path: '/stacks/:id/outputs',
    access: 'read',
    area: AREA,
    summary: 'Outputs of the last up',
    params: stackParams,
    replies: { 200: stackOutputs },
    handle: async (call) => {
      const row = await requireStack(call);
      return { status: 200, body: { outputs: row.outputs, updatedAt: isoOrNull(row.updated_at) } };
    },
  }),
  route({
    method: 'get',
    path: '/stacks/:id/drift',
    access: 'read',
    area: AREA,
    summary: 'What an outside hand has changed, as of the last look',
    params: stackParams,
    replies: { 200: stackDrift },
    handle: async (call) => {
      const row = await requireStack(call);
      return { status: 200, body: { checkedAt: isoOrNull(row.drift_checked_at), items: row.drift ?? [] } };
    },
  }),
];

function updateRoute(
  verb: 'up' | 'refresh' | 'destroy',
  kind: StackOperationKind,
  summary: string,
  words: { description: string; problems: ErrorCode[] },
): Route {
  return route({
    method: 'post',
    path: `/stacks/:id/${verb}`,
    access: 'change',
    area: AREA,
    summary,
    ...words,
    params: stackParams,
    // Only an up takes a plan; the others are asked for with an empty body.
    body: verb === 'up' ? upStackBody : upStackBody.pick({}),
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: stackAccepted },
    handle: async (call) =>
      call.once(async (tx) => {
        const row = await holdStack(tx, call);
        const { planHash } = call.body as { planHash?: string };
        const operation = await acceptStackOperation(tx, call.deps.queue, {
          stack: row,
          kind,
          actor: call.actor,
          ...(planHash === undefined ? {} : { planHash }),
        });
        const body = { operation: operationRefReply(operation), stack: stackReply(row, operation) };
        return { status: 202, body, location: operationLocation(operation) };
      }),
  });
}

async function planReply(call: StackCall, { kind }: StackRow, operationId: string) {
  const plan = await findPlanOfOperation(call.deps.database.kysely, operationId);
  if (plan?.stack_id !== call.params.id)
    throw new MusterError('not_found', `${operationId} made no plan of this stack`);
  const operation = await awaitOperation(call.deps, operationId, 0);
  return stackPlanReply(plan, operation, agentNotes(call.deps, kind));
}

/** Every problem at once, each with its path below `config`. */
function parseConfig(kind: StackKind, config: Record<string, unknown>): unknown {
  const secrets = Object.entries(SECRET_CONFIG_FIELDS[kind] ?? {}).filter(([name]) => name in config);
  const parsed = STACK_CONFIG_SCHEMAS[kind].safeParse(config);
  if (parsed.success && secrets.length === 0) return parsed.data;
  const refused = secrets.map(([name, message]) => ({ path: `config.${name}`, message }));
  const errors = (parsed.error?.issues ?? []).map((issue) => ({
    path: ['config', ...issue.path].join('.'),
    message: issue.message,
  }));
  throw new MusterError('invalid_request', `the configuration of this ${kind} stack is wrong`, {
    errors: [...refused, ...errors],
  });
}
