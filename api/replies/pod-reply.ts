/** A pod as the API shows it. What is sealed of it is named and never shown. */
import { allowedPodActions } from '../../domain/pods/pod.ts';
import type { PodRow } from '../../db/pods.ts';
import type { Pod } from '../contract/pods.ts';
import { iso, isoOrNull } from '../reply-values.ts';

export function podReply(row: PodRow): Pod {
  return {
    id: row.id,
    name: row.name,
    status: row.status,
    reason: row.reason,
    allowedActions: allowedPodActions(row),
    nodeId: row.node_id,
    run: row.run,
    isLeaving: row.is_leaving,
    gpus: row.gpus,
    ports: row.published_ports,
    health: row.health,
    pullPercent: row.pull_percent,
    imageDigest: row.image_digest,
    restarts: row.restarts,
    exitCode: row.exit_code,
    moves: row.moves,
    spec: row.spec,
    secretEnvNames: row.secret_names,
    registryCredentialId: row.credential_id,
    requirements: row.requirements,
    onNodeLost: row.on_node_lost,
    createdBy: row.created_by,
    createdAt: iso(row.created_at),
    startedAt: isoOrNull(row.started_at),
    finishedAt: isoOrNull(row.finished_at),
    removedAt: isoOrNull(row.removed_at),
  };
}
