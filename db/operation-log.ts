/**
 * What happened in operations, in one order: their own events and, among them, what the engine told of their updates (update-events.ts), which
 * is kept there and nowhere else.
 */
import { tellEngineEvent } from '../domain/state/engine-event.ts';
import type { Executor } from './database.ts';

export interface LogEvent {
  at: Date;
  type: string;
  data: Record<string, unknown>;
}

/** A row of the view `operation_log`, and the instance that its resource is an attempt of. */
export interface LogRow {
  at: Date;
  type: string;
  data: unknown;
  event: string | null;
  instanceId: string | null;
}

/** An event of the engine tells of an instance of ours by its id and by its provider's. */
export function toLogEvent({ at, type, data, event, instanceId }: LogRow): LogEvent {
  if (event === null) return { at, type, data: data as Record<string, unknown> };
  const told = tellEngineEvent(JSON.parse(event) as object)?.data ?? {};
  const ofInstance = instanceId === null ? {} : { instanceId, providerInstanceId: told['id'] ?? null };
  return { at, type, data: { ...told, ...ofInstance } };
}

export async function listEventsAfter(
  executor: Executor,
  operationId: string,
  seq: number,
  limit = 500,
): Promise<(LogEvent & { seq: number })[]> {
  const rows = await executor
    .selectFrom('operation_log as e')
    .leftJoin('attempts as a', 'a.id', 'e.resource')
    .select(['e.seq', 'e.at', 'e.type', 'e.data', 'e.event', 'a.instance_id as instanceId'])
    .where('e.operation_id', '=', operationId)
    .where('e.seq', '>', seq)
    .orderBy('e.seq')
    .limit(limit)
    .execute();
  return rows.map((row) => ({ seq: row.seq, ...toLogEvent(row) }));
}
