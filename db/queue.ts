/**
 * The queue: pg-boss carries "look at this operation" to some worker, in the transaction that accepted it. It is a bell, not a
 * record: the operations table is the truth, a dispatch that is lost or doubled changes nothing (see claimOperation).
 *
 * Why not pg-boss's own `singleton` policy for one operation per stack: its fetch answers empty while the head of the queue is
 * blocked by a busy key, so one busy stack would hold up the others; our claim excludes per stack and is fenced besides.
 */
import { sql } from 'kysely';
import type pg from 'pg';
import { fromKysely, PgBoss } from 'pg-boss';
import type { Executor } from './database.ts';

export const QUEUE_SCHEMA = 'pgboss';
const QUEUE = 'operations';
/** LISTEN/NOTIFY channel that tells workers to fetch now. */
export const DISPATCH_CHANNEL = 'operation_dispatch';

export interface Queue {
  /**
   * Rings for an operation, in the caller's transaction; `afterMs` later when given. One that goes on (`isUnderWay`) comes before those
   * that have not begun: a burst of new requests must not hold up machines that are ready.
   */
  dispatch(
    executor: Executor,
    operationId: string,
    options?: { afterMs?: number; isUnderWay?: boolean },
  ): Promise<void>;
  /** Takes up to `limit` due dispatches off the queue for good; their operations must be claimed now (the sweep finds what a crash loses here). */
  take(executor: Executor, limit: number): Promise<string[]>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** @param maintain true in one role (cron): pg-boss then keeps its own tables tidy. */
export function createQueue(executor: Executor, maintain = false): Queue {
  const boss = new PgBoss({
    db: fromKysely(executor),
    schema: QUEUE_SCHEMA,
    migrate: false,
    createSchema: false,
    schedule: false,
    supervise: maintain,
    superviseIntervalSeconds: 60,
  });
  boss.on('error', () => {}); // its own upkeep failing while the database is away; every call of ours throws to its caller
  return {
    async dispatch(tx, operationId, { afterMs = 0, isUnderWay = false } = {}) {
      const startAfter = afterMs > 0 ? new Date(Date.now() + afterMs) : undefined;
      await boss.send(
        QUEUE,
        { operationId },
        {
          db: fromKysely(tx),
          priority: isUnderWay ? 1 : 0,
          ...(startAfter ? { startAfter } : {}),
        },
      );
      if (!startAfter) await sql`select pg_notify(${DISPATCH_CHANNEL}, '')`.execute(tx);
    },
    async take(tx, limit) {
      const dispatches = await boss.fetch<{ operationId: string }>(QUEUE, { batchSize: limit, db: fromKysely(tx) });
      if (dispatches.length === 0) return [];
      await boss.deleteJob(
        QUEUE,
        dispatches.map((dispatch) => dispatch.id),
        { db: fromKysely(tx) },
      );
      return dispatches.map((dispatch) => dispatch.data.operationId);
    },
    async start() {
      await boss.start();
    },
    async stop() {
      await boss.stop({ graceful: false });
    },
  };
}

/** Makes the queue's own tables; part of migrating. */
export async function prepareQueue(settings: pg.ClientConfig): Promise<void> {
  const boss = new PgBoss({ ...settings, schema: QUEUE_SCHEMA, schedule: false, supervise: false, max: 1 });
  boss.on('error', () => {});
  await boss.start();
  try {
    if (!(await boss.getQueue(QUEUE))) {
      await boss.createQueue(QUEUE, {
        policy: 'standard',
        retryLimit: 0,
        expireInSeconds: 86_400,
        deleteAfterSeconds: 60,
      });
    }
  } finally {
    await boss.stop({ graceful: false });
  }
}
