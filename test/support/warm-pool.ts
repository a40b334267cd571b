/** A pool with warm instances in the scripted automation. */
import type { AttemptRow } from '../../db/attempts.ts';
import type { InstanceRow } from '../../db/instances.ts';
import { insertPool, type PoolFields, type PoolRow } from '../../db/pools.ts';
import { refillPool } from '../../db/refill-pool.ts';
import { ACTOR, REQUEST } from './fleet-database.ts';
import type { ScriptedAutomation } from './scripted-automation.ts';

export async function makePool(automation: ScriptedAutomation, change: Partial<PoolFields> = {}): Promise<PoolRow> {
  const { gpu, gpuCount, minGpuMemoryGib, diskGib, image } = REQUEST;
  const pool = await automation.db.transaction().execute((tx) =>
    insertPool(tx, {
      name: 'warm',
      targetSize: 2,
      maxSize: 4,
      maxPriceMicroUsdPerHour: 600_000n,
      idleShrinkAfterMs: 600_000,
      idleSize: 100,
      wanted: { gpu, gpuCount, minGpuMemoryGib, diskGib, image, providers: [], regions: [] },
      consumer: 'pool-team',
      ...change,
      orgId: automation.orgId,
      createdBy: ACTOR.id,
    }),
  );
  return pool as PoolRow;
}

/** Its warm instances that may exist, oldest first. */
export function warmOf(automation: ScriptedAutomation, pool: PoolRow): Promise<InstanceRow[]> {
  return automation.db
    .selectFrom('instances')
    .selectAll()
    .where('pool_id', '=', pool.id)
    .where('status', '<>', 'destroyed')
    .orderBy('created_at')
    .orderBy('id')
    .execute();
}

/** Fills the pool and lets its machines become ready, and waits until no step of it runs; needs a worker. */
export async function warmUp(automation: ScriptedAutomation, pool: PoolRow): Promise<AttemptRow[]> {
  await refillPool(automation.services, pool.id);
  const bought = await automation.untilBought(pool.target_size);
  for (const attempt of bought) automation.vendor.run(attempt.label);
  await automation.tick('readiness');
  await automation.until(async () => {
    const warm = await warmOf(automation, pool);
    return warm.filter(({ status }) => status === 'ready').length === pool.target_size;
  }, `pool ${pool.name} is warm`);
  // Time that passes while a step runs ends its lease.
  for (const { operation_id: id } of await warmOf(automation, pool)) await automation.untilFinished(id);
  return bought;
}
