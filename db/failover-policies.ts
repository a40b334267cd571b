/** Failover policies: what is to happen by itself when an instance loses its machine. No row: nothing. */
import { sql, type Selectable } from 'kysely';
import type { FailoverPolicy } from '../domain/failover.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

export type FailoverPolicyRow = Selectable<Schema['failover_policies']>;

export async function findFailoverPolicy(executor: Executor, instanceId: string): Promise<FailoverPolicy | null> {
  const row = await executor
    .selectFrom('failover_policies')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .executeTakeFirst();
  return row === undefined ? null : policyFromRow(row);
}

export async function saveFailoverPolicy(
  tx: Tx,
  instance: { id: string; orgId: string },
  policy: FailoverPolicy,
  changedBy: string,
): Promise<void> {
  const row = {
    mode: policy.mode,
    rpo_ms: BigInt(policy.rpoMs),
    max_price_micro_usd_per_hour: policy.maxPriceMicroUsdPerHour,
    budget_micro_usd_per_day: policy.budgetMicroUsdPerDay ?? null,
    cooldown_ms: BigInt(policy.cooldownMs),
    max_per_day: policy.maxPerDay,
    failback: policy.failback,
    changed_by: changedBy,
  };
  await tx
    .insertInto('failover_policies')
    .values({ instance_id: instance.id, org_id: instance.orgId, ...row })
    .onConflict((conflict) => conflict.column('instance_id').doUpdateSet({ ...row, changed_at: sql<string>`now()` }))
    .execute();
}

function policyFromRow(row: FailoverPolicyRow): FailoverPolicy {
  return {
    mode: row.mode,
    rpoMs: Number(row.rpo_ms),
    maxPriceMicroUsdPerHour: row.max_price_micro_usd_per_hour,
    budgetMicroUsdPerDay: row.budget_micro_usd_per_day,
    cooldownMs: Number(row.cooldown_ms),
    maxPerDay: row.max_per_day,
    failback: row.failback,
  };
}
