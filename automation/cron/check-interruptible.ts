/**
 * The check-interruptible cron: while interruptible machines stand for instances, one listing per provider and minute, so that one
 * that was outbid is seen within a reconcile tick. What follows is the request's policy (domain/interruption.ts); it is done by
 * ordinary operations.
 */
import { decideInterruption, type InterruptionAction } from '../../domain/interruption.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { recordObservation, type AttemptRow } from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Tx } from '../../db/database.ts';
import { lockInstance, setInstanceStatus, updateInstance, type InstanceRow } from '../../db/instances.ts';
import {
  beginReplacement,
  countReplacements,
  hasInterruptible,
  listInterruptible,
  raiseBid,
  recordInterrupted,
  recordResumed,
} from '../../db/interruptible.ts';
import { acceptOperation, appendEvents, lockOperation } from '../../db/operations.ts';
import { recordBelief, takeListing } from '../readiness/list-instances.ts';
import { forEachProvider, type FleetCronOptions } from './each-provider.ts';
import type { Cron, TickCounts } from './scheduler.ts';

export interface InterruptibleOptions extends Omit<FleetCronOptions, 'everyMs'> {
  /** @default 60000 */
  everyMs?: number;
}

const EVERY_MS = 60_000;
const ACTOR = 'check-interruptible';

export function createInterruptibleCron(options: InterruptibleOptions): Cron {
  return {
    name: 'check-interruptible',
    everyMs: options.everyMs ?? EVERY_MS,
    hasWork: () => hasInterruptible(options.db),
    run: (signal) =>
      forEachProvider(options.providers, (provider, bound) => checkProvider(options, provider, bound), {
        signal,
        log: options.log,
      }),
  };
}

async function checkProvider(
  options: InterruptibleOptions,
  provider: ProviderName,
  signal: AbortSignal,
): Promise<TickCounts> {
  const attempts = await listInterruptible(options.db, provider);
  if (attempts.length === 0) return {};
  const listed = { ...options, provider, client: options.client(provider), lagMs: options.listLagMs(provider) };
  const listing = await takeListing(listed, signal);
  if (!listing) return { quarantined: 1 };
  const byId = new Map(listing.observed.map((instance) => [instance.providerInstanceId, instance]));
  const counts = { checked: attempts.length, interrupted: 0, resumed: 0, rebid: 0, replace: 0, give_up: 0, wait: 0 };
  for (const attempt of attempts) {
    // One that is not listed is reconcile's to judge.
    const observed = byId.get(attempt.provider_instance_id ?? '');
    if (!observed || signal.aborted) continue;
    await recordObservation(options.db, attempt.id, observed);
    if (isTakenAway(attempt, observed)) {
      const kind = await inTransaction(options.db, (tx) => applyPolicy(options, tx, attempt));
      counts.interrupted++;
      if (kind) counts[kind]++;
    } else if (attempt.interrupted_at !== null) {
      await inTransaction(options.db, (tx) => endInterruption(tx, attempt));
      counts.resumed++;
    }
  }
  if (!signal.aborted) await recordBelief(listed, listing);
  return counts;
}

/** Once interrupted, it is so until it runs: a raised bid first has it scheduled. */
function isTakenAway(attempt: AttemptRow, observed: ObservedInstance): boolean {
  return observed.interrupted || (attempt.interrupted_at !== null && observed.status !== 'running');
}

async function applyPolicy(
  options: InterruptibleOptions,
  tx: Tx,
  seen: AttemptRow,
): Promise<InterruptionAction['kind'] | null> {
  const instance = await lockInterrupted(tx, seen);
  if (!instance) return null;
  const isNew = await recordInterrupted(tx, seen.id);
  const action = decideInterruption(
    await readInterruption(options, tx, instance, { ...seen, ...(isNew ? FRESH : {}) }),
  );
  if (isNew) await tell(tx, instance, seen, 'interrupted', action.reason);
  switch (action.kind) {
    case 'wait':
      await updateInstance(tx, instance.id, { note: action.reason });
      break;
    case 'rebid':
      await rebid(options, tx, instance, seen, action);
      break;
    case 'replace':
      await replace(options, tx, instance, seen, action.reason);
      break;
    case 'give_up':
      await tell(tx, instance, seen, 'given_up', action.reason);
      await acceptDestroy(tx, options.queue, {
        orgId: null,
        instanceId: instance.id,
        actor: SYSTEM,
        reason: action.reason,
        failure: { code: 'interrupted', detail: action.reason },
      });
  }
  return action.kind;
}

