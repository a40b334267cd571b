/** What is recorded around a session's instance and asked for when something is wrong: findings of its machines, events of its operations. */
import { sql } from 'kysely';
import type { Executor } from './database.ts';
import type { FindingRow } from './findings.ts';
import { toLogEvent, type LogEvent, type LogRow } from './operation-log.ts';

/** Of the instance or of any of its attempts, newest first. */
export function listFindingsOfInstance(executor: Executor, instanceId: string, limit: number): Promise<FindingRow[]> {
  return executor
    .selectFrom('findings')
    .selectAll()
    .where((eb) =>
      eb.or([
        eb('instance_id', '=', instanceId),
        eb('attempt_id', 'in', eb.selectFrom('attempts').select('id').where('instance_id', '=', instanceId)),
      ]),
    )
    .orderBy('first_seen_at', 'desc')
    .limit(limit)
    .execute();
}

export type TimelineEvent = LogEvent & { operationId: string };

/** The last events of the stack's operations that concern the instance, or no single one; oldest first. */
export async function readTimeline(
  executor: Executor,
  instance: { id: string; stack_id: string },
  limit: number,
): Promise<TimelineEvent[]> {
  const { rows } = await sql<LogRow & { operationId: string }>`
    select * from (
      select e.operation_id as "operationId", e.at, e.type, e.data, e.event, a.instance_id as "instanceId"
      from operation_log e join operations o on o.id = e.operation_id left join attempts a on a.id = e.resource
      where o.stack_id = ${instance.stack_id} and (o.target_id = ${instance.id} or o.target_kind <> 'instance')
        and coalesce(e.data->>'instanceId', a.instance_id, ${instance.id}) = ${instance.id}
      order by e.at desc, e.operation_id desc, e.seq desc
      limit ${limit}
    ) as latest order by at`.execute(executor);
  return rows.map((row) => ({ operationId: row.operationId, ...toLogEvent(row) }));
}
