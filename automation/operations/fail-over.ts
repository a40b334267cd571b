/**
 * Failing over: the episode of an instance that lost its machine, one phase after another (domain/failover.ts). It fences, hands over to the
 * standby where there is one, has another machine bought by an ordinary provision, which restores the workspace, and points the endpoint to
 * whoever serves. Every step starts from the rows; nothing is bought or destroyed here.
 */
import type { ErrorCode } from '../../domain/error-table.ts';
import type { FailoverPhase } from '../../domain/failover.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { beginSnapshot } from '../../db/accept-snapshot.ts';
import { listAttemptsById } from '../../db/attempts.ts';
import type { Tx } from '../../db/database.ts';
import { fenceNode } from '../../db/desired.ts';
import { pointToAttempt } from '../../db/endpoints.ts';
import { beginProvision, takeFromInstance } from '../../db/failover-machines.ts';
import {
  findFailover,
  lockFailover,
  updateFailover,
  type FailoverChange,
  type FailoverRow,
} from '../../db/failovers.ts';
import { findInstance, lockInstance, updateInstance } from '../../db/instances.ts';
import { recordOutcome } from '../../db/machines.ts';
import { findNode } from '../../db/nodes.ts';
import { findOperation, finishOperation } from '../../db/operations.ts';
import { rescheduleLost } from '../../db/place-pods.ts';
import { findSnapshot, latestVerified, type SnapshotRow } from '../../db/snapshots.ts';
import { findWorkspace, setWriter } from '../../db/workspaces.ts';
import { proveAgain } from './fail-over-snapshot.ts';
import {
  fetchFromStandby,
  leaveStandby,
  promote,
  restStandby,
  returnToStandby,
  shouldFailBack,
} from './fail-over-standby.ts';
import { applyTo, enter, wait, type Episode } from './fail-over-step.ts';
import type { StepContext, StepResult } from './step.ts';

/** How soon to look again at what other operations do for it, where the word that a machine is won or ready (wakeFailover) was lost. */
const RECHECK_MS = 1_000;
const SERVING_RECHECK_MS = 15_000;
/** The engine buys first: the destroy of a machine that does not answer may hold the stack for long. Then it is destroyed all the same. */
const DESTROY_PATIENCE_MS = 30_000;
/** Between two tries to find a machine. */
const MIN_RETRY_MS = 5_000;
const MAX_RETRY_MS = 300_000;
/** A heartbeat that young is of a machine that lives: then a snapshot is worth asking for. */
const LIVING_MS = 30_000;
const LAST_SNAPSHOT_PATIENCE_MS = 10 * 60_000;
/** Steps that need no waiting between them. */
const MAX_ROUNDS = 12;

/** Kind `fail_over`, target `instance`. */
export async function failOver(context: StepContext): Promise<StepResult> {
  const { failoverId } = context.operation.input as { failoverId: string };
  for (let round = 0; round < MAX_ROUNDS; round++) {
    // Nobody cancels it: what aborts is a drain, or a lost lease.
    if (context.cancel.aborted || context.kill.aborted) return { kind: 'release' };
    const failover = await findFailover(context.db, null, failoverId);
    const instance = failover && (await findInstance(context.db, null, failover.instance_id));
    if (!failover || !instance)
      return { kind: 'fail', error: { code: 'not_found', detail: 'the failover has no record' } };
    const next = await takeStep(context, { failover, instance });
    if (next) return next;
  }
  return { kind: 'release' };
}

/** null: something has changed, look again. */
async function takeStep(context: StepContext, episode: Episode): Promise<StepResult | null> {
  const { failover, instance } = episode;
  if (failover.finished_at !== null) return end(failover);
  if (['destroying', 'destroyed', 'lost'].includes(instance.status)) {
    const waiting = failover.mode === 'standby' ? await leaveStandby(context, episode) : null;
    if (waiting) return waiting;
    return finish(context, episode, 'canceled', { code: 'canceled', detail: `the instance is ${instance.status}` });
  }
  switch (failover.phase) {
    case 'detected':
      return detected(context, episode);
    case 'fencing':
      return failover.mode === 'standby' ? move(context, episode, 'promoting') : provision(context, episode);
    case 'promoting':
      return promote(context, episode);
    case 'serving':
      return serve(context, episode);
    case 'provisioning':
    case 'restoring':
      return replace(context, episode);
    case 'switching':
      return switchOver(context, episode);
    default:
      return end(failover);
  }
}

