/**
 * Handing over: an instance that claimed a warm one gets its machine. The user's keys, environment and start script are put on it and it
 * is verified over SSH; only then does it change hands, in one transaction. One that proves dead is destroyed and the next warm one is
 * claimed; where none is left, the instance starts cold within the same operation. Planning and buying are provision-instance.ts's.
 */
import type { ProviderName } from '../../domain/provider.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { judgeProbe } from '../../domain/readiness.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { findExceededCap } from '../../db/accept-provision.ts';
import { listAttemptsById, type AttemptRow } from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { retryWhileAway } from '../../db/database.ts';
import { findInstance, lockInstance, setInstanceStatus, updateInstance, type InstanceRow } from '../../db/instances.ts';
import { appendEvents, withClaim } from '../../db/operations.ts';
import { refillPool } from '../../db/refill-pool.ts';
import { claimWarm, handOver, listClaimedFor } from '../../db/warm-instances.ts';
import { openEnv } from '../../secrets/instance-env.ts';
import { probeSsh } from '../readiness/probe-ssh.ts';
import { handOverScript } from './hand-over-script.ts';
import type { StackView } from './run-update.ts';
import type { StepContext } from './step.ts';

/** A machine that was ready and does not answer by then is taken for dead: the next one is quicker than waiting. */
const ENTER_TIMEOUT_MS = 4_000;
const APPLY_PATIENCE_MS = 10_000;
/** Dead ones in a row for one instance: more would rather be a trouble of ours, which is not to cost the whole pool. */
const MAX_TRIES = 3;

/**
 * Hands over whatever the operation's instances have claimed; what is left to be bought is `requested` then.
 * @returns whether there was anything to hand over: the rows are others now
 */
export async function handOverClaimed(context: StepContext, view: StackView): Promise<boolean> {
  const waiting = view.instances.filter(
    (one) => one.operation_id === context.operation.id && awaitsHandOver(one, view),
  );
  if (waiting.length === 0) return false;
  context.crashPoint('warm_claimed');
  const claimed = await listClaimedFor(
    context.db,
    waiting.map((one) => one.id),
  );
  // Not behind the hand-over: the next request must not find the pool empty for longer than it takes to ask.
  const pools = new Set(claimed.flatMap((warm) => (warm.pool_id === null ? [] : [warm.pool_id])));
  const refilled = Promise.allSettled([...pools].map((poolId) => refillPool(context, poolId)));
  await Promise.all(
    waiting.map((one) =>
      serve(
        context,
        one,
        claimed.find((warm) => warm.claimed_by === one.id),
      ),
    ),
  );
  for (const result of await refilled)
    if (result.status === 'rejected')
      context.log.warn({ err: result.reason as unknown }, 'a pool could not be refilled');
  return true;
}

/** It was accepted with a claim, or its last one was given up in a step that died. What is bought for it has an attempt. */
function awaitsHandOver(instance: InstanceRow, view: StackView): boolean {
  return (
    instance.strategy === 'serverless' &&
    instance.status === 'booting' &&
    !view.attempts.some((attempt) => attempt.instance_id === instance.id)
  );
}

async function serve(context: StepContext, instance: InstanceRow, first: InstanceRow | undefined): Promise<void> {
  let warm = first;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    if (context.kill.aborted || context.cancel.aborted) return;
    if (!warm) {
      const next = await claimNext(context, instance);
      if (next === 'cold') return;
      warm = next;
    }
    const dead = await enter(context, instance, warm);
    if (context.kill.aborted) return;
    if (dead === null && (await applyHandOver(context, instance, warm))) return;
    await giveUp(context, warm, dead ?? 'it is not the machine that was claimed any more');
    const now = await findInstance(context.db, null, instance.id);
    if (now?.status !== 'booting') return; // destroyed meanwhile
    warm = undefined;
  }
  await startCold(context, instance);
}

/** Puts on the machine what its user needs, and looks whether it is what was promised. null: it is; otherwise why not. */
async function enter(context: StepContext, instance: InstanceRow, warm: InstanceRow): Promise<string | null> {
  const attempt = await winnerOf(context, warm);
  if (attempt?.status !== 'ready' || attempt.ssh_host === null || attempt.ssh_port === null)
    return 'its machine is gone';
  const request = instance.request as ProvisionRequest;
  const script = handOverScript({
    instanceId: instance.id,
    sshPublicKeys: request.sshPublicKeys,
    env: openEnv(context.envelope, instance.stack_id, request.envSealed),
    onStart: request.onStart,
  });
  const target = { host: attempt.ssh_host, port: attempt.ssh_port, user: attempt.ssh_user ?? 'root' };
  const [probe] = await Promise.all([
    probeSsh(target, context.deploymentSshPrivateKey, ENTER_TIMEOUT_MS, script),
    attachKeys(context, attempt, request.sshPublicKeys),
  ]);
  context.crashPoint('warm_entered');
  const { gpu, gpu_count: gpuCount, gpu_memory_gib: gpuMemoryGib } = attempt;
  const verdict = judgeProbe(probe, { gpu: gpu ?? '', gpuCount: gpuCount ?? 1, gpuMemoryGib });
  if (verdict.kind === 'ready') return null;
  return verdict.kind === 'failed' ? verdict.reason : verdict.note;
}

