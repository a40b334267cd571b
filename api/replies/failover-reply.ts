/** A failover, a policy and an endpoint as the API shows them. */
import type { FailoverPhase, FailoverPolicy } from '../../domain/failover.ts';
import type { EndpointRow } from '../../db/endpoints.ts';
import type { FailoverRow } from '../../db/failovers.ts';
import type { EndpointReply, FailoverPolicyReply, FailoverReply } from '../contract/failovers.ts';
import { iso, isoOrNull, micro, microOrNull } from '../reply-values.ts';

/** @param cost from its detection to its end, or so far */
export function failoverReply(row: FailoverRow, cost: bigint): FailoverReply {
  const lostAt = row.lost_at.getTime();
  const dataAgeMs = row.recovery_point_at === null ? null : Math.max(0, lostAt - row.recovery_point_at.getTime());
  const rpoMs = Number(row.rpo_ms);
  return {
    id: row.id,
    instanceId: row.instance_id,
    operationId: row.operation_id,
    cause: row.cause,
    mode: row.mode,
    phase: row.phase,
    note: row.note,
    reasons: row.reasons,
    phases: phasesOf(row),
    lost: { attemptId: row.lost_attempt_id, nodeId: row.lost_node_id, at: iso(row.lost_at) },
    detectedAt: iso(row.detected_at),
    detectionMs: Math.max(0, row.detected_at.getTime() - lostAt),
    servingAt: isoOrNull(row.serving_at),
    rtoMs: row.serving_at === null ? null : Math.max(0, row.serving_at.getTime() - lostAt),
    replacedAt: isoOrNull(row.replaced_at),
    standbyId: row.standby_id,
    replacementAttemptId: row.replacement_attempt_id,
    snapshotId: row.snapshot_id,
    recoveryPointAt: isoOrNull(row.recovery_point_at),
    dataAgeMs,
    rpoMs,
    isWithinRpo: dataAgeMs === null ? null : dataAgeMs <= rpoMs,
    costMicroUsd: micro(cost),
    failback: row.failback,
    failbackRequestedAt: isoOrNull(row.failback_requested_at),
    failure: row.failure_code === null ? null : { code: row.failure_code, detail: row.failure_detail ?? '' },
    createdAt: iso(row.created_at),
    finishedAt: isoOrNull(row.finished_at),
  };
}

function phasesOf(row: FailoverRow): FailoverReply['phases'] {
  const begun = Object.entries(row.phase_at)
    .map(([phase, at]) => ({ phase: phase as FailoverPhase, at: new Date(at) }))
    .sort((a, b) => a.at.getTime() - b.at.getTime());
  return begun.map(({ phase, at }, index) => {
    const next = begun[index + 1];
    return {
      phase,
      at: iso(at),
      durationMs: next === undefined ? null : next.at.getTime() - at.getTime(),
      costMicroUsd: row.phase_cost[phase] ?? null,
    };
  });
}

export function failoverPolicyReply(instanceId: string, policy: FailoverPolicy): FailoverPolicyReply {
  return {
    instanceId,
    ...policy,
    maxPriceMicroUsdPerHour: microOrNull(policy.maxPriceMicroUsdPerHour),
    budgetMicroUsdPerDay: microOrNull(policy.budgetMicroUsdPerDay ?? null),
  };
}

/** @param row undefined: the instance was never reached anywhere */
export function endpointReply(instanceId: string, row: EndpointRow | undefined): EndpointReply {
  return {
    instanceId,
    kind: row?.kind ?? 'none',
    host: row?.host ?? null,
    port: row?.port ?? null,
    user: row?.ssh_user ?? null,
    nodeId: row?.node_id ?? null,
    version: Number(row?.version ?? 0),
    changedAt: isoOrNull(row?.changed_at ?? null),
  };
}
