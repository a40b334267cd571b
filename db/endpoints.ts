/** Endpoints: where the workload of each instance is reached now. A change is told to webhooks by a trigger (migrations/0027). */
import { sql, type Selectable } from 'kysely';
import type { Endpoint } from '../domain/endpoint.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

export type EndpointRow = Selectable<Schema['endpoints']>;

/** undefined: the instance was never reached anywhere. */
export function findEndpoint(executor: Executor, instanceId: string): Promise<EndpointRow | undefined> {
  return executor.selectFrom('endpoints').selectAll().where('instance_id', '=', instanceId).executeTakeFirst();
}

/** Idempotent: the same place again is no change. @param attemptId of kind `instance`: its address is followed from now on */
export async function setEndpoint(
  tx: Tx,
  instanceId: string,
  endpoint: Endpoint,
  attemptId: string | null = null,
): Promise<void> {
  const place =
    endpoint.kind === 'none'
      ? { host: null, port: null, ssh_user: null, node_id: null, attempt_id: null }
      : {
          host: endpoint.host,
          port: endpoint.port,
          ssh_user: endpoint.user,
          node_id: endpoint.nodeId,
          attempt_id: endpoint.kind === 'instance' ? attemptId : null,
        };
  await sql`
    insert into endpoints as e (instance_id, org_id, kind, host, port, ssh_user, node_id, attempt_id)
    select id, org_id, ${endpoint.kind}::text, ${place.host}::text, ${place.port}::integer, ${place.ssh_user}::text,
           ${place.node_id}::text, ${place.attempt_id}::text
    from instances where id = ${instanceId}
    on conflict (instance_id) do update set kind = excluded.kind, host = excluded.host, port = excluded.port,
      ssh_user = excluded.ssh_user, node_id = excluded.node_id, attempt_id = excluded.attempt_id,
      version = e.version + 1, changed_at = now()
    where (e.kind, e.host, e.port, e.ssh_user, e.node_id, e.attempt_id)
      is distinct from (excluded.kind, excluded.host, excluded.port, excluded.ssh_user, excluded.node_id, excluded.attempt_id)`.execute(
    tx,
  );
}

/**
 * Called in the transaction in which an instance changes its status: ready, its machine is the endpoint; not ready, nothing is. While a
 * standby serves, neither: the failover says when the machine takes over.
 */
export async function followEndpoint(tx: Tx, instanceId: string): Promise<void> {
  const instance = await tx
    .selectFrom('instances')
    .select(['id', 'status', 'winner_attempt_id'])
    .where('id', '=', instanceId)
    .executeTakeFirstOrThrow();
  const present = await findEndpoint(tx, instance.id);
  const isOver = instance.status === 'destroying' || instance.status === 'destroyed';
  if (present?.kind === 'standby' && !isOver) return;
  if (instance.status === 'ready' && instance.winner_attempt_id !== null) {
    return pointToAttempt(tx, instance.id, instance.winner_attempt_id);
  }
  if (present) await setEndpoint(tx, instance.id, { kind: 'none' });
}

/** Nothing where the machine has no address yet. */
export async function pointToAttempt(tx: Tx, instanceId: string, attemptId: string): Promise<void> {
  const attempt = await tx
    .selectFrom('attempts')
    .leftJoin('nodes', 'nodes.attempt_id', 'attempts.id')
    .select(['ssh_host', 'ssh_port', 'ssh_user', 'nodes.id as node_id'])
    .where('attempts.id', '=', attemptId)
    .executeTakeFirst();
  if (!attempt || attempt.ssh_host === null || attempt.ssh_port === null) return;
  const { ssh_host: host, ssh_port: port, ssh_user: user, node_id: nodeId } = attempt;
  await setEndpoint(tx, instanceId, { kind: 'instance', host, port, user: user ?? 'root', nodeId }, attemptId);
}