/** Of a person's request while the machine lives: what it has is saved first. */
async function detected(context: StepContext, episode: Episode): Promise<StepResult | null> {
  const { failover, instance } = episode;
  if (instance.status !== 'ready' || instance.winner_attempt_id !== failover.lost_attempt_id) {
    const detail = `the instance is ${instance.status}, or stands on another machine by now`;
    return finish(context, episode, 'canceled', { code: 'canceled', detail });
  }
  const waiting = failover.cause === 'requested' ? await saveFirst(context, episode) : null;
  if (waiting) return waiting;
  await fence(context, episode);
  context.crashPoint('failover_fenced');
  return null;
}

/** null: saved, or it cannot be. */
async function saveFirst(context: StepContext, { failover }: Episode): Promise<StepResult | null> {
  const patienceEnds = failover.detected_at.getTime() + LAST_SNAPSHOT_PATIENCE_MS;
  if (context.now().getTime() > patienceEnds) return null;
  if (failover.snapshot_id !== null) {
    const snapshot = await findSnapshot(context.db, null, failover.snapshot_id);
    const isOnItsWay = snapshot !== undefined && ['taking', 'taken', 'verifying'].includes(snapshot.status);
    return isOnItsWay ? wait(context, RECHECK_MS, `its last snapshot is ${snapshot.status}`) : null;
  }
  const node =
    failover.lost_node_id === null ? undefined : await findNode(context.db, failover.org_id, failover.lost_node_id);
  const isAlive = context.now().getTime() - (node?.heartbeat_at?.getTime() ?? 0) < LIVING_MS;
  if (!node || !isAlive || !(await findWorkspace(context.db, failover.instance_id))) return null;
  try {
    await applyTo(context, async (tx) => {
      const snapshotId = await beginSnapshot(tx, context.queue, {
        instanceId: failover.instance_id,
        nodeId: node.id,
        cause: 'failover',
        operationId: context.operation.id,
      });
      await updateFailover(tx, failover.id, { snapshot_id: snapshotId });
    });
  } catch (error) {
    context.log.warn({ err: error, failover: failover.id }, 'no last snapshot could be taken');
    return null;
  }
  return wait(context, RECHECK_MS, 'its last snapshot is taken');
}

/**
 * Ends in one transaction what the lost machine may still do: it may write no snapshot, its agent is told to stop, and it is marked to be
 * destroyed. Only from then on may anybody else begin.
 */
function fence(context: StepContext, { failover, instance }: Episode): Promise<void> {
  return applyTo(context, async (tx) => {
    const now = await lockInstance(tx, instance.id);
    const held = await lockFailover(tx, failover.id);
    if (held?.phase !== 'detected' || now?.status !== 'ready' || now.winner_attempt_id !== held.lost_attempt_id) return;
    const snapshot = await fenceWorkspace(tx, instance.id);
    const reason = `failed over: ${held.reasons[0] ?? held.cause}`;
    if (held.lost_node_id !== null) {
      await fenceNode(tx, held.lost_node_id);
      await rescheduleLost(tx, held.lost_node_id, reason);
    }
    await takeFromInstance(tx, now, {
      operationId: context.operation.id,
      reason,
      // A standby brings the workspace itself; the replacement gets what the standby had last.
      restoreSnapshotId: held.mode === 'replace' ? (snapshot?.id ?? null) : null,
    });
    await countForMachine(context, tx, held);
    await enter(context, tx, held, 'fencing', {
      snapshot_id: snapshot?.id ?? null,
      recovery_point_at: snapshot?.data_at ?? null,
      // Until now it served, and what it did was saved.
      ...(held.cause === 'requested' && held.snapshot_id !== null ? { lost_at: context.now() } : {}),
      note: reason,
    });
  });
}

/** @returns what the work goes on with; undefined: it has no workspace, or nothing of it was saved */
async function fenceWorkspace(tx: Tx, instanceId: string): Promise<SnapshotRow | undefined> {
  if (!(await findWorkspace(tx, instanceId))) return undefined;
  await setWriter(tx, instanceId, null);
  return latestVerified(tx, instanceId);
}

