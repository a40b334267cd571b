/**
 * Warm instances being claimed and handed over. A claim is one column, written once in the transaction that accepts it; until the
 * hand-over the machine stays the warm instance's, so that whatever dies in between leaves every machine with exactly one instance.
 */
import { sql } from 'kysely';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import type { AttemptRow } from './attempts.ts';
import type { Executor, Tx } from './database.ts';
import { findInstance, lockInstance, setInstanceStatus, type InstanceRow } from './instances.ts';
import { lockOperation } from './operations.ts';
import { markStackRemoved } from './stacks.ts';
import { meterAttempts } from './usage.ts';

export interface FoundWarm {
  id: string;
  poolId: string;
  poolName: string;
  provider: string;
  gpu: string | null;
  region: string | null;
  priceMicroUsdPerHour: bigint;
}

/** Ready and nobody's, and as good as what is asked for: the cheapest first, of equally cheap ones the longest ready. */
export async function findWarm(
  executor: Executor,
  orgId: string,
  request: ProvisionRequest,
  limit: number,
): Promise<FoundWarm[]> {
  const { rows } = await sql<FoundWarm>`${selectFitting(orgId, request, limit)}`.execute(executor);
  return rows;
}

/**
 * Claims a fitting warm instance for each of `claimants`, as far as there are any; returns them by claimant. What another transaction is
 * claiming is passed over, never waited for, and never claimed twice.
 */
export async function claimWarm(
  tx: Tx,
  orgId: string,
  request: ProvisionRequest,
  claimants: string[],
): Promise<Map<string, FoundWarm>> {
  if (claimants.length === 0) return new Map();
  const { rows } = await sql<FoundWarm>`${selectFitting(orgId, request, claimants.length)}
    for update of w skip locked`.execute(tx);
  const claimed = new Map<string, FoundWarm>();
  for (const [index, warm] of rows.entries()) {
    const claimant = claimants[index] as string;
    await tx
      .updateTable('instances')
      .set({ claimed_by: claimant, claimed_at: sql`now()`, note: `claimed by ${claimant}`, updated_at: sql`now()` })
      .where('id', '=', warm.id)
      .execute();
    claimed.set(claimant, warm);
  }
  return claimed;
}

function selectFitting(orgId: string, request: ProvisionRequest, limit: number) {
  return sql`
    select w.id, w.pool_id as "poolId", p.name as "poolName", a.provider, a.gpu, a.region,
           a.price_micro_usd_per_hour as "priceMicroUsdPerHour"
    from instances w join attempts a on a.id = w.winner_attempt_id join pools p on p.id = w.pool_id
    where w.org_id = ${orgId} and w.pool_id is not null and w.claimed_by is null and w.status = 'ready'
      and a.status = 'ready' and a.missing_since is null and not ${request.interruptible}
      and w.request->>'gpu' = ${request.gpu} and a.gpu_count = ${request.gpuCount}
      and w.request->>'image' = ${request.image} and (w.request->>'diskGib')::integer >= ${request.diskGib}
      and a.price_micro_usd_per_hour <= ${request.maxPriceMicroUsdPerHour}
      and (${request.minGpuMemoryGib}::integer is null or a.gpu_memory_gib >= ${request.minGpuMemoryGib}::integer)
      and (${request.minReliability}::float8 is null or a.reliability >= ${request.minReliability}::float8)
      and (cardinality(${sql.val(request.regions)}::text[]) = 0 or a.region = any(${sql.val(request.regions)}::text[]))
      and (cardinality(${sql.val(request.providers)}::text[]) = 0 or a.provider = any(${sql.val(request.providers)}::text[]))
    order by a.price_micro_usd_per_hour, w.ready_at, w.id
    limit ${limit}`;
}

/** What stands claimed for these and is not handed over. */
export function listClaimedFor(executor: Executor, claimants: string[]): Promise<InstanceRow[]> {
  if (claimants.length === 0) return Promise.resolve([]);
  return executor
    .selectFrom('instances')
    .selectAll()
    .where('claimed_by', 'in', claimants)
    .where('status', '=', 'ready')
    .execute();
}

/**
 * The machine becomes the claimant's, with its stack; the warm instance ends. Returns false where either is no longer what it was: the
 * claimant is being destroyed, or the machine is lost. Idempotent by that.
 */
export async function handOver(
  tx: Tx,
  claimantId: string,
  warm: Pick<InstanceRow, 'id'>,
  attempt: Pick<AttemptRow, 'id'>,
): Promise<boolean> {
  // As whoever finds the machine lost does.
  const seen = await findInstance(tx, null, warm.id);
  if (seen) await lockOperation(tx, seen.operation_id);
  const claimant = await lockInstance(tx, claimantId);
  const held = await lockInstance(tx, warm.id);
  if (claimant?.status !== 'booting' || held?.status !== 'ready' || held.claimed_by !== claimantId) return false;
  const moved = await tx
    .updateTable('attempts')
    .set({ instance_id: claimantId, pooled_instance_id: held.id, handed_over_at: sql`now()`, updated_at: sql`now()` })
    .where('id', '=', attempt.id)
    .where('instance_id', '=', held.id)
    .where('status', '=', 'ready')
    .returning('id')
    .executeTakeFirst();
  if (!moved) return false;
  await tx.updateTable('nodes').set({ instance_id: claimantId }).where('attempt_id', '=', attempt.id).execute();
  await tx
    .updateTable('instances')
    .set({
      stack_id: held.stack_id,
      // Another machine of it starts with the same environment.
      request: sql<string>`jsonb_build_object('sealedToStack', ${claimant.stack_id}::text) || request`,
    })
    .where('id', '=', claimantId)
    .execute();
  await setInstanceStatus(tx, claimantId, 'ready', { phase: 'active', note: null, winnerAttemptId: attempt.id });
  const note = `handed over to ${claimantId}`;
  await setInstanceStatus(tx, held.id, 'destroying', { note, winnerAttemptId: null });
  await setInstanceStatus(tx, held.id, 'destroyed');
  const left = await tx
    .selectFrom('instances')
    .select('id')
    .where('stack_id', '=', claimant.stack_id)
    .executeTakeFirst();
  if (!left) await markStackRemoved(tx, claimant.stack_id);
  await meterAttempts(tx, [attempt.id]);
  return true;
}
