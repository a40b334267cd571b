/**
 * Stuck rows: an instance or attempt on its way to another state while no unfinished operation on its stack drives it there. That
 * cannot happen by design; where it does (a restored backup, a row changed by hand, a fault of ours), it must not bill for ever.
 */
import { sql } from 'kysely';
import type { AttemptRow } from './attempts.ts';
import type { Executor } from './database.ts';
import type { InstanceRow } from './instances.ts';

/** Transactions that hand on from one operation to the next are long over. */
const UNDRIVEN_MS = 120_000;
const MAX_ROWS = 200;

/** Requested, creating, booting, lost or destroying, and nothing works on it. */
export async function listStuckInstances(executor: Executor): Promise<InstanceRow[]> {
  return executor
    .selectFrom('instances')
    .selectAll()
    .where('status', 'in', ['requested', 'creating', 'booting', 'lost', 'destroying'])
    .where(sql<boolean>`updated_at < now() - ${UNDRIVEN_MS} * interval '1 millisecond'`)
    .where(isUndriven('instances'))
    .limit(MAX_ROWS)
    .execute();
}

/** On the way to sleep or back, and nothing works on it: it has files that are not to be given up. */
export async function listStuckSleepers(executor: Executor): Promise<InstanceRow[]> {
  return executor
    .selectFrom('instances')
    .selectAll()
    .where('status', 'in', ['hibernating', 'waking'])
    .where(sql<boolean>`updated_at < now() - ${UNDRIVEN_MS} * interval '1 millisecond'`)
    .where(isUndriven('instances'))
    .limit(MAX_ROWS)
    .execute();
}

/** May exist at the provider, and is neither the machine of a ready instance nor worked on. */
export async function listStuckAttempts(executor: Executor): Promise<AttemptRow[]> {
  return executor
    .selectFrom('attempts')
    .innerJoin('instances', 'instances.id', 'attempts.instance_id')
    .selectAll('attempts')
    .where('attempts.status', '<>', 'gone')
    .where(sql<boolean>`attempts.updated_at < now() - ${UNDRIVEN_MS} * interval '1 millisecond'`)
    .where(isUndriven('attempts'))
    .where((eb) =>
      eb.or([
        eb('attempts.status', 'in', ['destroying', 'lost']),
        eb('instances.status', '=', 'destroyed'),
        eb.and([
          eb('instances.status', '=', 'ready'),
          sql<boolean>`instances.winner_attempt_id is distinct from attempts.id`,
        ]),
      ]),
    )
    .limit(MAX_ROWS)
    .execute();
}

/** An operation of its stack, or its failover, which waits between two tries to find a machine. */
function isUndriven(table: 'instances' | 'attempts') {
  const instanceId = sql.ref(table === 'instances' ? 'instances.id' : 'attempts.instance_id');
  return sql<boolean>`not exists (select from operations where operations.stack_id = ${sql.ref(`${table}.stack_id`)}
    and operations.status in ('queued', 'running'))
    and not exists (select from failovers where failovers.instance_id = ${instanceId} and failovers.finished_at is null)`;
}
