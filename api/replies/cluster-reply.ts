/** A cluster as the API shows it. How it is reached is shown by one route only, to those who may have it. */
import { allowedClusterActions, BETTER_AFTER, WORSE_AFTER } from '../../domain/clusters/cluster.ts';
import type { NodeFacts } from '../../domain/clusters/node-facts.ts';
import type { ClusterFactsRow, ClusterRow } from '../../db/clusters.ts';
import type { NodeRow } from '../../db/nodes.ts';
import type { OperationRow } from '../../db/operations.ts';
import type { StackRow } from '../../db/stacks.ts';
import type { ClusterHealthReply, ClusterNodesReply, ClusterReply } from '../contract/clusters.ts';
import type { Node } from '../contract/nodes.ts';
import { iso, isoOrNull } from '../reply-values.ts';
import { nodeReply } from './node-reply.ts';
import { operationRefReply } from './operation-reply.ts';

/** @param stack that makes it; undefined: a registered one @param underWay on its stack */
export function clusterReply(
  row: ClusterRow,
  stack: StackRow | undefined,
  underWay: OperationRow | undefined,
): ClusterReply {
  return {
    id: row.id,
    name: row.name,
    kind: row.kind,
    status: row.status,
    reason: row.reason,
    stackId: row.stack_id,
    region: row.region,
    endpoint: row.endpoint,
    platform: row.platform,
    platformVersion: row.platform_version,
    kubernetesVersion: row.kubernetes_version,
    nodes: row.summary,
    isStopped: row.kind === 'aks' ? row.status === 'stopped' : null,
    priceMicroUsdPerHour: stack?.price_micro_usd_per_hour == null ? null : Number(stack.price_micro_usd_per_hour),
    operation: underWay ? operationRefReply(underWay) : null,
    allowedActions: allowedClusterActions(row.kind, row.status, {
      hasAccess: row.endpoint !== null,
      isUpdating: underWay !== undefined,
    }),
    failure: row.failure_code === null ? null : { code: row.failure_code, detail: row.failure_detail ?? '' },
    checkedAt: isoOrNull(row.checked_at),
    answeredAt: isoOrNull(row.answered_at),
    createdAt: iso(row.created_at),
  };
}

/** @param agent on it; undefined: none has joined */
export function clusterNodeReply(
  facts: NodeFacts,
  agent: NodeRow | undefined,
  intervalMs: number,
  now: number,
): ClusterNodesReply['items'][number] {
  // What was read before this was known.
  const uid = (facts as Partial<NodeFacts>).uid ?? null;
  return { ...facts, uid, agent: agent === undefined ? null : agentReply(nodeReply(agent, intervalMs, now)) };
}

function agentReply(node: Node): NonNullable<ClusterNodesReply['items'][number]['agent']> {
  const gpus = node.gpu?.gpus ?? null;
  const known = (gpus ?? []).flatMap(({ memoryTotalMib }) => (memoryTotalMib === null ? [] : [memoryTotalMib]));
  const slices = (gpus ?? []).flatMap(({ migDevices }) => migDevices ?? []);
  return {
    nodeId: node.id,
    status: node.status,
    statusReason: node.statusReason,
    lastHeartbeatAt: node.lastHeartbeatAt,
    health: node.health,
    healthReason: node.healthReason,
    hardwareType: node.gpu?.hardwareType ?? null,
    gpuModels: gpus && [...new Set(gpus.flatMap(({ name }) => (name === null ? [] : [name])))],
    gpuCount: gpus?.length ?? null,
    gpuMemoryMib: known.length === 0 ? null : known.reduce((total, one) => total + one, 0),
    driverVersion: node.gpu?.driverVersion ?? null,
    migDevices: slices.length === 0 ? null : slices.length,
  };
}

export function clusterHealthReply(row: ClusterRow, facts: ClusterFactsRow | undefined): ClusterHealthReply {
  const { streak } = row;
  return {
    status: row.status,
    reason: row.reason,
    checkedAt: isoOrNull(row.checked_at),
    answeredAt: isoOrNull(row.answered_at),
    changing: streak && {
      direction: streak.direction,
      to: streak.health,
      looks: streak.count,
      of: streak.direction === 'worse' ? WORSE_AFTER : BETTER_AFTER,
    },
    nodes: row.summary,
    unfitNodes: (facts?.nodes ?? [])
      .filter((node) => !node.isReady || node.pressures.length > 0)
      .map((node) => ({
        name: node.name,
        isReady: node.isReady,
        reason: node.notReadyReason,
        pressures: node.pressures,
      })),
  };
}
