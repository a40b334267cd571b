/** A standby as the API shows it. What its lag means is domain/standby.ts's; ages are of now. */
import { allowedStandbyActions } from '../../domain/standby.ts';
import type { OperationRow } from '../../db/operations.ts';
import type { StackRow } from '../../db/stacks.ts';
import type { StandbyRow } from '../../db/standbys.ts';
import type { StandbyReply } from '../contract/standbys.ts';
import { iso, isoOrNull } from '../reply-values.ts';
import { operationRefReply } from './operation-reply.ts';

/** @param underWay on its stack */
export function standbyReply(
  row: StandbyRow,
  stack: StackRow | undefined,
  underWay: OperationRow | undefined,
  now: number,
): StandbyReply {
  const ageOf = (at: Date | null) => (at === null ? null : Math.max(0, now - at.getTime()));
  const price = stack?.price_micro_usd_per_hour ?? null;
  return {
    id: row.id,
    name: row.name,
    instanceId: row.instance_id,
    status: row.status,
    state: row.state,
    rpoMs: row.rpo_ms,
    lag: {
      recoveryPointAt: isoOrNull(row.recovery_point_at),
      ageMs: ageOf(row.recovery_point_at),
      isBehind: row.behind_since !== null,
      behindSince: isoOrNull(row.behind_since),
      reason: row.behind_reason,
      checkedAt: isoOrNull(row.checked_at),
    },
    synced: {
      snapshotId: row.synced_snapshot_id,
      to: isoOrNull(row.synced_to),
      ageMs: ageOf(row.synced_to),
      isUnderWay: row.sync_operation_id !== null,
      failure: row.sync_failure,
    },
    stackId: row.stack_id,
    nodeId: row.node_id,
    address: row.address,
    agent: {
      registeredAt: isoOrNull(row.node_registered_at),
      lastHeartbeatAt: isoOrNull(row.node_heartbeat_at),
    },
    servingSince: isoOrNull(row.serving_since),
    priceMicroUsdPerHour: price === null ? null : Number(price),
    drills:
      row.drill_every_ms === null || row.drill_policy === null
        ? null
        : { everyMs: Number(row.drill_every_ms), mode: row.drill_policy.mode },
    drilledAt: isoOrNull(row.drilled_at),
    operation: underWay ? operationRefReply(underWay) : null,
    allowedActions: allowedStandbyActions(row.status),
    failure: row.failure_code === null ? null : { code: row.failure_code, detail: row.failure_detail ?? '' },
    createdAt: iso(row.created_at),
  };
}
