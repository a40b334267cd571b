/** Interruptible machines that stand for an instance: what was bid, and whether the vendor keeps them from us now. */
import { sql } from 'kysely';
import type { MicroUsd } from '../domain/money.ts';
import type { AttemptRow } from './attempts.ts';
import type { Executor, Tx } from './database.ts';

/** Winners only: what is taken away while it boots is the readiness watcher's. */
export function listInterruptible(executor: Executor, provider: string): Promise<AttemptRow[]> {
  return interruptible(executor).where('attempts.provider', '=', provider).selectAll('attempts').execute();
}

export async function hasInterruptible(executor: Executor): Promise<boolean> {
  return (await interruptible(executor).select('attempts.id').limit(1).executeTakeFirst()) !== undefined;
}

function interruptible(executor: Executor) {
  return executor
    .selectFrom('attempts')
    .innerJoin('instances', 'instances.winner_attempt_id', 'attempts.id')
    .where('attempts.bid_micro_usd_per_hour', 'is not', null)
    .where('attempts.status', '=', 'ready')
    .where('instances.status', '=', 'ready');
}

/** Returns whether it was not known yet; then it is counted, for the attempt and for its machine. */
export async function recordInterrupted(tx: Tx, attemptId: string): Promise<boolean> {
  const row = await tx
    .updateTable('attempts')
    .set((eb) => ({
      interrupted_at: sql<string>`now()`,
      interruptions: eb('interruptions', '+', 1),
      rebids: 0,
      rebid_at: null,
      updated_at: sql<string>`now()`,
    }))
    .where('id', '=', attemptId)
    .where('interrupted_at', 'is', null)
    .returning(['provider', 'machine_id'])
    .executeTakeFirst();
  if (!row) return false;
  if (row.machine_id === null) return true;
  await tx
    .insertInto('machine_history')
    .values({ provider: row.provider, machine_id: row.machine_id, interruptions: 1 })
    .onConflict((conflict) =>
      conflict.columns(['provider', 'machine_id']).doUpdateSet((eb) => ({
        interruptions: eb('machine_history.interruptions', '+', 1),
        updated_at: sql<string>`now()`,
      })),
    )
    .execute();
  return true;
}

/** It runs again. Returns whether it was interrupted. */
export async function recordResumed(tx: Tx, attemptId: string): Promise<boolean> {
  const row = await tx
    .updateTable('attempts')
    .set({ interrupted_at: null, rebids: 0, rebid_at: null, updated_at: sql<string>`now()` })
    .where('id', '=', attemptId)
    .where('interrupted_at', 'is not', null)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

/** What is to be bid from now on; the engine tells the vendor. Returns the number of this rebid. */
export async function raiseBid(tx: Tx, attemptId: string, bid: MicroUsd): Promise<number> {
  const row = await tx
    .updateTable('attempts')
    .set((eb) => ({
      bid_micro_usd_per_hour: bid,
      rebids: eb('rebids', '+', 1),
      rebid_at: sql<string>`now()`,
      updated_at: sql<string>`now()`,
    }))
    .where('id', '=', attemptId)
    .returning('rebids')
    .executeTakeFirstOrThrow();
  return row.rebids;
}

/** How often the instance was given another machine for an interrupted one in the last day. */
export async function countReplacements(executor: Executor, instanceId: string): Promise<number> {
  const row = await executor
    .selectFrom('attempts')
    .select(({ fn }) => fn.countAll<bigint>().as('count'))
    .where('instance_id', '=', instanceId)
    .where('failure_code', '=', 'interrupted')
    .where('destroy_requested_at', '>', sql<Date>`now() - interval '1 day'`)
    .executeTakeFirstOrThrow();
  return Number(row.count);
}

/** The instance has no machine any more and looks for another: what it had before, and its phases, are of another life. */
export async function beginReplacement(tx: Tx, instanceId: string, operationId: string): Promise<void> {
  await tx
    .updateTable('instances')
    .set({
      operation_id: operationId,
      replaced_at: sql<string>`now()`,
      phase_at: sql<string>`jsonb_build_object('queued', to_jsonb(now()), phase, to_jsonb(now()))`,
      restore_operation_id: null,
      updated_at: sql<string>`now()`,
    })
    .where('id', '=', instanceId)
    .execute();
}
