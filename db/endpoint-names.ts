/** Names of endpoints: a record in somebody's DNS zone that follows an instance's endpoint, kept by a stack (kind `dns-record`). */
import { sql, type Selectable } from 'kysely';
import type { OperationStatus } from '../domain/operation.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

export type EndpointNameRow = Selectable<Schema['endpoint_names']> & {
  /** Of the endpoint now; null: it was never anywhere. */
  version: bigint | null;
  host: string | null;
  port: number | null;
  /** Of the last update of its stack; null: there was none. */
  update_status: OperationStatus | null;
  update_error: string | null;
  update_ended_at: Date | null;
};

function selectNames(executor: Executor) {
  return executor
    .selectFrom('endpoint_names')
    .leftJoin('endpoints', 'endpoints.instance_id', 'endpoint_names.instance_id')
    .leftJoin('operations', 'operations.id', 'endpoint_names.operation_id')
    .selectAll('endpoint_names')
    .select([
      'endpoints.version',
      'endpoints.host',
      'endpoints.port',
      'operations.status as update_status',
      'operations.error_detail as update_error',
      'operations.finished_at as update_ended_at',
    ])
    .where('endpoint_names.removed_at', 'is', null);
}

/** @returns false where the instance has a name already */
export async function insertEndpointName(
  tx: Tx,
  name: { stackId: string; instanceId: string; orgId: string; hostname: string; createdBy: string },
): Promise<boolean> {
  const row = await tx
    .insertInto('endpoint_names')
    .values({
      stack_id: name.stackId,
      instance_id: name.instanceId,
      org_id: name.orgId,
      hostname: name.hostname,
      created_by: name.createdBy,
    })
    .onConflict((conflict) => conflict.doNothing())
    .returning('stack_id')
    .executeTakeFirst();
  return row !== undefined;
}

export function findEndpointName(executor: Executor, instanceId: string): Promise<EndpointNameRow | undefined> {
  return selectNames(executor).where('endpoint_names.instance_id', '=', instanceId).executeTakeFirst();
}

/** Held until the transaction ends. */
export async function lockEndpointName(tx: Tx, stackId: string): Promise<EndpointNameRow | undefined> {
  await tx.selectFrom('endpoint_names').select('stack_id').where('stack_id', '=', stackId).forUpdate().execute();
  return selectNames(tx).where('endpoint_names.stack_id', '=', stackId).executeTakeFirst();
}

/** Those that lead elsewhere than their endpoint, or whose last update failed, and whose stack is not updated now. */
export function listStaleNames(executor: Executor, retryAfterMs: number, limit: number): Promise<EndpointNameRow[]> {
  return selectNames(executor)
    .where(
      sql<boolean>`(endpoint_names.told_version is distinct from coalesce(endpoints.version, 0)
        or operations.status in ('failed', 'canceled'))`,
    )
    .where(
      sql<boolean>`(operations.id is null or operations.status = 'succeeded'
        or operations.finished_at < now() - ${retryAfterMs} * interval '1 millisecond')`,
    )
    .orderBy('endpoint_names.stack_id')
    .limit(limit)
    .execute();
}

export async function recordTold(
  tx: Tx,
  stackId: string,
  told: { version: bigint; operationId: string | null },
): Promise<void> {
  await tx
    .updateTable('endpoint_names')
    .set({ told_version: told.version, operation_id: told.operationId })
    .where('stack_id', '=', stackId)
    .execute();
}

export async function removeEndpointName(tx: Tx, stackId: string): Promise<void> {
  await tx
    .updateTable('endpoint_names')
    .set({ removed_at: sql<Date>`coalesce(removed_at, now())` })
    .where('stack_id', '=', stackId)
    .execute();
}
