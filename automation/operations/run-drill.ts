/**
 * Running a drill: the loss is made, and then it only watches, because a drill that helps proves nothing. In the sandbox the simulated
 * machine is killed and the failover has to begin by itself; a real workload is failed over by the ordinary way of a person's request.
 */
import { judgeDrill, measureDrill, type DrillMoments } from '../../domain/drill.ts';
import type { ErrorCode } from '../../domain/error-table.ts';
import { isFailoverOver } from '../../domain/failover.ts';
import { acceptFailover } from '../../db/accept-failover.ts';
import { listAttemptsById } from '../../db/attempts.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { changeDrill, endDrill, findDrill, type DrillRow } from '../../db/drills.ts';
import {
  findFailover,
  findLatestFailover,
  measureFailoverCost,
  updateFailover,
  type FailoverRow,
} from '../../db/failovers.ts';
import { findInstance } from '../../db/instances.ts';
import { appendEvents, finishOperation, wakeOperation, withClaim } from '../../db/operations.ts';
import { latestVerified } from '../../db/snapshots.ts';
import { findStack } from '../../db/stacks.ts';
import { findStandby, type StandbyRow } from '../../db/standbys.ts';
import type { StepContext, StepResult } from './step.ts';

const LOOK_AGAIN_MS = 500;
const APPLY_PATIENCE_MS = 10_000;
const SANDBOX_MS = 10_000;
/** A standby that is not within its RPO by then would only show that it was not. */
const PREPARE_PATIENCE_MS = 5 * 60_000;
/** Far beyond every target: a loss that nobody noticed by then is not noticed. */
const DETECT_PATIENCE_MS = 10 * 60_000;
const FAILOVER_PATIENCE_MS = 2 * 3_600_000;
const HOUR_MS = 3_600_000;

/** Kind `run_drill`, target `drill`. */
export async function runDrill(context: StepContext): Promise<StepResult> {
  const drill = await findDrill(context.db, null, context.operation.target_id);
  const standby = drill && (await findStandby(context.db, null, drill.standby_id));
  if (!drill || !standby || drill.status !== 'running') return { kind: 'done', note: 'the drill is over' };
  if (context.operation.cancel_requested_at !== null) return end(context, drill, standby, { canceled: true });
  switch (drill.phase) {
    case 'preparing':
      return prepare(context, drill, standby);
    case 'injecting':
      return inject(context, drill, standby);
    case 'detecting':
      return detect(context, drill, standby);
    default:
      return follow(context, drill, standby);
  }
}

/** A loss is worth watching only where there is something to lose it to. */
async function prepare(context: StepContext, drill: DrillRow, standby: StandbyRow): Promise<StepResult> {
  const now = context.now();
  const newest = await latestVerified(context.db, drill.instance_id);
  const ageMs = newest?.data_at ? now.getTime() - newest.data_at.getTime() : null;
  const isInSync = standby.status !== 'warm' || standby.synced_snapshot_id !== null;
  if (ageMs === null || ageMs > standby.rpo_ms || !isInSync) {
    const waitedMs = now.getTime() - drill.created_at.getTime();
    const why =
      ageMs === null
        ? 'no snapshot of the workspace is verified yet'
        : ageMs > standby.rpo_ms
          ? `the newest verified snapshot is ${Math.round(ageMs / 1000)} s old`
          : 'the standby is not restored to it yet';
    if (waitedMs < Math.max(PREPARE_PATIENCE_MS, 2 * standby.rpo_ms)) return wait(context, `before the loss: ${why}`);
    return end(context, drill, standby, { trouble: `nothing was lost, because the standby is not in sync: ${why}` });
  }
  await apply(context, async (tx) => {
    await changeDrill(tx, drill.id, {
      phase: 'injecting',
      moments: { begun: drill.created_at.toISOString(), lost: now.toISOString() },
    });
    await tell(context, tx, drill, 'injecting');
  });
  return wait(context, 'the loss is made', 0);
}

