/**
 * The sync-standby cron: has snapshots taken in time for the declared RPO, keeps warm standbys restored to the newest verified one, and says
 * where that does not succeed. It also has standbys brought to rest whose takeover was left alone, and those that are off though they should
 * run. All by ordinary operations.
 */
import type { Logger } from 'pino';
import { MusterError } from '../../domain/error-table.ts';
import { isFinished } from '../../domain/operation.ts';
import { isTakingOver, judgeRecovery } from '../../domain/standby.ts';
import { beginRestore, beginSnapshot } from '../../db/accept-snapshot.ts';
import { findStackUpdate } from '../../db/accept-stack.ts';
import { appendAudit, SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db, type Tx } from '../../db/database.ts';
import { resolveFinding, sightFinding } from '../../db/findings.ts';
import { findInstance, type InstanceRow } from '../../db/instances.ts';
import { findOperation } from '../../db/operations.ts';
import type { Queue } from '../../db/queue.ts';
import { readRecoveryPoints, type RecoveryPoints } from '../../db/recovery-points.ts';
import { findSnapshot } from '../../db/snapshots.ts';
import {
  changeStandby,
  hasStandbys,
  listStandbysToSync,
  lockStandby,
  recordLook,
  type Promotion,
  type StandbyRow,
} from '../../db/standbys.ts';
import { demoteStandby } from '../standby/take-over.ts';
import type { Cron, TickCounts } from './scheduler.ts';

export interface SyncStandbyOptions {
  db: Db;
  queue: Queue;
  now: () => Date;
  log: Logger;
  /** @default 2000 */
  everyMs?: number;
}

/** A fifth of the shortest RPO that is taken. */
const EVERY_MS = 2_000;
const MAX_STANDBYS = 500;
/** A machine that was not heard of for longer can be asked for nothing. */
const HEARD_MS = 30_000;
/** After a restore that failed. */
const RESTORE_RETRY_MS = 30_000;
const ACTOR = 'sync-standby';
/** A warm one that is dead for so long is brought to rest anew: the update looks at its machine, and starts it. */
const DEAD_MS = 120_000;
/** Between two such updates: for one to boot and register at first, and less often for one that stays away. */
const MIN_REVIVE_MS = 10 * 60_000;
const MAX_REVIVE_MS = 60 * 60_000;

type Counts = TickCounts &
  Record<'checked' | 'snapshots' | 'restores' | 'behind' | 'caughtUp' | 'demoted' | 'revived', number>;

export function createSyncStandbyCron(options: SyncStandbyOptions): Cron {
  const { db, log } = options;
  const everyMs = options.everyMs ?? EVERY_MS;
  return {
    name: 'sync-standby',
    everyMs,
    hasWork: () => hasStandbys(db),
    async run(signal) {
      const counts: Counts = { checked: 0, snapshots: 0, restores: 0, behind: 0, caughtUp: 0, demoted: 0, revived: 0 };
      for (const { id } of await listStandbysToSync(db, MAX_STANDBYS)) {
        if (signal.aborted) break;
        counts.checked++;
        try {
          await inTransaction(db, (tx) => look(options, everyMs, tx, id, counts));
        } catch (error) {
          if (!(error instanceof MusterError)) throw error;
          // Somebody was quicker: the next tick sees it as it is then.
          log.info({ standby: id, code: error.code }, `not synced: ${error.detail}`);
        }
      }
      return counts;
    },
  };
}