/** They are let in over SSH as well, at once; at the vendor they outlive a rebuilt machine. Nobody waits for that, nor fails by it. */
async function attachKeys(context: StepContext, attempt: AttemptRow, keys: readonly string[]): Promise<void> {
  const client = context.client(attempt.provider as ProviderName);
  if (!client.capabilities.attachKeys || attempt.provider_instance_id === null) return;
  const signal = AbortSignal.any([context.kill, AbortSignal.timeout(ENTER_TIMEOUT_MS)]);
  for (const key of keys) {
    try {
      await client.attachSshKey(attempt.provider_instance_id, key, signal);
    } catch (error) {
      context.log.warn({ err: error, attempt: attempt.id }, 'a key was let in over SSH only');
      return;
    }
  }
}

async function applyHandOver(context: StepContext, instance: InstanceRow, warm: InstanceRow): Promise<boolean> {
  const isDone = await apply(context, async (tx) => {
    const attempt = { id: warm.winner_attempt_id ?? '' };
    if (!(await handOver(tx, instance.id, warm, attempt))) return false;
    await appendEvents(tx, context.operation.id, [
      { type: 'instance', data: { instanceId: instance.id, status: 'ready', attemptId: attempt.id, warm: warm.id } },
    ]);
    return true;
  });
  if (isDone) context.crashPoint('warm_handed_over');
  return isDone;
}

/** Destroyed by the ordinary way, as the pool's: it never was the user's. */
async function giveUp(context: StepContext, warm: InstanceRow, reason: string): Promise<void> {
  await apply(context, async (tx) => {
    const now = await findInstance(tx, null, warm.id);
    if (now?.status !== 'ready') return;
    const detail = `it proved dead when it was to be handed over: ${reason}`;
    await acceptDestroy(tx, context.queue, {
      orgId: null,
      instanceId: warm.id,
      actor: SYSTEM,
      reason: detail,
      failure: { code: 'lost', detail },
      askedBy: context.operation.id,
    });
    await appendEvents(tx, context.operation.id, [
      { type: 'progress', data: { severity: 'warning', message: `${warm.id} was warm and ${detail}` } },
    ]);
  });
  context.crashPoint('warm_given_up');
}

/** Another warm one, or the instance is to be bought. */
async function claimNext(context: StepContext, instance: InstanceRow): Promise<InstanceRow | 'cold'> {
  const claimedId = await apply(context, async (tx) => {
    const locked = await lockInstance(tx, instance.id);
    if (locked?.status !== 'booting') return null;
    const request = instance.request as ProvisionRequest;
    const claimed = (await claimWarm(tx, instance.org_id, request, [instance.id])).get(instance.id);
    if (!claimed) return null;
    await updateInstance(tx, instance.id, { note: `claims ${claimed.id}, warm in pool ${claimed.poolName}` });
    return claimed.id;
  });
  const claimed = claimedId === null ? undefined : await findInstance(context.db, null, claimedId);
  if (claimed) return claimed;
  await startCold(context, instance);
  return 'cold';
}

/** What it claimed was rented already; what is bought for it now is not: the caps are asked as for a request. */
async function startCold(context: StepContext, instance: InstanceRow): Promise<void> {
  await apply(context, async (tx) => {
    const note = 'no warm instance was left: it starts cold';
    if (!(await setInstanceStatus(tx, instance.id, 'requested', { phase: 'queued', note }))) return;
    await appendEvents(tx, context.operation.id, [
      { type: 'progress', data: { instanceId: instance.id, severity: 'info', message: note } },
    ]);
    const exceeded = await findExceededCap(tx, { instances: 1, reserved: instance.reserved_micro_usd_per_hour });
    if (exceeded === null) return;
    const detail = `${note}, but ${exceeded.detail}`;
    await acceptDestroy(tx, context.queue, {
      orgId: null,
      instanceId: instance.id,
      actor: SYSTEM,
      reason: detail,
      failure: { code: 'cap_exceeded', detail },
      askedBy: context.operation.id,
    });
  });
}

async function winnerOf(context: StepContext, warm: InstanceRow): Promise<AttemptRow | undefined> {
  return warm.winner_attempt_id === null
    ? undefined
    : (await listAttemptsById(context.db, [warm.winner_attempt_id]))[0];
}

function apply<T>(context: StepContext, work: Parameters<typeof withClaim<T>>[2]): Promise<T> {
  return retryWhileAway(() => withClaim(context.db, context.claim, work), APPLY_PATIENCE_MS);
}