/** Again after a crash: a machine that is lost already stays lost. */
async function inject(context: StepContext, drill: DrillRow, standby: StandbyRow): Promise<StepResult> {
  const lostAt = new Date(drill.moments.lost ?? drill.created_at);
  if (drill.mode === 'consented') return failOverByHand(context, drill, standby, lostAt);
  const trouble = await killSimulated(context, drill);
  if (trouble !== null) return end(context, drill, standby, { trouble: `the loss could not be made: ${trouble}` });
  await apply(context, async (tx) => {
    await changeDrill(tx, drill.id, { phase: 'detecting' });
    await tell(context, tx, drill, 'detecting');
  });
  return wait(context, 'the machine is lost: it has to be noticed');
}

async function failOverByHand(
  context: StepContext,
  drill: DrillRow,
  standby: StandbyRow,
  lostAt: Date,
): Promise<StepResult> {
  let refusal: string | null = null;
  await apply(context, async (tx) => {
    const accepted = await acceptFailover(tx, context.queue, {
      instanceId: drill.instance_id,
      cause: 'drill',
      mode: 'standby',
      reasons: [`drill ${drill.id}, with the consent of ${drill.created_by}`],
      actor: { kind: 'system', id: drill.created_by },
      lostAt,
    });
    if (accepted.kind === 'accepted' || accepted.kind === 'running') {
      const { id, detected_at: detectedAt } = accepted.failover;
      await changeDrill(tx, drill.id, {
        phase: 'failing_over',
        failoverId: id,
        moments: { detected: detectedAt.toISOString() },
      });
      await tell(context, tx, drill, 'failing_over');
    } else refusal = accepted.reason;
  });
  if (refusal !== null) return end(context, drill, standby, { trouble: `the failover was refused: ${refusal}` });
  return wait(context, 'it is failed over');
}