async function look(
  options: SyncStandbyOptions,
  everyMs: number,
  tx: Tx,
  standbyId: string,
  counts: Counts,
): Promise<void> {
  const standby = await lockStandby(tx, standbyId);
  if (!standby || standby.removed_at !== null) return;
  if (standby.status === 'warm' && (await isToBeRevived(tx, standby, options.now().getTime()))) {
    await changeStandby(tx, standby.id, { status: 'demoting', promotion: newCleanUp(options.now()) });
    const detail = { name: standby.name, instanceId: standby.instance_id };
    const about = { orgId: standby.org_id, targetKind: 'standby', targetId: standby.id };
    await appendAudit(tx, { ...about, actor: SYSTEM, action: 'standby.revive', detail });
    counts.revived++;
    return;
  }
  if (isTakingOver(standby.status) && (await endAbandoned(options, tx, standby))) counts.demoted++;
  const instance = (await findInstance(tx, null, standby.instance_id)) as InstanceRow;
  const points = await readRecoveryPoints(tx, standby.instance_id);
  const now = options.now().getTime();
  const verdict = judge(standby, instance, points, { now, tickMs: everyMs });
  const changed = await recordLook(tx, standby.id, {
    recoveryPointAt: points?.newest?.data_at ?? null,
    behind: verdict.isBehind ? { reason: verdict.reason ?? 'for no known reason' } : null,
  });
  await tell(tx, standby, verdict, changed);
  if (changed === 'behind') counts.behind++;
  if (changed === 'caught_up') counts.caughtUp++;
  if (verdict.isSnapshotDue && points?.source?.nodeId) {
    await beginSnapshot(tx, options.queue, {
      instanceId: standby.instance_id,
      nodeId: points.source.nodeId,
      cause: 'standby',
    });
    counts.snapshots++;
  }
  if (standby.status === 'warm' && (await keepRestored(options, tx, standby, points))) counts.restores++;
}

function judge(
  standby: StandbyRow,
  instance: InstanceRow,
  points: RecoveryPoints | null,
  { now, tickMs }: { now: number; tickMs: number },
): { isSnapshotDue: boolean; isBehind: boolean; reason: string | null } {
  if (instance.status === 'destroyed')
    return { isSnapshotDue: false, isBehind: true, reason: 'its instance is destroyed: destroy the standby too' };
  if (points === null) return { isSnapshotDue: false, isBehind: true, reason: 'its instance has no workspace' };
  // Nobody writes: asleep, or between two machines. What there is cannot grow old.
  if (points.source === null) return { isSnapshotDue: false, isBehind: false, reason: null };
  return judgeRecovery({
    now,
    tickMs,
    rpoMs: standby.rpo_ms,
    since: standby.created_at.getTime(),
    writerSince: points.source.since,
    newestVerifiedAt: points.newest?.data_at?.getTime() ?? null,
    underWay: points.underWay,
    lastTookMs: points.lastTookMs,
    lastFailure: points.lastFailure,
    sourceTrouble: troubleOf(points.source, now),
  });
}

function troubleOf({ nodeId, heardAt }: NonNullable<RecoveryPoints['source']>, now: number): string | null {
  if (nodeId === null) return 'the machine that writes it carries no agent';
  if (heardAt === null) return 'the machine that writes it was never heard of';
  const silentMs = now - heardAt;
  return silentMs <= HEARD_MS
    ? null
    : `the machine that writes it was not heard of for ${Math.round(silentMs / 1000)} s`;
}

async function tell(
  tx: Tx,
  standby: StandbyRow,
  { isBehind, reason }: { isBehind: boolean; reason: string | null },
  changed: 'behind' | 'caught_up' | null,
): Promise<void> {
  const about = { class: 'standby_behind', provider: 'gcp', providerInstanceId: standby.id, attemptId: null };
  if (changed === 'behind') {
    const detail = `${standby.name}: ${reason}`;
    const none = { label: null, priceMicroUsdPerHour: null };
    await sightFinding(tx, { ...about, ...none, orgId: standby.org_id, instanceId: standby.instance_id, detail });
  }
  if (changed === 'caught_up' || (!isBehind && standby.behind_since !== null)) await resolveFinding(tx, about);
}

