/** A node as the API shows it: what it reported, held against what was promised and against the time. */
import { judgeFreshness, judgeHealth } from '../../domain/node.ts';
import type { NodeHost, NodeRow } from '../../db/nodes.ts';
import type { GpuReading, Node, SystemFacts } from '../contract/nodes.ts';
import type { ContainerEngine } from '../contract/pods.ts';
import { iso, isoOrNull } from '../reply-values.ts';

export function nodeReply(row: NodeRow, intervalMs: number, now: number): Node {
  const gpu = row.gpu as GpuReading | null;
  const freshness = judgeFreshness({
    lastHeartbeatAt: row.heartbeat_at?.getTime() ?? null,
    registeredAt: row.key_hash === null ? null : row.registered_at.getTime(),
    isMachineGone: row.attempt_status === 'gone',
    isRemoved: row.host?.is_removed === true || row.is_standby_removed,
    hasLeft: row.left_at !== null,
    intervalMs,
    now,
  });
  const health = judgeHealth(gpu, {
    gpu: row.promised_gpu,
    gpuCount: row.promised_gpu_count,
    gpuMemoryGib: row.promised_gpu_memory_gib,
  });
  return {
    id: row.id,
    status: freshness.value,
    statusReason: freshness.reason,
    instanceId: row.instance_id,
    attemptId: row.attempt_id,
    standbyId: row.standby_id,
    host: row.host && hostReply(row.host),
    cluster: clusterOf(row),
    isCordoned: row.cordoned_at !== null,
    suspicion: suspicionReply(row),
    health: health.value,
    healthReason: health.reason,
    agentVersion: row.agent_version,
    engine: row.engine as ContainerEngine | null,
    bootId: row.boot_id,
    reboots: row.reboots,
    rebootedAt: isoOrNull(row.rebooted_at),
    registeredAt: row.key_hash === null && row.heartbeat_at === null ? null : iso(row.registered_at),
    lastHeartbeatAt: isoOrNull(row.heartbeat_at),
    system: row.system as SystemFacts | null,
    gpu,
    isFenced: row.fenced_at !== null,
    activityDeclaredAt: isoOrNull(row.activity_declared_at),
    poweringOffAt: isoOrNull(row.powering_off_at),
    poweringOffReason: row.powering_off_reason,
  };
}

function clusterOf({
  cluster_id: id,
  cluster_name: name,
  kubernetes_name: nodeName,
  kubernetes_uid: nodeUid,
}: NodeRow): Node['cluster'] {
  if (id === null || name === null || nodeName === null || nodeUid === null) return null;
  return { id, name, nodeName, nodeUid };
}

function suspicionReply(row: NodeRow): Node['suspicion'] {
  const { watch_verdict: verdict, watch_since: since, watch_checked_at: checkedAt } = row;
  if (verdict === null || verdict === 'alive' || since === null || checkedAt === null) return null;
  return { verdict, since: iso(since), reasons: row.watch_reasons ?? [], checkedAt: iso(checkedAt) };
}

function hostReply(host: NodeHost): NonNullable<Node['host']> {
  return {
    stackId: host.stack_id,
    name: host.name,
    address: host.address,
    port: host.port,
    user: host.ssh_user,
    hostKeySha256: host.host_key_sha256,
    credentialId: host.credential_id,
    labels: host.labels,
    isAddedAlone: host.added_by !== null,
  };
}
