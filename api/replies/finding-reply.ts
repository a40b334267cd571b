/** A finding as the API shows it. */
import { accrueFinding, allowedFindingActions, type FindingAction } from '../../domain/finding.ts';
import type { UsageInterval } from '../../domain/usage.ts';
import type { FindingRow } from '../../db/findings.ts';
import type { Finding } from '../contract/findings.ts';
import { iso, isoOrNull, micro, microOrNull } from '../reply-values.ts';

/** @param usage of the attempt that the finding names */
export function findingReply(row: FindingRow, usage: readonly UsageInterval[], now: number): Finding {
  return {
    id: row.id,
    orgId: row.org_id,
    class: row.class,
    provider: row.provider,
    providerInstanceId: row.provider_instance_id,
    attemptId: row.attempt_id,
    instanceId: row.instance_id,
    stackId: row.stack_id,
    label: row.label,
    detail: row.detail,
    priceMicroUsdPerHour: microOrNull(row.price_micro_usd_per_hour),
    accruedMicroUsd: micro(
      accrueFinding({
        class: row.class,
        priceMicroUsdPerHour: row.price_micro_usd_per_hour,
        firstSeenAt: row.first_seen_at.getTime(),
        endedAt: row.resolved_at?.getTime() ?? null,
        usage,
        now,
      }),
    ),
    sightings: row.sightings,
    status: row.status,
    resolution: row.resolution,
    reason: row.reason,
    ignoredUntil: isoOrNull(row.ignored_until),
    operationId: row.operation_id,
    allowedActions: actionsOf(row),
    firstSeenAt: iso(row.first_seen_at),
    lastSeenAt: iso(row.last_seen_at),
    resolvedAt: isoOrNull(row.resolved_at),
  };
}

export function actionsOf(row: FindingRow): FindingAction[] {
  return allowedFindingActions({
    class: row.class,
    status: row.status,
    hasMachine: row.provider_instance_id !== null && row.label !== null,
    priceMicroUsdPerHour: row.price_micro_usd_per_hour,
  });
}
