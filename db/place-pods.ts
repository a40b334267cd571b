/**
 * Placing pods: pending ones onto nodes that have room, those of a lost node by their policies, those of a drained one away from it. One
 * transaction of an org at a time places, so that nothing is given away twice.
 */
import { sql, type UpdateObject } from 'kysely';
import { planDrain, planLoss, type PodOnNode } from '../domain/pods/leave.ts';
import { addTaken, placePod, type PodNeeds } from '../domain/pods/schedule.ts';
import { appendAudit, SYSTEM } from './audit.ts';
import type { Executor, Tx } from './database.ts';
import { raiseDesired } from './desired.ts';
import { listRooms } from './node-rooms.ts';
import type { Schema } from './schema.ts';
import { FRESH, lockPodsOfNode, REMOVED, stopPod, type PodRow } from './pods.ts';

/** Any constant: with an org, the key of the lock under which its pods are placed. */
const LOCK_SPACE = 730_618;
/** In one transaction; the cron comes again. */
const MAX_PENDING = 500;

/** Oldest first; one that fits nowhere has the reason, and keeps none behind it waiting. @returns how many were placed and how many wait */
export async function placePending(
  tx: Tx,
  orgId: string,
  intervalMs: number,
): Promise<{ placed: number; waiting: number; lost: number }> {
  await sql`select pg_advisory_xact_lock(${LOCK_SPACE}, hashtext(${orgId}))`.execute(tx);
  const pending = await tx
    .selectFrom('pods')
    .select(['id', 'org_id', 'name', 'run', 'reason', 'spec', 'requirements', 'previous_node_id'])
    .where('org_id', '=', orgId)
    .where('status', '=', 'pending')
    .orderBy('created_at')
    .orderBy('id')
    .limit(MAX_PENDING)
    .forUpdate()
    .execute();
  if (pending.length === 0) return { placed: 0, waiting: 0, lost: 0 };
  const gone = await findGonePlaces(tx, orgId, pending);
  let rooms = await listRooms(tx, orgId, intervalMs);
  const nodes = new Set<string>();
  let placed = 0;
  let lost = 0;
  for (const pod of pending) {
    const reason = whyNowhere(pod.requirements, gone);
    if (reason !== null) {
      lost += 1;
      await update(tx, pod, { status: 'lost', reason, finished_at: sql<Date>`coalesce(finished_at, now())`, ...AWAY });
      await audit(tx, pod, 'pod.lose', { reason });
      continue;
    }
    const needs = needsOf(pod);
    const placement = placePod(needs, rooms);
    if ('reason' in placement) {
      if (placement.reason !== pod.reason)
        await tx.updateTable('pods').set({ reason: placement.reason }).where('id', '=', pod.id).execute();
      continue;
    }
    const { nodeId, gpus } = placement;
    rooms = rooms.map((room) => (room.id === nodeId ? addTaken(room, needs, gpus) : room));
    const isMove = pod.previous_node_id !== null && pod.previous_node_id !== nodeId;
    await tx
      .updateTable('pods')
      .set({
        status: 'scheduled',
        reason: null,
        node_id: nodeId,
        previous_node_id: nodeId,
        gpus: JSON.stringify(gpus),
        ...(isMove ? { moves: sql<number>`moves + 1` } : {}),
      })
      .where('id', '=', pod.id)
      .execute();
    nodes.add(nodeId);
    placed += 1;
  }
  for (const nodeId of [...nodes].sort()) await raiseDesired(tx, nodeId);
  return { placed, waiting: pending.length - placed - lost, lost };
}

interface GonePlaces {
  instances: ReadonlySet<string>;
  nodes: ReadonlySet<string>;
}

/** Of the instances and nodes that these are bound to, those that no pod can ever run on again. */
async function findGonePlaces(
  tx: Tx,
  orgId: string,
  pods: readonly Pick<PodRow, 'requirements'>[],
): Promise<GonePlaces> {
  const idsOf = (member: 'instanceId' | 'nodeId') => [
    ...new Set(pods.flatMap(({ requirements }) => requirements[member] ?? [])),
  ];
  const [instanceIds, nodeIds] = [idsOf('instanceId'), idsOf('nodeId')];
  const { rows } = await sql<{ kind: 'instance' | 'node'; id: string }>`
    select 'instance' as kind, wanted.id from unnest(${instanceIds}::text[]) as wanted(id)
      left join instances i on i.id = wanted.id and i.org_id = ${orgId}
      where i.id is null or i.status in ('destroying', 'destroyed')
    union all
    select 'node', wanted.id from unnest(${nodeIds}::text[]) as wanted(id)
      left join nodes n on n.id = wanted.id and n.org_id = ${orgId}
      left join attempts a on a.id = n.attempt_id left join hosts h on h.node_id = n.id
      where n.id is null or a.status in ('destroying', 'gone', 'lost') or h.removed_at is not null`.execute(tx);
  const of = (kind: string) => new Set(rows.filter((row) => row.kind === kind).map(({ id }) => id));
  return { instances: of('instance'), nodes: of('node') };
}

/** null: it may be placed, now or later. */
function whyNowhere({ instanceId, nodeId }: PodRow['requirements'], gone: GonePlaces): string | null {
  if (instanceId !== null && gone.instances.has(instanceId)) return `its instance ${instanceId} is destroyed`;
  if (nodeId !== null && gone.nodes.has(nodeId)) return `its node ${nodeId} is gone`;
  return null;
}

/**
 * The node will not come back to its pods: its machine is gone, or it is fenced and given up. Each pod goes by its policy; what is pending
 * is placed by the next look (placePending). Idempotent. @returns how many are placed anew, and how many stay lost
 */
