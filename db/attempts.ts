/** Attempts: one purchase each. Rows are written under the claim of the operation that owns the stack, or by a cron that only observes. */
import { sql, type RawBuilder, type Selectable } from 'kysely';
import { ATTEMPT_NEXT, ATTEMPT_STATUSES, type AttemptStatus } from '../domain/attempt.ts';
import type { MicroUsd } from '../domain/money.ts';
import type { ObservedInstance } from '../domain/observed-instance.ts';
import type { Offer } from '../domain/offer.ts';
import type { AttemptCheck } from '../domain/readiness.ts';
import type { Executor, Tx } from './database.ts';
import { countPurchase, forgetReservations } from './offers.ts';
import type { Schema } from './schema.ts';
import { meterAttempts, recordPriceCharged } from './usage.ts';

export type AttemptRow = Selectable<Schema['attempts']>;

export interface NewAttempt {
  id: string;
  orgId: string;
  instanceId: string;
  stackId: string;
  label: string;
  offer: Offer;
  priceMicroUsdPerHour: MicroUsd;
  /** For an interruptible machine's GPUs; absent or null: on demand. */
  bidMicroUsdPerHour?: MicroUsd | null;
}

/** Records the intent to buy. Nothing may be sent to the provider before this is committed. */
export async function insertAttempt(tx: Tx, attempt: NewAttempt): Promise<void> {
  await tx
    .insertInto('attempts')
    .values({
      id: attempt.id,
      org_id: attempt.orgId,
      instance_id: attempt.instanceId,
      stack_id: attempt.stackId,
      provider: attempt.offer.provider,
      label: attempt.label,
      bid_micro_usd_per_hour: attempt.bidMicroUsdPerHour ?? null,
      disk_micro_usd_per_hour:
        attempt.bidMicroUsdPerHour == null ? null : attempt.priceMicroUsdPerHour - attempt.bidMicroUsdPerHour,
      ...candidateColumns(attempt.offer, attempt.priceMicroUsdPerHour),
    })
    .execute();
}

function candidateColumns(offer: Offer, price: MicroUsd) {
  return {
    provider_offer_id: offer.providerOfferId,
    machine_id: offer.machineId,
    gpu: offer.gpu,
    gpu_count: offer.gpuCount,
    gpu_memory_gib: offer.gpuMemoryGib,
    region: offer.region,
    reliability: offer.reliability,
    price_micro_usd_per_hour: price,
  };
}

export function listAttemptsOfStack(executor: Executor, stackId: string): Promise<AttemptRow[]> {
  return executor
    .selectFrom('attempts')
    .selectAll()
    .where('stack_id', '=', stackId)
    .orderBy('created_at')
    .orderBy('id')
    .execute();
}

export function listAttemptsOfInstances(executor: Executor, instanceIds: string[]): Promise<AttemptRow[]> {
  if (instanceIds.length === 0) return Promise.resolve([]);
  return executor
    .selectFrom('attempts')
    .selectAll()
    .where('instance_id', 'in', instanceIds)
    .orderBy('created_at')
    .orderBy('id')
    .execute();
}

/** Everything that may exist at the provider by our records. */
export function listLiveAttempts(executor: Executor, provider: string): Promise<AttemptRow[]> {
  return executor
    .selectFrom('attempts')
    .selectAll()
    .where('provider', '=', provider)
    .where('status', '<>', 'gone')
    .execute();
}

export function listAttemptsById(executor: Executor, ids: string[]): Promise<AttemptRow[]> {
  if (ids.length === 0) return Promise.resolve([]);
  return executor.selectFrom('attempts').selectAll().where('id', 'in', ids).execute();
}

/** By label, gone ones too, the newest of a label last; with the container image that their instance ordered, and when their agent was heard of. */
export function listAttemptsToReconcile(
  executor: Executor,
  provider: string,
  labels: string[],
): Promise<(AttemptRow & { image: string | null; heard_at: Date | null })[]> {
  if (labels.length === 0) return Promise.resolve([]);
  return executor
    .selectFrom('attempts')
    .innerJoin('instances', 'instances.id', 'attempts.instance_id')
    .selectAll('attempts')
    .select(sql<string | null>`instances.request ->> 'image'`.as('image'))
    .select(sql<Date | null>`(select max(heartbeat_at) from nodes where nodes.attempt_id = attempts.id)`.as('heard_at'))
    .where('attempts.provider', '=', provider)
    .where(sql<boolean>`attempts.label = any(${labels})`)
    .orderBy('attempts.created_at')
    .execute();
}

