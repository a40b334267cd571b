/** What previews of stacks showed: steps, prices and broken rules, kept so that an up can be held to them. */
import { sql, type Selectable } from 'kysely';
import type { PolicyViolation } from '../domain/policy.ts';
import type { PlannedStep, PriceDiff } from '../domain/prices/price-diff.ts';
import type { ResourcePrice } from '../domain/prices/resource-price.ts';
import { PLAN_VALID_MS } from '../domain/stack.ts';
import type { Executor } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type StackPlanRow = Selectable<Schema['stack_plans']>;

/** Amounts as numbers: all are far below 2^53. */
export interface StoredPrices {
  beforeMicroUsdPerHour: number;
  afterMicroUsdPerHour: number;
  resources: { urn: string; before: StoredPrice | null; after: StoredPrice | null }[];
  unpriced: { urn: string; why: string }[];
}

export type StoredPrice =
  | {
      kind: 'amount';
      microUsdPerHour: number;
      parts: { sku: string; quantity: number; microUsdPerHour: number; source: string; date: string }[];
    }
  | { kind: 'usage' | 'unknown'; why: string };

/** Idempotent for one operation: a step that runs again replaces what it planned. */
export async function saveStackPlan(
  executor: Executor,
  plan: {
    stackId: string;
    orgId: string;
    operationId: string;
    updateKind: 'up' | 'destroy';
    planHash: string;
    steps: PlannedStep[];
    prices: PriceDiff;
    violations: PolicyViolation[];
  },
): Promise<void> {
  const content = {
    plan_hash: plan.planHash,
    steps: JSON.stringify(plan.steps),
    prices: JSON.stringify(storePrices(plan.prices)),
    violations: JSON.stringify(plan.violations),
    expires_at: sql<Date>`now() + ${PLAN_VALID_MS} * interval '1 millisecond'`,
  };
  await executor
    .insertInto('stack_plans')
    .values({
      id: newId('plan'),
      stack_id: plan.stackId,
      org_id: plan.orgId,
      operation_id: plan.operationId,
      update_kind: plan.updateKind,
      ...content,
    })
    .onConflict((conflict) => conflict.column('operation_id').doUpdateSet(content))
    .execute();
}

export async function findPlanOfOperation(executor: Executor, operationId: string): Promise<StackPlanRow | undefined> {
  return executor.selectFrom('stack_plans').selectAll().where('operation_id', '=', operationId).executeTakeFirst();
}

/** The newest with the hash. `isExpired` by the database's clock. */
export async function findStackPlan(
  executor: Executor,
  stackId: string,
  planHash: string,
): Promise<(StackPlanRow & { isExpired: boolean }) | undefined> {
  return executor
    .selectFrom('stack_plans')
    .selectAll()
    .select(sql<boolean>`expires_at < now()`.as('isExpired'))
    .where('stack_id', '=', stackId)
    .where('plan_hash', '=', planHash)
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
}

function storePrices(prices: PriceDiff): StoredPrices {
  return {
    beforeMicroUsdPerHour: Number(prices.beforeMicroUsdPerHour),
    afterMicroUsdPerHour: Number(prices.afterMicroUsdPerHour),
    resources: prices.resources.map(({ urn, before, after }) => ({
      urn,
      before: before && storePrice(before),
      after: after && storePrice(after),
    })),
    unpriced: prices.unpriced,
  };
}

function storePrice(price: ResourcePrice): StoredPrice {
  if (price.kind !== 'amount') return { kind: price.kind, why: price.why };
  return {
    kind: 'amount',
    microUsdPerHour: Number(price.microUsdPerHour),
    parts: price.parts.map((part) => ({ ...part, microUsdPerHour: Number(part.microUsdPerHour) })),
  };
}
