/** What nodes have room for: the facts that pods are placed by (domain/pods/schedule.ts). */
import { sql } from 'kysely';
import type { FailureVerdict } from '../domain/failure.ts';
import { judgeFreshness, judgeHealth, type NodeStatus, type NodeVerdict } from '../domain/node.ts';
import { isHolding } from '../domain/pods/pod.ts';
import { hostPortsOf, type NodeGpuFacts, type NodeRoom, type Taken } from '../domain/pods/schedule.ts';
import type { Executor } from './database.ts';
import type { PodRow } from './pods.ts';

/** As agents report it. */
interface Reading {
  verdict: NodeVerdict;
  reason: string | null;
  gpus: ReportedGpu[] | null;
}

interface ReportedGpu {
  index: number | null;
  uuid: string | null;
  name: string | null;
  memoryTotalMib: number | null;
  migMode: 'enabled' | 'disabled' | null;
  problem: string | null;
}

/**
 * Nodes of an org that pods may be placed on at all: its own hosts, and machines of instances that are ready and in somebody's use. Not one
 * that is still being raced for, nor one that is kept warm, nor a standby.
 */
export async function listRooms(executor: Executor, orgId: string, intervalMs: number): Promise<NodeRoom[]> {
  const nodes = await executor
    .selectFrom('nodes')
    .leftJoin('attempts', 'attempts.id', 'nodes.attempt_id')
    .leftJoin('instances', 'instances.id', 'attempts.instance_id')
    .leftJoin('hosts', 'hosts.node_id', 'nodes.id')
    .leftJoin('node_watches', 'node_watches.node_id', 'nodes.id')
    .select([
      'nodes.id',
      'attempts.instance_id',
      'nodes.heartbeat_at',
      'nodes.registered_at',
      'nodes.key_hash',
      'nodes.cordoned_at',
      'nodes.fenced_at',
      'nodes.powering_off_at',
      'nodes.engine',
      'nodes.system',
      'nodes.gpu as reading',
      'attempts.status as attempt_status',
      'attempts.provider',
      'attempts.region',
      'attempts.gpu',
      'attempts.gpu_count',
      'attempts.gpu_memory_gib',
      'node_watches.verdict',
      'hosts.labels',
      'hosts.removed_at',
    ])
    .select(sql<number>`extract(epoch from now()) * 1000`.as('now'))
    .where('nodes.org_id', '=', orgId)
    .where('nodes.standby_id', 'is', null)
    .where((eb) =>
      eb.or([
        eb.and([eb('hosts.node_id', 'is not', null), eb('hosts.removed_at', 'is', null)]),
        eb.and([
          eb('attempts.status', '=', 'ready'),
          eb('instances.status', '=', 'ready'),
          eb('instances.pool_id', 'is', null),
          eb('instances.winner_attempt_id', '=', eb.ref('attempts.id')),
        ]),
      ]),
    )
    .orderBy('nodes.id')
    .execute();
  const taken = await listTaken(executor, orgId);
  return nodes.map((row) => {
    const reading = row.reading as Reading | null;
    const system = row.system as { memoryTotalMib: number | null; cpuCount: number | null } | null;
    const promised = { gpu: row.gpu, gpuCount: row.gpu_count, gpuMemoryGib: row.gpu_memory_gib };
    return {
      id: row.id,
      instanceId: row.instance_id,
      labels: row.labels ?? labelsOf(row),
      status: statusOf(row.verdict, {
        lastHeartbeatAt: row.heartbeat_at?.getTime() ?? null,
        registeredAt: row.key_hash === null ? null : row.registered_at.getTime(),
        isMachineGone: row.attempt_status === 'gone',
        isRemoved: row.removed_at !== null,
        intervalMs,
        now: Number(row.now),
      }),
      health: judgeHealth(reading, promised).value,
      isCordoned: row.cordoned_at !== null,
      isFenced: row.fenced_at !== null || row.powering_off_at !== null,
      hasEngine: row.engine !== null && (row.engine as { problem: string | null }).problem === null,
      gpus: (reading?.gpus ?? []).flatMap(gpuFacts),
      memoryMib: system?.memoryTotalMib ?? null,
      cpus: system?.cpuCount ?? null,
      taken: taken.get(row.id) ?? NOTHING,
    };
  });
}

/** Whoever looks after nodes may know before they are overdue that one is dead: nothing is placed on one that is suspected. */
function statusOf(verdict: FailureVerdict | null, facts: Parameters<typeof judgeFreshness>[0]): NodeStatus {
  const { value } = judgeFreshness(facts);
  return value === 'online' && verdict !== null && verdict !== 'alive' ? 'stale' : value;
}

const NOTHING: Taken = { gpuIndexes: [], memoryMib: 0, cpus: 0, hostPorts: [] };

async function listTaken(executor: Executor, orgId: string): Promise<Map<string, Taken>> {
  const pods = await executor
    .selectFrom('pods')
    .select(['status', 'node_id', 'gpus', 'spec'])
    .where('org_id', '=', orgId)
    .where('node_id', 'is not', null)
    .where('removed_at', 'is', null)
    .execute();
  const taken = new Map<string, Taken>();
  for (const pod of pods) {
    if (pod.node_id === null || !isHolding({ status: pod.status, nodeId: pod.node_id })) continue;
    taken.set(pod.node_id, sumTaken(taken.get(pod.node_id) ?? NOTHING, pod));
  }
  return taken;
}

function sumTaken(before: Taken, { gpus, spec }: Pick<PodRow, 'gpus' | 'spec'>): Taken {
  return {
    gpuIndexes: [...before.gpuIndexes, ...gpus.map(({ index }) => index)],
    memoryMib: before.memoryMib + (spec.resources.memoryMib ?? 0),
    cpus: before.cpus + (spec.resources.cpus ?? 0),
    hostPorts: [...before.hostPorts, ...hostPortsOf(spec.ports)],
  };
}

function gpuFacts({ index, uuid, name, memoryTotalMib, migMode, problem }: ReportedGpu): NodeGpuFacts[] {
  if (index === null) return [];
  const isUsable = problem === null && migMode !== 'enabled';
  return [{ index, uuid, model: name, memoryMib: memoryTotalMib, isUsable }];
}

function labelsOf(row: { provider: string | null; region: string | null; instance_id: string | null }) {
  const labels = { provider: row.provider, region: row.region, instance: row.instance_id };
  return Object.fromEntries(Object.entries(labels).filter((entry): entry is [string, string] => entry[1] !== null));
}
