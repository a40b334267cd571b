/** Hosts of our own: where they are and by which stack they are looked after. What their agents report is of their node: nodes.ts. */
import { sql, type Selectable } from 'kysely';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type HostRow = Selectable<Schema['hosts']>;

export interface HostPlace {
  address: string;
  port: number;
  user: string;
  hostKeySha256: string;
  credentialId: string | null;
}

export interface NewHost extends HostPlace {
  /** Given where the stack must name it before. */
  nodeId?: string;
  orgId: string;
  stackId: string;
  /** In the stack. */
  name: string;
  labels: Record<string, string>;
  /** null: the stack's program has it among others. */
  addedBy: string | null;
}

/** The host and its node, which waits for its agent. @returns null where a host of the org that was added by itself is at that place */
export async function insertHost(tx: Tx, host: NewHost): Promise<HostRow | null> {
  const nodeId = host.nodeId ?? newId('node');
  await tx.insertInto('nodes').values({ id: nodeId, org_id: host.orgId }).execute();
  const row = await tx
    .insertInto('hosts')
    .values({
      node_id: nodeId,
      org_id: host.orgId,
      stack_id: host.stackId,
      name: host.name,
      labels: JSON.stringify(host.labels),
      added_by: host.addedBy,
      ...placeColumns(host),
    })
    .onConflict((conflict) => conflict.doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) await tx.deleteFrom('nodes').where('id', '=', nodeId).execute();
  return row ?? null;
}

export function findHostOfStack(executor: Executor, stackId: string, name: string): Promise<HostRow | undefined> {
  return executor
    .selectFrom('hosts')
    .selectAll()
    .where('stack_id', '=', stackId)
    .where('name', '=', name)
    .executeTakeFirst();
}

/** The one that was added by itself and is still there. */
export function findHostAt(
  executor: Executor,
  orgId: string,
  place: { address: string; port: number },
): Promise<HostRow | undefined> {
  return executor
    .selectFrom('hosts')
    .selectAll()
    .where('org_id', '=', orgId)
    .where('address', '=', place.address)
    .where('port', '=', place.port)
    .where('added_by', 'is not', null)
    .where('removed_at', 'is', null)
    .executeTakeFirst();
}

/** The stack's host of that name, made where it is missing; one that is being installed again is no longer removed. */
export async function claimHost(tx: Tx, host: NewHost, isInstalling: boolean): Promise<HostRow> {
  const revived = await tx
    .updateTable('hosts')
    .set({
      ...placeColumns(host),
      labels: JSON.stringify(host.labels),
      ...(isInstalling ? { removed_at: null, forget_requested_at: null } : {}),
    })
    .where('stack_id', '=', host.stackId)
    .where('name', '=', host.name)
    .returningAll()
    .executeTakeFirst();
  return revived ?? ((await insertHost(tx, host)) as HostRow);
}

/** Nothing of ours is on it, or nobody will ever know: its agent's key is worth nothing from now on. Idempotent. */
export async function markHostRemoved(tx: Tx, stackId: string, name: string): Promise<void> {
  const host = await tx
    .updateTable('hosts')
    .set({ removed_at: sql<Date>`coalesce(removed_at, now())` })
    .where('stack_id', '=', stackId)
    .where('name', '=', name)
    .returning('node_id')
    .executeTakeFirst();
  if (!host) return;
  await tx.updateTable('nodes').set({ key_hash: null, next_key_hash: null }).where('id', '=', host.node_id).execute();
  await tx.deleteFrom('node_tokens').where('node_id', '=', host.node_id).execute();
}

/** Of a stack that is destroyed: also what its engine never came to. Idempotent. */
export async function markHostsOfStackRemoved(tx: Tx, stackId: string): Promise<void> {
  const rows = await tx
    .selectFrom('hosts')
    .select('name')
    .where('stack_id', '=', stackId)
    .where('removed_at', 'is', null)
    .execute();
  for (const { name } of rows) await markHostRemoved(tx, stackId, name);
}

/** Whether a node is still somebody's: its key may be used. */
export async function isLiveNode(executor: Executor, nodeId: string): Promise<boolean> {
  const row = await executor.selectFrom('nodes').select('key_hash').where('id', '=', nodeId).executeTakeFirst();
  return row !== undefined && row.key_hash !== null;
}

export async function requestForget(tx: Tx, nodeId: string): Promise<void> {
  await tx
    .updateTable('hosts')
    .set({ forget_requested_at: sql<Date>`coalesce(forget_requested_at, now())` })
    .where('node_id', '=', nodeId)
    .execute();
}

function placeColumns({ address, port, user, hostKeySha256, credentialId }: HostPlace) {
  return { address, port, ssh_user: user, host_key_sha256: hostKeySha256, credential_id: credentialId };
}