/** @returns why not; null: it is lost */
async function killSimulated(context: StepContext, drill: DrillRow): Promise<string | null> {
  const { sandboxUrl = null } = context;
  if (sandboxUrl === null) return 'there is no sandbox';
  const instance = await findInstance(context.db, null, drill.instance_id);
  const winner = instance?.winner_attempt_id ?? null;
  const [attempt] = winner === null ? [] : await listAttemptsById(context.db, [winner]);
  if (!attempt || attempt.provider_instance_id === null) return 'the instance has no machine';
  const fault = {
    provider: attempt.provider,
    endpoint: 'machine',
    kind: 'host_loss',
    match: { instanceId: attempt.provider_instance_id },
  };
  try {
    const signal = AbortSignal.any([context.kill, AbortSignal.timeout(SANDBOX_MS)]);
    const reply = await fetch(`${sandboxUrl}/__sandbox/faults`, {
      method: 'POST',
      body: JSON.stringify(fault),
      signal,
    });
    return reply.ok ? null : `the sandbox answers ${reply.status}: ${(await reply.text()).slice(0, 300)}`;
  } catch (error) {
    return `the sandbox does not answer: ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function detect(context: StepContext, drill: DrillRow, standby: StandbyRow): Promise<StepResult> {
  const lostAt = new Date(drill.moments.lost ?? drill.created_at);
  const failover = await findLatestFailover(context.db, drill.instance_id);
  if (!failover || failover.detected_at < lostAt) {
    const waitedMs = context.now().getTime() - lostAt.getTime();
    if (waitedMs < DETECT_PATIENCE_MS) return wait(context, 'the machine is lost: it has to be noticed');
    return end(context, drill, standby, { trouble: 'nobody noticed the loss' });
  }
  await apply(context, async (tx) => {
    const moments = { detected: failover.detected_at.toISOString() };
    await changeDrill(tx, drill.id, { phase: 'failing_over', failoverId: failover.id, moments });
    await tell(context, tx, drill, 'failing_over');
  });
  return wait(context, 'the loss was noticed');
}

async function follow(context: StepContext, drill: DrillRow, standby: StandbyRow): Promise<StepResult> {
  const failover = drill.failover_id === null ? undefined : await findFailover(context.db, null, drill.failover_id);
  if (!failover) return end(context, drill, standby, { trouble: 'its failover has no record' });
  const moments = momentsOf(failover);
  await apply(context, async (tx) => {
    await changeDrill(tx, drill.id, { moments });
    await bringBack(context, tx, failover);
  });
  const seen = { ...drill, moments: { ...drill.moments, ...moments } };
  if (isFailoverOver(failover.phase)) {
    const trouble =
      failover.phase === 'complete' ? undefined : `the failover ${failover.phase}: ${failover.failure_detail ?? ''}`;
    return end(context, seen, standby, { failover, ...(trouble === undefined ? {} : { trouble }) });
  }
  if (context.now().getTime() - failover.detected_at.getTime() > FAILOVER_PATIENCE_MS)
    return end(context, seen, standby, { failover, trouble: 'the failover did not come to its end' });
  return wait(context, `the failover is ${failover.phase}${failover.note === null ? '' : `: ${failover.note}`}`);
}

/** Where a person would have to ask for the way back, the drill does: it ends as it began. */
async function bringBack(context: StepContext, tx: Tx, failover: FailoverRow): Promise<void> {
  const isWaiting = failover.failback === 'manual' && failover.serving_at !== null;
  if (!isWaiting || failover.failback_requested_at !== null || failover.operation_id === null) return;
  await updateFailover(tx, failover.id, { failback_requested_at: context.now() });
  await wakeOperation(tx, context.queue, failover.operation_id);
}

function momentsOf(failover: FailoverRow): DrillMoments {
  const { recovery_point_at: recoveryPoint, serving_at: serving, finished_at: finished } = failover;
  return {
    ...(recoveryPoint === null ? {} : { recoveryPoint: recoveryPoint.toISOString() }),
    ...(serving === null ? {} : { serving: serving.toISOString() }),
    ...(finished === null || failover.phase !== 'complete' ? {} : { complete: finished.toISOString() }),
  };
}

interface End {
  failover?: FailoverRow;
  trouble?: string;
  canceled?: boolean;
}

async function end(context: StepContext, drill: DrillRow, standby: StandbyRow, how: End): Promise<StepResult> {
  const cost = how.failover === undefined ? null : await measureCost(context, drill, standby, how.failover);
  const measures = measureDrill(drill.moments, cost);
  const isCanceled = how.canceled === true;
  const failures = isCanceled
    ? ['it was canceled']
    : [...(how.trouble === undefined ? [] : [how.trouble]), ...judgeDrill(measures, drill.targets)];
  const status = isCanceled ? 'canceled' : failures.length === 0 ? 'passed' : 'failed';
  const error = { code: (isCanceled ? 'canceled' : 'drill_failed') satisfies ErrorCode, detail: failures.join('; ') };
  await apply(context, async (tx) => {
    await endDrill(tx, drill, { status, measures, failures });
    await tell(context, tx, drill, status);
    const outcome = { passed: 'succeeded', failed: 'failed', canceled: 'canceled' } as const;
    await finishOperation(tx, context.queue, context.operation.id, outcome[status], {
      note: status === 'passed' ? 'every target was met' : failures.join('; ').slice(0, 500),
      ...(status === 'passed' ? {} : { error }),
    });
  });
  return { kind: 'recorded' };
}

/** Machines of the failover, and the standby's for as long as it took over. */
async function measureCost(
  context: StepContext,
  { moments }: DrillRow,
  standby: StandbyRow,
  failover: FailoverRow,
): Promise<number> {
  const machines = Number(await measureFailoverCost(context.db, failover));
  const stack = await findStack(context.db, null, standby.stack_id);
  const from = Date.parse(moments.detected ?? moments.lost ?? failover.detected_at.toISOString());
  const until = failover.finished_at?.getTime() ?? context.now().getTime();
  const perHour = Number(stack?.price_micro_usd_per_hour ?? 0n);
  return machines + Math.floor((perHour * Math.max(0, until - from)) / HOUR_MS);
}

function tell(context: StepContext, tx: Tx, drill: DrillRow, phase: string): Promise<void> {
  return appendEvents(tx, context.operation.id, [{ type: 'drill', data: { drillId: drill.id, phase } }]);
}

function wait(context: StepContext, note: string, afterMs: number = LOOK_AGAIN_MS): StepResult {
  return { kind: 'wait', until: new Date(context.now().getTime() + afterMs), note };
}

function apply(context: StepContext, write: (tx: Tx) => Promise<void>): Promise<void> {
  return retryWhileAway(() => withClaim(context.db, context.claim, write), APPLY_PATIENCE_MS);
}
