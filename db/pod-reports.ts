/** What agents say of their pods and their engine, taken down (domain/pods/pod.ts says what it is worth). A heartbeat that changes nothing writes nothing. */
import { applyPodReport, type PodHealth, type PodReportStatus, type PublishedPort } from '../domain/pods/pod.ts';
import { inTransaction, type Db, type Tx } from './database.ts';
import { raiseDesired } from './desired.ts';
import { leaveNode, placePending } from './place-pods.ts';
import { listPodsOfNode, lockPodsOfNode, REMOVED, type PodRow } from './pods.ts';

export interface ReportedPod {
  podId: string;
  run: number;
  status: PodReportStatus;
  reason: string | null;
  health: PodHealth | null;
  pullPercent: number | null;
  restarts: number;
  exitCode: number | null;
  ports: PublishedPort[];
  imageDigest: string | null;
  startedAt: string | null;
  finishedAt: string | null;
}

export interface ReportedEngine {
  name: string;
  version: string | null;
  problem: string | null;
}

/** @param intervalMs of heartbeats: what leaves the node is placed on another at once */
export async function recordPodReports(
  db: Db,
  node: { id: string; orgId: string },
  said: { engine: ReportedEngine; items: readonly ReportedPod[] },
  intervalMs: number,
): Promise<void> {
  await recordEngine(db, node.id, said.engine);
  if (said.items.length === 0) return;
  const isNew = (await listPodsOfNode(db, node.id)).some((row) => effectOf(row, node.id, said.items) !== null);
  if (!isNew) return;
  await inTransaction(db, async (tx) => {
    let hasLeft = false;
    let isOver = false;
    for (const row of await lockPodsOfNode(tx, node.id)) {
      const effect = effectOf(row, node.id, said.items);
      if (effect === null) continue;
      if (effect.status === 'leave') {
        hasLeft = true;
        await leaveNode(tx, row);
      } else {
        isOver ||= effect.status === 'removed' || effect.status === 'exited' || effect.status === 'failed';
        await record(tx, row, effect);
      }
    }
    // The agent forgets what it need not answer for any more.
    if (hasLeft || isOver) await raiseDesired(tx, node.id);
    if (hasLeft) await placePending(tx, node.orgId, intervalMs);
  });
}

type Effect = { status: PodRow['status'] | 'leave'; said: ReportedPod };

/** null: it says nothing that is not known. */
function effectOf(row: PodRow, nodeId: string, items: readonly ReportedPod[]): Effect | null {
  const said = items.find(({ podId }) => podId === row.id);
  if (!said) return null;
  const known = {
    status: row.status,
    desired: row.desired,
    run: row.run,
    nodeId: row.node_id,
    isLeaving: row.is_leaving,
  };
  const status = applyPodReport(known, nodeId, said);
  if (status === null) return null;
  if (status === 'leave' || status === 'removed') return { status, said };
  const isSame =
    row.status === status &&
    row.reason === reasonOf(row, said) &&
    row.health === said.health &&
    row.pull_percent === said.pullPercent &&
    row.restarts === said.restarts &&
    row.exit_code === said.exitCode &&
    row.image_digest === (said.imageDigest ?? row.image_digest) &&
    JSON.stringify(sorted(row.published_ports)) === JSON.stringify(sorted(said.ports)) &&
    (row.started_at?.toISOString() ?? null) === said.startedAt &&
    (row.finished_at?.toISOString() ?? null) === said.finishedAt;
  return isSame ? null : { status, said };
}

async function record(tx: Tx, row: PodRow, { status, said }: Effect): Promise<void> {
  const end = status === 'removed' ? REMOVED : { status: status as PodRow['status'] };
  await tx
    .updateTable('pods')
    .set({
      ...end,
      reason: reasonOf(row, said),
      health: said.health,
      pull_percent: said.pullPercent,
      restarts: said.restarts,
      exit_code: said.exitCode,
      published_ports: JSON.stringify(sorted(said.ports)),
      ...(said.imageDigest === null ? {} : { image_digest: said.imageDigest }),
      started_at: said.startedAt,
      finished_at: said.finishedAt,
      reported_at: new Date(),
    })
    .where('id', '=', row.id)
    .execute();
}

/** Why a person or we ended it says more than that it ends. */
function reasonOf(row: PodRow, said: ReportedPod): string | null {
  return row.is_leaving || row.desired === 'stopped' ? row.reason : said.reason;
}

function sorted(ports: readonly PublishedPort[]): PublishedPort[] {
  return ports
    .map(({ containerPort, hostPort, protocol }) => ({ containerPort, hostPort, protocol }))
    .sort((a, b) => a.containerPort - b.containerPort || a.hostPort - b.hostPort || (a.protocol < b.protocol ? -1 : 1));
}

async function recordEngine(db: Db, nodeId: string, { name, version, problem }: ReportedEngine): Promise<void> {
  const engine = JSON.stringify({ name, version, problem });
  await db
    .updateTable('nodes')
    .set({ engine })
    .where('id', '=', nodeId)
    .where((eb) => eb.or([eb('engine', 'is', null), eb('engine', '<>', engine)]))
    .execute();
}