/** Machines that may have existed at `since` by our records and were proven gone after it, orphans included. */
export async function countGoneSince(executor: Executor, provider: string, since: Date): Promise<number> {
  const attempts = await executor
    .selectFrom('attempts')
    .select(sql<bigint>`count(*)`.as('count'))
    .where('provider', '=', provider)
    // Not purchased_at: a purchase whose answer was lost may have made a machine that is known by its label only.
    .where((eb) => eb.or([eb('engine_runs', '>', 0), eb('provider_instance_id', 'is not', null)]))
    .where('created_at', '<=', since)
    .where('gone_at', '>', since)
    .executeTakeFirstOrThrow();
  const orphans = await executor
    .selectFrom('findings')
    .select(sql<bigint>`count(*)`.as('count'))
    .where('provider', '=', provider)
    .where('class', 'in', ['orphan', 'duplicate'])
    .where('resolution', '<>', 'adopted')
    .where('first_seen_at', '<=', since)
    .where('resolved_at', '>', since)
    .executeTakeFirstOrThrow();
  return Number(attempts.count + orphans.count);
}

/** Bought and not verified yet. */
export function listBooting(executor: Executor, provider: string): Promise<AttemptRow[]> {
  return executor
    .selectFrom('attempts')
    .selectAll()
    .where('provider', '=', provider)
    .where('status', '=', 'bought')
    .execute();
}

/** Holds every other attempt of the instance that is not given up yet. */
export function lockRivals(tx: Tx, instanceId: string, attemptId: string): Promise<AttemptRow[]> {
  return tx
    .selectFrom('attempts')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .where('id', '<>', attemptId)
    .where('status', 'in', ['reserved', 'buying', 'bought', 'ready', 'lost'])
    .orderBy('id')
    .forUpdate()
    .execute();
}