/** What a first sighting resets, as recordInterrupted does. */
const FRESH = { interrupted_at: null, rebids: 0, rebid_at: null };

/** In the order of locks that everybody keeps: operation, then instance. undefined: it is not the one it was when it was listed. */
async function lockInterrupted(tx: Tx, attempt: AttemptRow): Promise<InstanceRow | undefined> {
  const found = await tx
    .selectFrom('instances')
    .select('operation_id')
    .where('id', '=', attempt.instance_id)
    .executeTakeFirst();
  if (found) await lockOperation(tx, found.operation_id);
  const instance = await lockInstance(tx, attempt.instance_id);
  return instance?.status === 'ready' && instance.winner_attempt_id === attempt.id ? instance : undefined;
}

async function readInterruption(options: InterruptibleOptions, tx: Tx, instance: InstanceRow, attempt: AttemptRow) {
  const request = instance.request as ProvisionRequest;
  return {
    policy: request.onInterruption ?? ('replace' as const),
    bidMicroUsdPerHour: attempt.bid_micro_usd_per_hour as bigint,
    diskMicroUsdPerHour: attempt.disk_micro_usd_per_hour ?? 0n,
    maxPriceMicroUsdPerHour: BigInt(request.maxPriceMicroUsdPerHour),
    rebids: attempt.rebids,
    rebidAt: attempt.rebid_at?.getTime() ?? null,
    replacements: await countReplacements(tx, instance.id),
    now: options.now().getTime(),
  };
}

async function rebid(
  options: InterruptibleOptions,
  tx: Tx,
  instance: InstanceRow,
  attempt: AttemptRow,
  action: Extract<InterruptionAction, { kind: 'rebid' }>,
): Promise<void> {
  const number = await raiseBid(tx, attempt.id, action.bidMicroUsdPerHour);
  await updateInstance(tx, instance.id, { note: action.reason });
  await tell(tx, instance, attempt, 'rebid', action.reason, Number(action.bidMicroUsdPerHour));
  await acceptOperation(tx, options.queue, {
    orgId: instance.org_id,
    kind: 'change_bid',
    targetKind: 'attempt',
    targetId: attempt.id,
    stackId: instance.stack_id,
    input: { bidMicroUsdPerHour: Number(action.bidMicroUsdPerHour) },
    deterministicKey: `bid:${attempt.id}:${number}`,
    createdBy: ACTOR,
  });
}

/** The old machine is destroyed by an operation of its own; a new provision finds another for the same instance. */
async function replace(
  options: InterruptibleOptions,
  tx: Tx,
  instance: InstanceRow,
  attempt: AttemptRow,
  reason: string,
): Promise<void> {
  const isMoved = await setInstanceStatus(tx, instance.id, 'creating', {
    phase: 'purchasing',
    note: reason,
    winnerAttemptId: null,
  });
  if (!isMoved) return;
  const failure = { code: 'interrupted', detail: reason };
  await acceptAttemptDestroy(tx, options.queue, attempt, { failure, by: ACTOR });
  const operation = await acceptOperation(tx, options.queue, {
    orgId: instance.org_id,
    kind: 'provision_instance',
    targetKind: 'stack',
    targetId: instance.stack_id,
    stackId: instance.stack_id,
    input: { reason, replaces: attempt.id },
    createdBy: ACTOR,
  });
  await tell(tx, instance, attempt, 'replaced', reason);
  await beginReplacement(tx, instance.id, operation.id);
}

async function endInterruption(tx: Tx, attempt: AttemptRow): Promise<void> {
  const instance = await lockInterrupted(tx, attempt);
  if (!(await recordResumed(tx, attempt.id)) || !instance) return;
  await updateInstance(tx, instance.id, { note: null });
  await tell(tx, instance, attempt, 'resumed', 'the machine runs again');
}

async function tell(
  tx: Tx,
  instance: InstanceRow,
  attempt: AttemptRow,
  interruption: 'interrupted' | 'rebid' | 'resumed' | 'replaced' | 'given_up',
  detail: string,
  bidMicroUsdPerHour?: number,
): Promise<void> {
  const bid = bidMicroUsdPerHour === undefined ? {} : { bidMicroUsdPerHour };
  await appendEvents(tx, instance.operation_id, [
    {
      type: 'instance',
      data: { instanceId: instance.id, status: instance.status, attemptId: attempt.id, interruption, detail, ...bid },
    },
  ]);
}
