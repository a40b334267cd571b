/** Making a standby through a stack of its own: planned by a dry run, or made by one operation. What can be known to be wrong is said here. */
import { parseDuration } from '../domain/duration.ts';
import { MusterError, type FieldError } from '../domain/error-table.ts';
import { withRunGuard, type StandbyStackConfig } from '../domain/standby.ts';
import { acceptStackOperation, findStackUpdate } from '../db/accept-stack.ts';
import { auditRow } from '../db/audit.ts';
import type { Executor, Tx } from '../db/database.ts';
import { findInstance, type InstanceRow } from '../db/instances.ts';
import { findStack, type NewStack } from '../db/stacks.ts';
import { findStandbyOfInstance, insertStandby, newStandbyId, type StandbyRow } from '../db/standbys.ts';
import { ensureWorkspace } from '../db/workspaces.ts';
import { standbyConfigSchema } from '../stacks/standby/config.ts';
import { nameTaken, openDryRun, openStack, newStackOf } from './cluster-order.ts';
import type { ChangeCall } from './cluster-view.ts';
import type { CreateStandbyInput, StandbyAccepted, StandbyReply } from './contract/standbys.ts';
import { targetsOf } from './drill-targets.ts';
import { operationLocation, operationRefReply } from './replies/operation-reply.ts';
import { standbyReply } from './replies/standby-reply.ts';
import type { Answer } from './route.ts';
import { answerPlan } from './stack-planning.ts';

export async function makeStandby(call: ChangeCall, body: CreateStandbyInput): Promise<Answer> {
  const { caller, deps, actor } = call;
  const wanted = stackOf(body, call);
  return call.once(async (tx) => {
    const instance = await requireInstance(tx, caller.orgId, body.instanceId);
    const stack = await openStack(tx, wanted, body.planHash);
    const rpoMs = parseDuration(body.rpo) as number;
    const { drills } = body;
    const row = await insertStandby(tx, {
      id: newStandbyId(),
      orgId: caller.orgId,
      instanceId: instance.id,
      name: body.name,
      stackId: stack.id,
      state: body.state,
      rpoMs,
      config: stack.config as StandbyStackConfig,
      drillEveryMs: drills === undefined ? null : parseDuration(drills.every),
      drillPolicy:
        drills === undefined
          ? null
          : {
              mode: drills.mode,
              targets: targetsOf(drills.targets, { state: body.state, rpoMs }),
              consentBy: drills.consent === true ? actor.id : null,
            },
      createdBy: caller.id,
    });
    if (row === null) throw nameTaken(body.name);
    // What it is to be restored from.
    await ensureWorkspace(tx, { instanceId: instance.id, orgId: instance.org_id });
    await auditStandby(tx, call, row, 'standby.create');
    const { planHash } = body;
    const operation = await acceptStackOperation(tx, deps.queue, {
      stack,
      kind: 'up_stack',
      actor,
      ...(planHash === undefined ? {} : { planHash }),
    });
    const accepted: StandbyAccepted = {
      operation: operationRefReply(operation),
      standby: standbyReply(row, stack, operation, Date.now()),
    };
    return { status: 202, body: accepted, location: operationLocation(operation) };
  });
}

export async function planStandby(call: ChangeCall, body: CreateStandbyInput): Promise<Answer> {
  const { deps, caller, actor } = call;
  const wanted = stackOf(body, call);
  const operation = await deps.database.kysely.transaction().execute(async (tx) => {
    await requireInstance(tx, caller.orgId, body.instanceId);
    const stack = await openDryRun(tx, wanted);
    return acceptStackOperation(tx, deps.queue, { stack, kind: 'preview_stack', actor });
  });
  return answerPlan(deps, operation, 'standby', (underWay): StandbyAccepted => ({
    operation: operationRefReply(underWay),
    standby: null,
  }));
}

export async function describeStandby(executor: Executor, row: StandbyRow): Promise<StandbyReply> {
  const [stack, underWay] = await Promise.all([
    findStack(executor, row.org_id, row.stack_id),
    findStackUpdate(executor, row.stack_id),
  ]);
  return standbyReply(row, stack, underWay, Date.now());
}

export function auditStandby(
  tx: Tx,
  { actor }: Pick<ChangeCall, 'actor'>,
  row: StandbyRow,
  action: `standby.${string}`,
): Promise<void> {
  return auditRow(tx, actor, row, action, { name: row.name, instanceId: row.instance_id });
}

/** Throws MusterError `not_found`, and `conflict` where it is over or has a standby. */
async function requireInstance(tx: Tx, orgId: string, instanceId: string): Promise<InstanceRow> {
  const instance = await findInstance(tx, orgId, instanceId);
  if (!instance)
    throw new MusterError('invalid_request', `there is no instance ${instanceId}`, {
      errors: [{ path: 'instanceId', message: 'names no instance of this org' }],
    });
  if (instance.status === 'destroying' || instance.status === 'destroyed')
    throw new MusterError('conflict', `${instanceId} is ${instance.status}`, { facts: { state: instance.status } });
  const present = await findStandbyOfInstance(tx, instanceId);
  if (present)
    throw new MusterError('conflict', `${present.name} (${present.id}) stands by for ${instanceId} already`, {
      facts: { state: present.status, standbyId: present.id },
    });
  return instance;
}

/** Throws MusterError `invalid_request` with every problem of the configuration, each with its path in the request. */
function stackOf(body: CreateStandbyInput, { caller }: ChangeCall): NewStack {
  return newStackOf({ ...body, kind: 'standby', config: configOf(body) }, caller);
}

/** Fields of the stack's configuration that the request itself says, or that a failover changes. */
const GIVEN = {
  state: 'is a field of the request itself',
  agent: 'is always on here',
  runIn: 'is changed by a failover',
};

function configOf({ config, state }: CreateStandbyInput): Record<string, unknown> {
  const errors: FieldError[] = Object.entries(GIVEN)
    .filter(([name]) => name in config)
    .map(([name, message]) => ({ path: `config.${name}`, message }));
  const parsed = standbyConfigSchema.safeParse({ ...config, state, agent: true });
  errors.push(
    ...(parsed.error?.issues ?? []).flatMap((issue) => {
      const paths = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key]) : [issue.path];
      return paths.map((path) => ({ path: ['config', ...path].join('.'), message: issue.message }));
    }),
  );
  if (errors.length > 0 || !parsed.success)
    throw new MusterError('invalid_request', 'the configuration of this standby is wrong', { errors });
  return withRunGuard(parsed.data as StandbyStackConfig);
}
