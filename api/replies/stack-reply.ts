/** A stack's row and its plans as the API shows them. */
import { per30Days } from '../../domain/money.ts';
import { allowedStackActions } from '../../domain/stack.ts';
import type { OperationRow } from '../../db/operations.ts';
import type { StackPlanRow, StoredPrice } from '../../db/stack-plans.ts';
import type { StackRow } from '../../db/stacks.ts';
import type { HistoryRow } from '../../db/update-history.ts';
import type { StackPlanReply, StackReply, StackUpdateReply } from '../contract/stacks.ts';
import { iso, isoOrNull, micro } from '../reply-values.ts';
import { operationRefReply } from './operation-reply.ts';

export function stackReply(row: StackRow, underWay: OperationRow | undefined): StackReply {
  const ceiling = row.ceiling_micro_usd_per_hour;
  return {
    id: row.id,
    name: row.title,
    kind: row.kind,
    status: row.status,
    config: row.config as Record<string, unknown>,
    owner: row.owner,
    costCentre: row.cost_centre,
    ceilingMicroUsdPerHour: ceiling === null ? null : micro(ceiling),
    protect: row.protect,
    onDrift: row.on_drift,
    resourceCount: row.resource_count,
    priceMicroUsdPerHour: row.price_micro_usd_per_hour === null ? null : micro(row.price_micro_usd_per_hour),
    unpricedCount: row.unpriced.length,
    operation: underWay ? operationRefReply(underWay) : null,
    allowedActions: underWay ? ['cancel'] : allowedStackActions(row.status),
    driftedCount: row.drift === null ? null : row.drift.length,
    driftCheckedAt: isoOrNull(row.drift_checked_at),
    pendingCount: (row.pending ?? []).filter(({ decision }) => decision === null).length,
    failure: row.failure_code === null ? null : { code: row.failure_code, detail: row.failure_detail ?? '' },
    createdAt: iso(row.created_at),
    updatedAt: isoOrNull(row.updated_at),
  };
}

export function stackUpdateReply(row: HistoryRow, changes: Record<string, number>): StackUpdateReply {
  return {
    id: row.id,
    kind: row.kind,
    result: row.status,
    reason: row.end_reason,
    who: row.who,
    operationId: row.operation_id,
    message: row.request.message ?? '',
    engineVersion: row.engine_version,
    version: row.version,
    changes,
    startedAt: isoOrNull(row.started_at),
    endedAt: isoOrNull(row.ended_at),
  };
}

/** @param notes what else its reader has to know */
export function stackPlanReply(plan: StackPlanRow, operation: OperationRow, notes: string[]): StackPlanReply {
  const prices = new Map(plan.prices.resources.map((one) => [one.urn, one]));
  const changed = plan.steps.filter((step) => step.op !== 'same');
  const { beforeMicroUsdPerHour: before, afterMicroUsdPerHour: after } = plan.prices;
  return {
    operation: operationRefReply(operation),
    update: plan.update_kind,
    changes: changed.map(({ urn, name, type, op, changedInputs }) => ({
      urn,
      name,
      type,
      op,
      changedInputs,
      before: priceReply(prices.get(urn)?.before ?? null),
      after: priceReply(prices.get(urn)?.after ?? null),
    })),
    unchangedCount: plan.steps.length - changed.length,
    priceMicroUsdPerHour: after,
    priceMicroUsdPer30Days: in30Days(after),
    deltaMicroUsdPerHour: after - before,
    deltaMicroUsdPer30Days: in30Days(after) - in30Days(before),
    unpriced: plan.prices.unpriced,
    violations: plan.violations,
    notes,
    planHash: plan.plan_hash,
    expiresAt: iso(plan.expires_at),
  };
}

function priceReply(price: StoredPrice | null) {
  if (price === null) return null;
  if (price.kind !== 'amount')
    return { kind: price.kind, microUsdPerHour: null, microUsdPer30Days: null, why: price.why, parts: [] };
  const { kind, microUsdPerHour, parts } = price;
  return { kind, microUsdPerHour, microUsdPer30Days: in30Days(microUsdPerHour), why: null, parts };
}

function in30Days(microUsdPerHour: number): number {
  return micro(per30Days(BigInt(microUsdPerHour)));
}
