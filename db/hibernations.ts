/** Hibernations: each sleep of an instance, as a row (domain/hibernation.ts). The instance's own status is moved beside it, by the caller. */
import { sql, type Selectable, type UpdateObject } from 'kysely';
import {
  HIBERNATION_STATUSES,
  isOpenHibernation,
  type HibernationCause,
  type HibernationStatus,
  type WakeCause,
} from '../domain/hibernation.ts';
import type { MicroUsd } from '../domain/money.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type HibernationRow = Selectable<Schema['hibernations']>;

const OPEN = HIBERNATION_STATUSES.filter(isOpenHibernation);

export interface NewHibernation {
  orgId: string;
  instanceId: string;
  operationId: string;
  attemptId: string;
  priceMicroUsdPerHour: MicroUsd;
  cause: HibernationCause;
}

export function insertHibernation(tx: Tx, made: NewHibernation): Promise<HibernationRow> {
  return tx
    .insertInto('hibernations')
    .values({
      id: newId('hibernation'),
      org_id: made.orgId,
      instance_id: made.instanceId,
      operation_id: made.operationId,
      attempt_id: made.attemptId,
      price_micro_usd_per_hour: made.priceMicroUsdPerHour,
      cause: made.cause,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The one that is not over; undefined: it is awake, and nobody puts it to sleep. */
export function findOpenHibernation(executor: Executor, instanceId: string): Promise<HibernationRow | undefined> {
  return executor
    .selectFrom('hibernations')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .where('status', 'in', OPEN)
    .executeTakeFirst();
}

/** What the operation puts to sleep. */
export function findHibernationOf(executor: Executor, operationId: string): Promise<HibernationRow | undefined> {
  return executor
    .selectFrom('hibernations')
    .selectAll()
    .where('operation_id', '=', operationId)
    .orderBy('began_at', 'desc')
    .limit(1)
    .executeTakeFirst();
}

/** Oldest first. */
export function listHibernations(executor: Executor, instanceIds: string[]): Promise<HibernationRow[]> {
  if (instanceIds.length === 0) return Promise.resolve([]);
  return executor
    .selectFrom('hibernations')
    .selectAll()
    .where('instance_id', 'in', instanceIds)
    .orderBy('began_at')
    .orderBy('id')
    .execute();
}

/** Of an org, that slept in the period; for what they saved. */
export function listSleeps(
  executor: Executor,
  filter: { orgId: string; from: Date; to: Date },
): Promise<HibernationRow[]> {
  return executor
    .selectFrom('hibernations')
    .selectAll()
    .where('org_id', '=', filter.orgId)
    .where('slept_at', '<', filter.to)
    .where(sql<boolean>`coalesce(wake_began_at, ended_at, 'infinity') > ${filter.from}`)
    .execute();
}

export async function setSnapshot(tx: Tx, id: string, snapshotId: string): Promise<void> {
  await tx.updateTable('hibernations').set({ snapshot_id: snapshotId }).where('id', '=', id).execute();
}

/** Its snapshot was verified: in this transaction the machine is given up. */
export function markReleasing(tx: Tx, id: string): Promise<boolean> {
  return move(tx, id, ['copying'], { status: 'releasing', released_at: sql<Date>`now()` });
}

/** The provider said not-found. `expiresAt`: of the instance, whose lifetime stands still from now on. */
export function markAsleep(tx: Tx, id: string, expiresAt: Date | null): Promise<boolean> {
  return move(tx, id, ['releasing'], {
    status: 'asleep',
    slept_at: sql<Date>`now()`,
    lifetime_left_ms:
      expiresAt === null
        ? null
        : sql<bigint>`greatest(0, extract(epoch from ${expiresAt}::timestamptz - now()) * 1000)::bigint`,
  });
}

/** By itself from now on as this says; what is left out stays. */
export async function setSleepPolicy(
  tx: Tx,
  instanceId: string,
  policy: Pick<ProvisionRequest, 'hibernateWhenIdle' | 'hibernateSchedule'>,
): Promise<void> {
  await tx
    .updateTable('instances')
    .set({ request: sql<string>`request || ${JSON.stringify(policy)}::jsonb`, updated_at: sql<Date>`now()` })
    .where('id', '=', instanceId)
    .execute();
}

/** It never slept: its machine is its own still. */
export function markFailed(tx: Tx, id: string, failure: { code: string; detail: string }): Promise<boolean> {
  return move(tx, id, ['copying'], {
    status: 'failed',
    failure_code: failure.code,
    failure_detail: failure.detail,
    ended_at: sql<Date>`now()`,
  });
}

export function markWaking(tx: Tx, id: string, wake: { operationId: string; cause: WakeCause }): Promise<boolean> {
  return move(tx, id, ['asleep'], {
    status: 'waking',
    wake_operation_id: wake.operationId,
    wake_cause: wake.cause,
    wake_began_at: sql<Date>`now()`,
  });
}

/** It sleeps on: no machine was had, or none could be restored. */
export function markSleepingOn(tx: Tx, id: string, failure: { code: string; detail: string }): Promise<boolean> {
  return move(tx, id, ['waking'], {
    status: 'asleep',
    wake_began_at: null,
    wake_failures: sql<number>`wake_failures + 1`,
    wake_failed_at: sql<Date>`now()`,
    wake_failure_code: failure.code,
    wake_failure_detail: failure.detail,
  });
}

export function markWoken(tx: Tx, id: string): Promise<boolean> {
  return move(tx, id, ['waking'], { status: 'woken', woken_at: sql<Date>`now()`, ended_at: sql<Date>`now()` });
}

/** Its instance is destroyed, whatever it was doing. */
export async function endHibernation(tx: Tx, instanceId: string): Promise<void> {
  await tx
    .updateTable('hibernations')
    .set({ status: 'ended', ended_at: sql<Date>`now()` })
    .where('instance_id', '=', instanceId)
    .where('status', 'in', OPEN)
    .execute();
}

/** Asleep for longer than `ms`, all of it gone by our records, not proven since: with the labels of everything that was rented for each. */
export async function listUnprovenSleeps(
  executor: Executor,
  ms: number,
): Promise<{ id: string; instanceId: string; providers: ProviderName[]; labels: string[] }[]> {
  const { rows } = await sql<{ id: string; instanceId: string; providers: ProviderName[]; labels: string[] }>`
    select h.id, h.instance_id as "instanceId", array_agg(distinct a.provider) as providers, array_agg(a.label) as labels
    from hibernations h join attempts a on a.instance_id = h.instance_id
    where h.status = 'asleep' and h.proven_empty_at is null and h.slept_at < now() - ${ms} * interval '1 millisecond'
    group by h.id
    having count(*) filter (where a.status <> 'gone') = 0
    limit 500`.execute(executor);
  return rows;
}

export async function markProvenEmpty(executor: Executor, id: string): Promise<void> {
  await executor
    .updateTable('hibernations')
    .set({ proven_empty_at: sql<Date>`now()` })
    .where('id', '=', id)
    .where('status', '=', 'asleep')
    .execute();
}

async function move(
  tx: Tx,
  id: string,
  from: readonly HibernationStatus[],
  change: UpdateObject<Schema, 'hibernations'>,
): Promise<boolean> {
  const row = await tx
    .updateTable('hibernations')
    .set(change)
    .where('id', '=', id)
    .where('status', 'in', from)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}