export async function rescheduleLost(
  tx: Tx,
  nodeId: string,
  reason: string,
): Promise<{ rescheduled: number; lost: number }> {
  const rows = await lockPodsOfNode(tx, nodeId);
  const outcomes = new Map(planLoss(rows.map(onNode)).map(({ podId, outcome }) => [podId, outcome]));
  const count = { rescheduled: 0, lost: 0 };
  for (const row of rows) {
    const outcome = outcomes.get(row.id);
    const why = `its node ${nodeId} was lost: ${reason}`.slice(0, 500);
    if (outcome === 'pending') {
      count.rescheduled += 1;
      await update(tx, row, { status: 'pending', reason: why, run: row.run + 1, ...AWAY, ...FRESH });
      await audit(tx, row, 'pod.reschedule', { nodeId, reason });
    } else if (outcome === 'lost' && row.status !== 'lost') {
      count.lost += 1;
      await update(tx, row, {
        status: 'lost',
        reason: why,
        finished_at: sql<Date>`coalesce(finished_at, now())`,
        ...AWAY,
      });
      await audit(tx, row, 'pod.lose', { nodeId, reason });
    } else if (outcome === 'removed') {
      await update(tx, row, REMOVED);
    } else if (outcome === 'stopped') {
      await update(tx, row, { status: 'stopped', finished_at: sql<Date>`coalesce(finished_at, now())`, ...AWAY });
    } else if (outcome === 'kept') {
      await update(tx, row, AWAY);
    }
  }
  if (rows.length > 0) await raiseDesired(tx, nodeId);
  return count;
}

/**
 * What runs on the node ends there, and is placed elsewhere when its agent says that it has; what may not move is stopped. The caller
 * cordons it. Idempotent. @returns what becomes of how many
 */
export async function acceptDrain(tx: Tx, nodeId: string): Promise<{ moving: number; stopping: number }> {
  const rows = await lockPodsOfNode(tx, nodeId);
  const actions = new Map(planDrain(rows.map(onNode)).map(({ podId, action }) => [podId, action]));
  const count = { moving: 0, stopping: 0 };
  for (const row of rows) {
    const action = actions.get(row.id);
    if (action === 'move') {
      count.moving += 1;
      if (row.is_leaving) continue;
      await update(tx, row, { is_leaving: true, reason: `its node ${nodeId} is being drained` });
      await audit(tx, row, 'pod.move', { nodeId });
    } else if (action === 'stop') {
      count.stopping += 1;
      await stopPod(tx, row, `its node ${nodeId} was drained`);
      await audit(tx, row, 'pod.stop', { nodeId });
    }
  }
  if (count.moving > 0) await raiseDesired(tx, nodeId);
  return count;
}

/** Nothing of it is left on the node that it was to leave: it is pending. */
export async function leaveNode(tx: Tx, row: PodRow): Promise<void> {
  await update(tx, row, { status: 'pending', reason: null, run: row.run + 1, ...AWAY, ...FRESH });
}

/** Orgs whose pods wait for a node. */
export async function listWaitingOrgs(executor: Executor): Promise<string[]> {
  const rows = await executor.selectFrom('pods').select('org_id').distinct().where('status', '=', 'pending').execute();
  return rows.map((row) => row.org_id);
}

/** Nodes that have pods and whose machine is gone or being destroyed, or whose host was removed; with why. */
export async function listLeftNodes(executor: Executor, limit = 100): Promise<{ nodeId: string; reason: string }[]> {
  const rows = await executor
    .selectFrom('nodes')
    .leftJoin('attempts', 'attempts.id', 'nodes.attempt_id')
    .leftJoin('hosts', 'hosts.node_id', 'nodes.id')
    .select(['nodes.id', 'attempts.status'])
    .where((eb) =>
      eb.exists(
        eb
          .selectFrom('pods')
          .select('pods.id')
          .whereRef('pods.node_id', '=', 'nodes.id')
          .where('pods.removed_at', 'is', null),
      ),
    )
    .where((eb) =>
      eb.or([eb('attempts.status', 'in', ['destroying', 'gone', 'lost']), eb('hosts.removed_at', 'is not', null)]),
    )
    .orderBy('nodes.id')
    .limit(limit)
    .execute();
  return rows.map(({ id, status }) => ({
    nodeId: id,
    reason:
      status === null
        ? 'its host was removed'
        : status === 'destroying'
          ? 'its machine is being destroyed'
          : 'its machine is gone',
  }));
}

const AWAY = { node_id: null, gpus: '[]', is_leaving: false } as const;

function onNode(row: PodRow): PodOnNode {
  return {
    id: row.id,
    status: row.status,
    desired: row.desired,
    onNodeLost: row.on_node_lost,
    isPinned: row.requirements.nodeId !== null,
  };
}

function needsOf(pod: Pick<PodRow, 'spec' | 'requirements' | 'previous_node_id'>): PodNeeds {
  return {
    ...pod.requirements,
    ports: pod.spec.ports,
    resources: pod.spec.resources,
    preferredNodeId: pod.previous_node_id,
    avoidedNodeIds: [],
  };
}

async function update(tx: Tx, row: Pick<PodRow, 'id'>, set: UpdateObject<Schema, 'pods'>): Promise<void> {
  await tx.updateTable('pods').set(set).where('id', '=', row.id).execute();
}

function audit(
  tx: Tx,
  row: Pick<PodRow, 'id' | 'org_id' | 'name'>,
  action: string,
  detail: Record<string, unknown>,
): Promise<void> {
  const target = { targetKind: 'pod', targetId: row.id };
  return appendAudit(tx, {
    orgId: row.org_id,
    actor: SYSTEM,
    action,
    ...target,
    detail: { name: row.name, ...detail },
  });
}
