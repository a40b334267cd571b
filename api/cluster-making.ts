/** Making a cluster through a stack of its own: planned by a dry run, or made by one operation. */
import type { MadeClusterKind } from '../domain/clusters/change.ts';
import { acceptStackOperation, type StackOrder } from '../db/accept-stack.ts';
import { insertCluster, isClusterNameTaken, newClusterId, type ClusterRow } from '../db/clusters.ts';
import type { Tx } from '../db/database.ts';
import type { StackRow } from '../db/stacks.ts';
import { checkCredentials, nameTaken, openDryRun, openStack, stackOf, type MadeClusterInput } from './cluster-order.ts';
import { auditCluster, type ChangeCall } from './cluster-view.ts';
import type { ClusterAccepted } from './contract/clusters.ts';
import { clusterReply } from './replies/cluster-reply.ts';
import { operationLocation, operationRefReply } from './replies/operation-reply.ts';
import type { Answer } from './route.ts';
import { answerPlan } from './stack-planning.ts';

export async function makeCluster(call: ChangeCall, body: MadeClusterInput): Promise<Answer> {
  const wanted = stackOf(body, call.caller);
  return call.once(async (tx) => {
    await checkCredentials(tx, wanted);
    const stack = await openStack(tx, wanted, body.planHash);
    const row = await recordCluster(tx, call, stack, body.kind);
    return followStack(
      tx,
      call,
      row,
      stack,
      'up_stack',
      body.planHash === undefined ? {} : { planHash: body.planHash },
    );
  });
}

/** The cluster of a stack that is to make one, whoever records the stack. Throws MusterError `conflict` for a name that is taken. */
export async function recordCluster(
  tx: Tx,
  call: Pick<ChangeCall, 'caller' | 'actor'>,
  stack: StackRow,
  kind: MadeClusterKind,
): Promise<ClusterRow> {
  const { region, location } = stack.config as { region?: string; location?: string };
  const row = await insertCluster(tx, {
    id: newClusterId(),
    orgId: stack.org_id,
    kind,
    name: stack.title,
    stackId: stack.id,
    region: region ?? location ?? null,
    createdBy: call.caller.id,
  });
  if (row === null) throw nameTaken(stack.title);
  await auditCluster(tx, call, row, 'cluster.create');
  return row;
}

export async function planCluster(call: ChangeCall, body: MadeClusterInput): Promise<Answer> {
  const { deps, caller, actor } = call;
  const wanted = stackOf(body, caller);
  const operation = await deps.database.kysely.transaction().execute(async (tx) => {
    if (await isClusterNameTaken(tx, caller.orgId, body.name)) throw nameTaken(body.name);
    await checkCredentials(tx, wanted);
    const stack = await openDryRun(tx, wanted);
    return acceptStackOperation(tx, deps.queue, { stack, kind: 'preview_stack', actor });
  });
  return answerPlan(deps, operation, body.kind, (underWay): ClusterAccepted => {
    return { operation: operationRefReply(underWay), cluster: null };
  });
}

/** Accepts an update of the cluster's stack, and answers with both. */
export async function followStack(
  tx: Tx,
  call: Pick<ChangeCall, 'actor' | 'deps'>,
  row: ClusterRow,
  stack: StackRow,
  kind: 'up_stack' | 'destroy_stack',
  more: Pick<StackOrder, 'planHash' | 'config' | 'resize'> = {},
): Promise<Answer> {
  const operation = await acceptStackOperation(tx, call.deps.queue, { stack, kind, actor: call.actor, ...more });
  const body: ClusterAccepted = {
    operation: operationRefReply(operation),
    cluster: clusterReply(row, stack, operation),
  };
  return { status: 202, body, location: operationLocation(operation) };
}
