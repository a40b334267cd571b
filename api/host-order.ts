/** What a request for a host of our own becomes: a stack of its own, its node, and the operation that makes it so. */
import { MusterError } from '../domain/error-table.ts';
import { acceptStackOperation } from '../db/accept-stack.ts';
import { appendAudit, type Actor } from '../db/audit.ts';
import { findCredential } from '../db/credentials.ts';
import type { Tx } from '../db/database.ts';
import { findHostAt, insertHost, requestForget } from '../db/hosts.ts';
import { newId } from '../db/new-id.ts';
import { cordonNode, type NodeRow } from '../db/nodes.ts';
import { acceptDrain } from '../db/place-pods.ts';
import type { OperationRow } from '../db/operations.ts';
import type { Queue } from '../db/queue.ts';
import { insertStack, lockStack } from '../db/stacks.ts';
import { onpremNodeConfigSchema } from '../stacks/onprem-node/config.ts';
import type { Caller } from './caller.ts';
import { ownerOf } from './cluster-order.ts';
import type { AddNodeInput } from './contract/nodes.ts';

export interface HostOrder {
  body: AddNodeInput;
  caller: Caller & { name?: string };
  actor: Actor;
}

/**
 * Throws MusterError `invalid_request` for a credential that there is not, `conflict` for a place or a name that is taken: nothing is
 * recorded then.
 */
export async function acceptHost(
  tx: Tx,
  queue: Queue,
  { body, caller, actor }: HostOrder,
): Promise<{ nodeId: string; operation: OperationRow }> {
  const { address, port, user, hostKeySha256, labels } = body;
  const credential = await findCredential(tx, caller.orgId, body.credentialRef);
  if (credential?.kind !== 'ssh_private_key') throw noCredential(body.credentialRef);
  const taken = await findHostAt(tx, caller.orgId, body);
  if (taken) throw placeTaken(body, taken.node_id, taken.stack_id);
  const nodeId = newId('node');
  const title = body.name ?? `node-${nodeId.slice('nod_'.length)}`;
  const { agentDir, nodePath } = body;
  const config = onpremNodeConfigSchema.parse({
    address,
    port,
    user,
    hostKeySha256,
    labels,
    agentDir,
    ...(nodePath === undefined ? {} : { nodePath }),
    credentialRef: credential.id,
  });
  const stack = await insertStack(tx, {
    orgId: caller.orgId,
    kind: 'onprem-node',
    title,
    config,
    owner: ownerOf(caller),
    costCentre: body.costCentre,
    ceilingMicroUsdPerHour: null,
    // It is removed by DELETE /nodes/:id, which says what it means.
    protect: false,
    onDrift: 'report',
    createdBy: caller.id,
  });
  if (stack === null) {
    throw new MusterError('conflict', `a stack named "${title}" exists already`, {
      errors: [{ path: 'name', message: 'is taken by a stack of this org' }],
    });
  }
  const place = { address, port, user, hostKeySha256, labels, credentialId: credential.id };
  const order = { ...place, nodeId, orgId: caller.orgId, stackId: stack.id, name: title, addedBy: caller.id };
  // Somebody else was quicker by a moment.
  if ((await insertHost(tx, order)) === null) throw placeTaken(body, null, null);
  const operation = await acceptStackOperation(tx, queue, { stack, kind: 'up_stack', actor });
  await auditHost(tx, actor, {
    nodeId,
    orgId: caller.orgId,
    action: 'node.add',
    detail: { address, port, stack: stack.id },
  });
  return { nodeId, operation };
}

/**
 * Cordons it, and destroys its stack: uninstalls. It supersedes what is under way on the stack, such as an installation: that is canceled,
 * and what it left is removed too. Throws MusterError `conflict` for a host that its stack has among others.
 * @param forget what cannot be uninstalled is let go, because the host is dead for ever
 */
export async function acceptHostRemoval(
  tx: Tx,
  queue: Queue,
  order: { node: NodeRow & { host: NonNullable<NodeRow['host']> }; actor: Actor; forget: boolean },
): Promise<OperationRow> {
  const { node, actor, forget } = order;
  const { host } = node;
  if (host.added_by === null) {
    const detail = `${node.id} is ${host.name} of ${host.stack_id}: take it out of that stack's configuration, or destroy the stack`;
    throw new MusterError('conflict', detail, { facts: { state: 'in_stack', stackId: host.stack_id } });
  }
  const stack = await lockStack(tx, host.stack_id);
  if (!stack) throw new MusterError('conflict', `the stack of ${node.id} is not there`);
  await cordonNode(tx, node.org_id, node.id, true);
  await acceptDrain(tx, node.id);
  if (forget) await requestForget(tx, node.id);
  const operation = await acceptStackOperation(tx, queue, { stack, kind: 'destroy_stack', actor, supersedes: true });
  await auditHost(tx, actor, {
    nodeId: node.id,
    orgId: node.org_id,
    action: 'node.delete',
    detail: { address: host.address, port: host.port, stack: stack.id, ...(forget ? { forget } : {}) },
  });
  return operation;
}

export function auditHost(
  tx: Tx,
  actor: Actor,
  entry: { nodeId: string; orgId: string; action: string; detail: Record<string, unknown> },
): Promise<void> {
  const { nodeId, orgId, action, detail } = entry;
  return appendAudit(tx, { orgId, actor, action, targetKind: 'node', targetId: nodeId, detail });
}

function noCredential(ref: string): MusterError {
  const message = `names no credential of this org: "${ref}"`;
  return new MusterError('invalid_request', `credentialRef ${message}`, {
    errors: [{ path: 'credentialRef', message }],
  });
}

function placeTaken({ address, port }: AddNodeInput, nodeId: string | null, stackId: string | null): MusterError {
  return new MusterError(
    'conflict',
    `${address}:${port} is a node of this org already${nodeId === null ? '' : `: ${nodeId}`}`,
    {
      errors: [{ path: 'address', message: 'is there already' }],
      facts: { state: 'added', ...(nodeId === null ? {} : { nodeId, stackId }) },
    },
  );
}