/** Whether a restore was begun. */
async function keepRestored(
  { queue, now }: SyncStandbyOptions,
  tx: Tx,
  standby: StandbyRow,
  points: RecoveryPoints | null,
): Promise<boolean> {
  const isUnderWay = standby.sync_operation_id !== null && !(await settleRestore(tx, standby, now()));
  const newest = points?.newest;
  if (isUnderWay || !newest || newest.id === (await findSynced(tx, standby))) return false;
  const nowMs = now().getTime();
  if (standby.sync_failed_at !== null && nowMs - standby.sync_failed_at.getTime() < RESTORE_RETRY_MS) return false;
  if (standby.node_id === null || nowMs - (standby.node_heartbeat_at?.getTime() ?? 0) > HEARD_MS) return false;
  const operationId = await beginRestore(tx, queue, { snapshotId: newest.id, nodeId: standby.node_id });
  // While it is restored its files are neither the old nor the new.
  await changeStandby(tx, standby.id, { synced: null, sync: { snapshotId: newest.id, operationId } });
  return true;
}

async function findSynced(tx: Tx, { id }: StandbyRow): Promise<string | null> {
  const row = await tx.selectFrom('standbys').select('synced_snapshot_id').where('id', '=', id).executeTakeFirst();
  return row?.synced_snapshot_id ?? null;
}

/** Whether the restore has ended. */
async function settleRestore(tx: Tx, standby: StandbyRow, now: Date): Promise<boolean> {
  const restore = await findOperation(tx, null, standby.sync_operation_id as string);
  if (restore && !isFinished(restore.status)) return false;
  const snapshot =
    restore?.status === 'succeeded' ? await findSnapshot(tx, null, standby.sync_snapshot_id as string) : undefined;
  if (snapshot?.data_at) {
    await changeStandby(tx, standby.id, {
      sync: null,
      syncFailure: null,
      synced: { snapshotId: snapshot.id, to: snapshot.data_at },
    });
  } else {
    const detail = restore?.error_detail ?? 'the restore is unknown';
    await changeStandby(tx, standby.id, { sync: null, syncFailure: { detail, at: now } });
    standby.sync_failed_at = now;
  }
  return true;
}

/** A takeover whose operation has ended is nobody's: what is not serving is brought to rest. Whether it moved. */
async function endAbandoned(options: SyncStandbyOptions, tx: Tx, standby: StandbyRow): Promise<boolean> {
  const { promotion, status } = standby;
  if (promotion === null || status === 'serving') return false;
  const owner = await findOperation(tx, null, promotion.operationId);
  if (owner && !isFinished(owner.status)) return false;
  if (status === 'promoting') {
    const begun = { ...newCleanUp(new Date(promotion.begunAt)), operationId: promotion.operationId };
    await changeStandby(tx, standby.id, { status: 'demoting', promotion: begun, synced: null });
  }
  const outcome = await demoteStandby(tx, options, { standbyId: standby.id, operationId: ACTOR });
  return outcome.kind === 'done';
}

/** Dead by the judgement of check-nodes: our own silence is none of its. */
async function isToBeRevived(tx: Tx, standby: StandbyRow, now: number): Promise<boolean> {
  const watch = await tx
    .selectFrom('node_watches')
    .select('since')
    .where('node_id', '=', standby.node_id)
    .where('verdict', '=', 'dead')
    .executeTakeFirst();
  if (!watch || now - watch.since.getTime() < DEAD_MS || (await findStackUpdate(tx, standby.stack_id))) return false;
  const last = await tx
    .selectFrom('operations')
    .select(({ fn }) => fn.max('created_at').as('at'))
    .where('stack_id', '=', standby.stack_id)
    .where('kind', '=', 'up_stack')
    .executeTakeFirst();
  const pauseMs = Math.min(MAX_REVIVE_MS, Math.max(MIN_REVIVE_MS, (now - watch.since.getTime()) / 2));
  return now - (last?.at?.getTime() ?? 0) >= pauseMs;
}

function newCleanUp(begunAt: Date): Promotion {
  return {
    operationId: ACTOR,
    begunAt: begunAt.toISOString(),
    zonesWithoutRoom: [],
    failedRestores: 0,
    failedUpdates: 0,
  };
}
