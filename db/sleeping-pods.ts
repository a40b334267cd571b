/**
 * The pods of an instance that goes to sleep: they end on its node, and wait for the instance itself, whichever machine it has when it is
 * ready again. Where it stays awake that is the same one.
 */
import type { PodStatus } from '../domain/pods/pod.ts';
import type { Executor, Tx } from './database.ts';
import { raiseDesired } from './desired.ts';
import { lockPodsOfNode } from './pods.ts';

const ENDED: readonly PodStatus[] = ['exited', 'failed', 'lost', 'removed'];

/** They are placed again by place-pods.ts, which places nothing on what is not ready. @returns how many shall end */
export async function putPodsToSleep(tx: Tx, nodeId: string, instanceId: string): Promise<number> {
  const awake = (await lockPodsOfNode(tx, nodeId)).filter(
    (pod) => pod.desired === 'running' && !ENDED.includes(pod.status),
  );
  for (const pod of awake) {
    await tx
      .updateTable('pods')
      .set({
        is_leaving: true,
        reason: 'its instance goes to sleep',
        requirements: JSON.stringify({ ...pod.requirements, nodeId: null, instanceId }),
      })
      .where('id', '=', pod.id)
      .execute();
  }
  if (awake.length > 0) await raiseDesired(tx, nodeId);
  return awake.length;
}

/** Those that have not ended there. */
export async function countLeaving(executor: Executor, nodeId: string): Promise<number> {
  const row = await executor
    .selectFrom('pods')
    .select(({ fn }) => fn.countAll<bigint>().as('count'))
    .where('node_id', '=', nodeId)
    .where('is_leaving', '=', true)
    .where('removed_at', 'is', null)
    .executeTakeFirstOrThrow();
  return Number(row.count);
}
