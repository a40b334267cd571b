/** A drill as the API shows it. */
import type { DrillRow } from '../../db/drills.ts';
import type { DrillReply } from '../contract/standbys.ts';
import { iso, isoOrNull } from '../reply-values.ts';

export function drillReply(row: DrillRow): DrillReply {
  return {
    id: row.id,
    standbyId: row.standby_id,
    instanceId: row.instance_id,
    failoverId: row.failover_id,
    mode: row.mode,
    status: row.status,
    phase: row.phase,
    targets: row.targets,
    measures: row.measures,
    failures: row.failures,
    moments: row.moments,
    operationId: row.operation_id,
    createdAt: iso(row.created_at),
    finishedAt: isoOrNull(row.finished_at),
  };
}