/** Whether a purchase for an instance of the operation may be under way, `exceptInstanceId` apart. */
export async function isBuyingForOthers(tx: Tx, operationId: string, exceptInstanceId: string): Promise<boolean> {
  const row = await tx
    .selectFrom('attempts')
    .innerJoin('instances', 'instances.id', 'attempts.instance_id')
    .select('attempts.id')
    .where('instances.operation_id', '=', operationId)
    .where('instances.id', '<>', exceptInstanceId)
    .where('attempts.status', 'in', ['reserved', 'buying'])
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** The newest: an adopted machine keeps the label of an attempt that is gone. */
export function findAttemptByLabel(executor: Executor, label: string): Promise<AttemptRow | undefined> {
  return executor
    .selectFrom('attempts')
    .selectAll()
    .where('label', '=', label)
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
}

/** An engine run that may buy is about to start: from now on these labels are looked up before anything is bought. */
export async function markEngineRun(tx: Tx, attemptIds: string[]): Promise<void> {
  if (attemptIds.length === 0) return;
  await tx
    .updateTable('attempts')
    .set((eb) => ({
      engine_runs: eb('engine_runs', '+', 1),
      status: sql`case when status = 'reserved' then 'buying' else status end`,
      updated_at: sql`now()`,
    }))
    .where('id', 'in', attemptIds)
    .execute();
}

/** Counts the purchase call that is about to be sent: what was sent before it is known to have made nothing. */
export async function countPurchaseCall(tx: Tx, attemptId: string): Promise<void> {
  await tx
    .updateTable('attempts')
    .set((eb) => ({ purchase_calls: eb('purchase_calls', '+', 1), purchase_called_at: sql`now()` }))
    .where('id', '=', attemptId)
    .execute();
}

/** The vendor definitely refused the attempt's offer; `next` is assigned instead (null: none is left). */
export async function recordRefusal(
  tx: Tx,
  attempt: AttemptRow,
  reason: string,
  next: { offer: Offer; priceMicroUsdPerHour: MicroUsd } | null,
): Promise<void> {
  const refusal = { providerOfferId: attempt.provider_offer_id, machineId: attempt.machine_id, reason };
  await tx
    .updateTable('attempts')
    .set({
      refusals: sql`refusals || ${JSON.stringify([refusal])}::jsonb`,
      updated_at: sql`now()`,
      ...(next
        ? {
            ...candidateColumns(next.offer, next.priceMicroUsdPerHour),
            disk_micro_usd_per_hour: sql`${next.priceMicroUsdPerHour}::bigint - bid_micro_usd_per_hour`,
          }
        : {}),
    })
    .where('id', '=', attempt.id)
    .execute();
}

export interface BoughtMachine {
  providerInstanceId: string;
  machineId: string | null;
  priceMicroUsdPerHour: MicroUsd | null;
  /** As the vendor says it; absent or null where it does not. */
  startedAt?: Date | null;
}

/**
 * The vendor gave us a machine: it accrues from its start, or from now where nothing tells that it is older. What a run before this one
 * may have bought is taken to be as old as its purchase call, the earliest that it can be. Idempotent.
 */
export async function recordPurchase(
  tx: Tx,
  attemptId: string,
  machine: BoughtMachine,
  bootTimeoutMs: number,
): Promise<void> {
  const bought = await tx
    .updateTable('attempts')
    .set({
      status: sql`case when status in ('reserved', 'buying') then 'bought' else status end`,
      provider_instance_id: machine.providerInstanceId,
      machine_id: sql`coalesce(${machine.machineId}, machine_id)`,
      price_micro_usd_per_hour: sql`coalesce(${machine.priceMicroUsdPerHour}::bigint, price_micro_usd_per_hour)`,
      purchased_at: startOf(machine, sql`case when engine_runs > 1 then purchase_called_at end`),
      boot_deadline: sql`coalesce(boot_deadline, now() + ${bootTimeoutMs} * interval '1 millisecond')`,
      updated_at: sql`now()`,
    })
    .where('id', '=', attemptId)
    .where('status', '<>', 'gone')
    .returning(['provider', 'provider_offer_id'])
    .executeTakeFirst();
  if (bought?.provider_offer_id) await countPurchase(tx, bought.provider, bought.provider_offer_id);
  await forgetReservations(tx, [attemptId]);
  await meterAttempts(tx, [attemptId]);
}

/**
 * A machine that is to be destroyed was found by its label only: the answer to its purchase was lost. It accrues from its start, or from
 * its purchase call where the vendor tells none, until it is proven gone. Idempotent.
 */
export async function recordFound(tx: Tx, attemptId: string, machine: BoughtMachine): Promise<void> {
  await tx
    .updateTable('attempts')
    .set({
      provider_instance_id: sql`coalesce(provider_instance_id, ${machine.providerInstanceId})`,
      machine_id: sql`coalesce(${machine.machineId}, machine_id)`,
      price_micro_usd_per_hour: sql`coalesce(${machine.priceMicroUsdPerHour}::bigint, price_micro_usd_per_hour)`,
      purchased_at: startOf(machine, sql`coalesce(purchase_called_at, created_at)`),
      updated_at: sql`now()`,
    })
    .where('id', '=', attemptId)
    .where('status', '<>', 'gone')
    .where('purchased_at', 'is', null)
    .execute();
  await meterAttempts(tx, [attemptId]);
}

/** The vendor's clock is not ours: a machine is never older than its purchase call, nor younger than now. */
function startOf({ startedAt }: BoughtMachine, otherwise: RawBuilder<unknown>): RawBuilder<Date> {
  return sql<Date>`coalesce(purchased_at, least(now(), greatest(
    coalesce(purchase_called_at, created_at), coalesce(${startedAt ?? null}::timestamptz, ${otherwise}, now()))))`;
}

/** Holds the row and tells its status now. */
export async function lockAttemptStatus(tx: Tx, attemptId: string): Promise<AttemptRow['status'] | undefined> {
  const row = await tx
    .selectFrom('attempts')
    .select('status')
    .where('id', '=', attemptId)
    .forUpdate()
    .executeTakeFirst();
  return row?.status;
}

/** Marks attempts to be removed from the provider; those never sent to it are gone at once. */
export async function markDestroying(
  tx: Tx,
  attemptIds: string[],
  failure: { code: string; detail: string } | null,
): Promise<void> {
  if (attemptIds.length === 0) return;
  await tx
    .updateTable('attempts')
    .set({
      status: sql`case when status = 'reserved' and engine_runs = 0 then 'gone' else 'destroying' end`,
      gone_at: sql`case when status = 'reserved' and engine_runs = 0 then now() else gone_at end`,
      destroy_requested_at: sql`coalesce(destroy_requested_at, now())`,
      updated_at: sql`now()`,
      ...(failure
        ? {
            failure_code: sql`coalesce(failure_code, ${failure.code})`,
            failure_detail: sql`coalesce(failure_detail, ${failure.detail})`,
          }
        : {}),
    })
    .where('id', 'in', attemptIds)
    .where('status', 'in', statusesBefore('destroying'))
    .execute();
  await forgetReservations(tx, attemptIds);
}

/** Proven: nothing at the provider carries the label. */
export async function markGone(
  tx: Tx,
  attemptIds: string[],
  failure: { code: string; detail: string } | null = null,
): Promise<void> {
  if (attemptIds.length === 0) return;
  await tx
    .updateTable('attempts')
    .set({
      status: 'gone',
      gone_at: sql`coalesce(gone_at, now())`,
      updated_at: sql`now()`,
      ...(failure
        ? {
            failure_code: sql`coalesce(failure_code, ${failure.code})`,
            failure_detail: sql`coalesce(failure_detail, ${failure.detail})`,
          }
        : {}),
    })
    .where('id', 'in', attemptIds)
    .execute();
  await forgetReservations(tx, attemptIds);
  await meterAttempts(tx, attemptIds);
}

/** Whether it was: not where a rival has won, or where it is destroyed for another reason. */
export async function markAttemptReady(executor: Executor, attemptId: string): Promise<boolean> {
  const row = await executor
    .updateTable('attempts')
    .set({ status: 'ready', ready_at: sql`coalesce(ready_at, now())`, updated_at: sql`now()` })
    .where('id', '=', attemptId)
    .where('status', 'in', statusesBefore('ready'))
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

/** Its machine carries an agent, whose token and address are in `sealed`. */
export async function sealAgent(tx: Tx, attemptId: string, sealed: string): Promise<void> {
  await tx.updateTable('attempts').set({ agent_sealed: sealed }).where('id', '=', attemptId).execute();
}

/** null: its agent has not registered, or it carries none. */
export async function findAgentRegistration(executor: Executor, attemptId: string): Promise<Date | null> {
  const row = await executor
    .selectFrom('attempts')
    .select('agent_registered_at')
    .where('id', '=', attemptId)
    .executeTakeFirst();
  return row?.agent_registered_at ?? null;
}

/** What the vendor's believable listing said. */
export async function recordObservation(
  executor: Executor,
  attemptId: string,
  observed: ObservedInstance,
): Promise<void> {
  await executor
    .updateTable('attempts')
    .set({
      observed_status: observed.status,
      observed_detail: observed.statusDetail,
      observed_at: sql`now()`,
      missing_since: null,
      missing_count: 0,
      running_at: sql`case when ${observed.status} = 'running' then coalesce(running_at, now()) else running_at end`,
      ssh_host: sql`coalesce(${observed.ssh?.host ?? null}, ssh_host)`,
      ssh_port: sql`coalesce(${observed.ssh?.port ?? null}::integer, ssh_port)`,
      ssh_user: sql`coalesce(${observed.ssh?.user ?? null}, ssh_user)`,
    })
    .where('id', '=', attemptId)
    .execute();
  await recordPriceCharged(executor, attemptId, observed);
}

/** What the last look at the machine found. */
export async function recordCheck(executor: Executor, attemptId: string, check: AttemptCheck): Promise<void> {
  await executor
    .updateTable('attempts')
    .set({ last_check: JSON.stringify(check) })
    .where('id', '=', attemptId)
    .execute();
}

/** A believable listing did not contain the attempt's machine. */
export async function recordMissing(executor: Executor, attemptId: string): Promise<void> {
  await executor
    .updateTable('attempts')
    .set((eb) => ({ missing_since: sql`coalesce(missing_since, now())`, missing_count: eb('missing_count', '+', 1) }))
    .where('id', '=', attemptId)
    .execute();
}

/** Whether it was: not where somebody destroys it already. */
export async function markLost(executor: Executor, attemptId: string, detail: string): Promise<boolean> {
  const row = await executor
    .updateTable('attempts')
    .set({ status: 'lost', failure_code: 'lost', failure_detail: detail, updated_at: sql`now()` })
    .where('id', '=', attemptId)
    .where('status', 'in', statusesBefore('lost'))
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

function statusesBefore(status: AttemptStatus): AttemptStatus[] {
  return ATTEMPT_STATUSES.filter((one) => ATTEMPT_NEXT[one].includes(status));
}
