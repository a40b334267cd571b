/** Rented machines that stand for an instance and whose agent is silent because it switched them off, or may have. */
import { sql } from 'kysely';
import type { AttemptRow } from './attempts.ts';
import type { Executor } from './database.ts';

export type SilentMachineRow = AttemptRow & { heard_at: Date; powering_off_at: Date | null };

/**
 * Those of instances that nobody else looks after: one with a policy is failed over, one that hibernates or wakes is its operation's.
 * @param deadManMs null: only those whose agent said so
 */
export function listSilentMachines(
  executor: Executor,
  { deadManMs, provider, limit = 200 }: { deadManMs: number | null; provider?: string; limit?: number },
): Promise<SilentMachineRow[]> {
  const heardAt = sql<Date>`coalesce(nodes.heartbeat_at, nodes.registered_at)`;
  const isOverdue = sql<boolean>`${heardAt} < now() - ${deadManMs}::float8 * interval '1 millisecond'`;
  let query = executor
    .selectFrom('attempts')
    .innerJoin('nodes', 'nodes.attempt_id', 'attempts.id')
    .innerJoin('instances', 'instances.winner_attempt_id', 'attempts.id')
    .leftJoin('failover_policies', (join) =>
      join.onRef('failover_policies.instance_id', '=', 'instances.id').on('failover_policies.mode', '<>', 'off'),
    )
    .selectAll('attempts')
    .select([heardAt.as('heard_at'), 'nodes.powering_off_at'])
    .where('attempts.status', '=', 'ready')
    .where('instances.status', '=', 'ready')
    .where('failover_policies.instance_id', 'is', null)
    .where((eb) => eb.or([eb('nodes.powering_off_at', 'is not', null), isOverdue]));
  if (provider !== undefined) query = query.where('attempts.provider', '=', provider);
  return query.orderBy('attempts.id').limit(limit).execute();
}
