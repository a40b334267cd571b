/**
 * What a node's agent is told to be: a revision that rises with every change of it, and whether the node is fenced. Its orders are
 * db/orders.ts's, its pods db/pods.ts's; whoever changes them calls raiseDesired in the same transaction.
 */
import { sql } from 'kysely';
import type { Executor, Tx } from './database.ts';

/** NOTIFY channel: payload is the node's id. */
export const DESIRED_CHANNEL = 'node_desired';

/** The node's agent asks anew within milliseconds. @returns the new revision; null: there is no such node */
export async function raiseDesired(executor: Executor, nodeId: string): Promise<number | null> {
  const row = await executor
    .updateTable('nodes')
    .set((eb) => ({ desired_revision: eb('desired_revision', '+', 1) }))
    .where('id', '=', nodeId)
    .returning('desired_revision')
    .executeTakeFirst();
  if (!row) return null;
  await sql`select pg_notify(${DESIRED_CHANNEL}, ${nodeId})`.execute(executor);
  return row.desired_revision;
}

/** From now on, and for good, its agent stops its pods and writes nothing that outlives the machine. Idempotent. @returns whether it was not fenced before */
export async function fenceNode(tx: Tx, nodeId: string): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('nodes')
    .set({ fenced_at: sql<Date>`now()` })
    .where('id', '=', nodeId)
    .where('fenced_at', 'is', null)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return false;
  await raiseDesired(tx, nodeId);
  return true;
}

export interface AgentNode {
  id: string;
  orgId: string;
  desiredRevision: number;
  isFenced: boolean;
}

/** Whose agent it is by its key, or by the next one that it was offered; undefined: nobody's. */
export async function findAgentNode(executor: Executor, keyHash: Buffer): Promise<AgentNode | undefined> {
  const row = await executor
    .selectFrom('nodes')
    .select(['id', 'org_id', 'desired_revision', 'fenced_at'])
    .where((eb) => eb.or([eb('key_hash', '=', keyHash), eb('next_key_hash', '=', keyHash)]))
    .executeTakeFirst();
  return (
    row && { id: row.id, orgId: row.org_id, desiredRevision: row.desired_revision, isFenced: row.fenced_at !== null }
  );
}

/** Its agent switches the machine off: what comes is no crash. The first word counts. */
export async function recordPoweringOff(executor: Executor, nodeId: string, reason: string): Promise<void> {
  await executor
    .updateTable('nodes')
    .set({ powering_off_at: sql<Date>`now()`, powering_off_reason: reason })
    .where('id', '=', nodeId)
    .where('powering_off_at', 'is', null)
    .execute();
}