async function countForMachine(context: StepContext, tx: Tx, failover: FailoverRow): Promise<void> {
  if (failover.lost_attempt_id === null || failover.cause !== 'detected') return;
  const [attempt] = await listAttemptsById(tx, [failover.lost_attempt_id]);
  if (!attempt || attempt.machine_id === null) return;
  const machine = { provider: attempt.provider as ProviderName, machineId: attempt.machine_id };
  await recordOutcome(tx, machine, { kind: 'lost', wasReady: true }, { code: 'lost' }, context.now());
}

/** Another machine is asked for, by an ordinary provision. */
async function provision(context: StepContext, { failover }: Episode): Promise<StepResult | null> {
  await applyTo(context, async (tx) => {
    await lockInstance(tx, failover.instance_id);
    const held = await lockFailover(tx, failover.id);
    if (!held || held.phase !== failover.phase) return;
    const operation = await beginProvision(tx, context.queue, held);
    await enter(context, tx, held, 'provisioning', {
      provision_id: operation.id,
      note: 'another machine is looked for',
    });
  });
  context.crashPoint('failover_provisioned');
  return null;
}

/** The standby has the work. */
async function serve(context: StepContext, episode: Episode): Promise<StepResult | null> {
  await destroyLost(context, episode);
  if (await shouldFailBack(context, episode)) return provision(context, episode);
  return wait(context, SERVING_RECHECK_MS, 'the standby serves until the failback is asked for');
}

/** Follows the provision until its machine is ready, or has it tried again. */
async function replace(context: StepContext, episode: Episode): Promise<StepResult | null> {
  const { failover, instance } = episode;
  const bought = instance.winner_attempt_id ?? null;
  if (bought !== null || context.now().getTime() - fencedAt(failover) > DESTROY_PATIENCE_MS)
    await destroyLost(context, episode);
  const isGivenUp = failover.phase === 'restoring' && bought !== failover.replacement_attempt_id;
  if (isGivenUp && failover.mode === 'standby' && (await returnToStandby(context, episode))) return null;
  if (instance.status === 'ready' && bought !== null) {
    return move(context, episode, 'switching', { replacement_attempt_id: bought });
  }
  // The provision gave it back: it found nothing, and says why.
  if (instance.operation_id === context.operation.id) return tryAgain(context, episode);
  const isRestoring = instance.phase === 'restoring' && bought !== null;
  if (isRestoring && failover.mode === 'standby' && failover.phase === 'provisioning') {
    return fetchFromStandby(context, episode);
  }
  if (isRestoring && failover.phase === 'provisioning') {
    return move(context, episode, 'restoring', { replacement_attempt_id: bought });
  }
  return wait(context, RECHECK_MS, instance.note ?? 'another machine is bought');
}

async function tryAgain(context: StepContext, { failover, instance }: Episode): Promise<StepResult | null> {
  const last =
    failover.provision_id === null ? undefined : await findOperation(context.db, null, failover.provision_id);
  const endedAt = last?.finished_at?.getTime();
  if (endedAt === undefined) return wait(context, RECHECK_MS, failover.note ?? 'no machine was found');
  // As long again as it has tried so far: soon at first, rarely in a drought.
  const spentMs = endedAt - fencedAt(failover);
  const due = endedAt + Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, spentMs));
  const leftMs = due - context.now().getTime();
  if (leftMs > 0) return wait(context, leftMs, `${failover.note ?? 'no machine was found'}; it is looked for again`);
  const proving = await proveAgain(context, { failover, instance }, endedAt);
  if (proving) return proving;
  await applyTo(context, async (tx) => {
    await lockInstance(tx, failover.instance_id);
    const held = await lockFailover(tx, failover.id);
    if (!held || held.provision_id !== failover.provision_id || held.finished_at !== null) return;
    const operation = await beginProvision(tx, context.queue, held);
    await updateFailover(tx, held.id, { provision_id: operation.id });
  });
  return null;
}

