/** Warm instances by the API server's records, without workers: what a pool was filled with counts as bought and ready. */
import { newId } from '../../db/new-id.ts';
import { setInstanceStatus } from '../../db/instances.ts';
import type { ApiServer } from './api-server.ts';

/** Of everything that the pool has requested. Returns the instances' ids, in the order of their prices. */
export async function recordWarm(server: ApiServer, poolId: string, prices: bigint[]): Promise<string[]> {
  const { kysely } = server.database;
  const requested = await kysely
    .selectFrom('instances')
    .selectAll()
    .where('pool_id', '=', poolId)
    .where('status', '=', 'requested')
    .orderBy('created_at')
    .execute();
  if (requested.length < prices.length) throw new Error(`only ${requested.length} are requested for ${poolId}`);
  const ids: string[] = [];
  for (const [index, price] of prices.entries()) {
    const { id, org_id, stack_id } = requested[index] as (typeof requested)[number];
    const attemptId = newId('attempt');
    await kysely
      .insertInto('attempts')
      .values({
        id: attemptId,
        org_id,
        instance_id: id,
        stack_id,
        provider: 'vastai',
        label: `label-${attemptId}`,
        status: 'ready',
        gpu: 'RTX 4090',
        gpu_count: 1,
        gpu_memory_gib: 24,
        region: 'SE',
        reliability: 0.99,
        price_micro_usd_per_hour: price,
      })
      .execute();
    for (const status of ['creating', 'booting'] as const) await setInstanceStatus(kysely, id, status);
    await setInstanceStatus(kysely, id, 'ready', { winnerAttemptId: attemptId });
    ids.push(id);
  }
  return ids;
}