/** The machine that is ready becomes the endpoint, and the standby goes to rest. */
async function switchOver(context: StepContext, episode: Episode): Promise<StepResult | null> {
  const { failover, instance } = episode;
  const attemptId = instance.winner_attempt_id;
  if (attemptId !== null && failover.replaced_at === null) {
    await applyTo(context, async (tx) => {
      const now = await lockInstance(tx, instance.id);
      if (now?.winner_attempt_id !== attemptId) return;
      await pointToAttempt(tx, instance.id, attemptId);
      // Whoever restored it has done so already; where all was lost with somebody's consent, nobody has.
      if (await findWorkspace(tx, instance.id)) await setWriter(tx, instance.id, { attemptId });
      const at = (await readEndpointTime(tx, instance.id)) ?? context.now();
      await updateFailover(tx, failover.id, { replaced_at: at, serving_at: failover.serving_at ?? at });
    });
    context.crashPoint('failover_switched');
    return null;
  }
  await destroyLost(context, episode);
  const waiting = failover.mode === 'standby' ? await restStandby(context, episode) : null;
  if (waiting) return waiting;
  return finish(context, episode, 'complete', null);
}

async function readEndpointTime(tx: Tx, instanceId: string): Promise<Date | undefined> {
  const row = await tx
    .selectFrom('endpoints')
    .select('changed_at')
    .where('instance_id', '=', instanceId)
    .where('kind', '=', 'instance')
    .executeTakeFirst();
  return row?.changed_at;
}

/** By an ordinary operation, once; until the provider says not-found. */
async function destroyLost(context: StepContext, { failover }: Episode): Promise<void> {
  if (failover.lost_attempt_id === null) return;
  const [attempt] = await listAttemptsById(context.db, [failover.lost_attempt_id]);
  if (!attempt || attempt.status === 'gone') return;
  const asked = await findDestroy(context, attempt.id);
  if (asked) return;
  const failure = { code: 'lost' satisfies ErrorCode, detail: failover.note ?? 'failed over' };
  await applyTo(context, (tx) =>
    acceptAttemptDestroy(tx, context.queue, attempt, { failure, by: context.operation.id }),
  );
  context.crashPoint('failover_destroy_accepted');
}

function findDestroy(context: StepContext, attemptId: string) {
  return context.db
    .selectFrom('operations')
    .select('id')
    .where('deterministic_key', '=', `destroy:${attemptId}`)
    .where('status', 'in', ['queued', 'running'])
    .executeTakeFirst();
}

/** null: moved, or somebody else did. */
async function move(
  context: StepContext,
  { failover }: Episode,
  phase: FailoverPhase,
  change: FailoverChange = {},
): Promise<null> {
  await applyTo(context, async (tx) => {
    const held = await lockFailover(tx, failover.id);
    if (held) await enter(context, tx, held, phase, change);
  });
  return null;
}

async function finish(
  context: StepContext,
  episode: Episode,
  phase: 'complete' | 'failed' | 'canceled',
  failure: { code: ErrorCode; detail: string } | null,
): Promise<StepResult> {
  const { failover, instance } = episode;
  await applyTo(context, async (tx) => {
    await lockInstance(tx, instance.id);
    const held = await lockFailover(tx, failover.id);
    if (!held || held.finished_at !== null) return;
    await enter(
      context,
      tx,
      held,
      phase,
      failure ? { failure_code: failure.code, failure_detail: failure.detail } : { note: null },
    );
    if (phase === 'complete') await updateInstance(tx, instance.id, { note: null });
    await finishOperation(
      tx,
      context.queue,
      context.operation.id,
      phase === 'complete' ? 'succeeded' : phase,
      failure ? { error: failure, note: failure.detail } : { note: 'failed over' },
    );
  });
  return { kind: 'recorded' };
}

function end(failover: FailoverRow): StepResult {
  if (failover.phase === 'complete') return { kind: 'done', note: 'failed over' };
  const code = (failover.failure_code ?? 'internal') as ErrorCode;
  return { kind: 'fail', error: { code, detail: failover.failure_detail ?? `the failover was ${failover.phase}` } };
}

function fencedAt(failover: FailoverRow): number {
  const at = failover.phase_at.fencing;
  return at === undefined ? failover.detected_at.getTime() : Date.parse(at);
}
