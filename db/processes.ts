/** What processes tell each other by rows: cron ticks (one replica claims each) and the readiness of components. */
import { sql } from 'kysely';
import type { Db } from './database.ts';

/** Whether this process may run the tick; exactly one replica gets true. */
export async function claimTick(db: Db, name: string, tickAt: Date, process: string): Promise<boolean> {
  const row = await db
    .insertInto('cron_ticks')
    .values({ name, tick_at: tickAt, claimed_by: process })
    .onConflict((conflict) => conflict.columns(['name', 'tick_at']).doNothing())
    .returning('name')
    .executeTakeFirst();
  return row !== undefined;
}

export async function finishTick(
  db: Db,
  name: string,
  tickAt: Date,
  counts: unknown,
  error: string | null,
): Promise<void> {
  await db
    .updateTable('cron_ticks')
    .set({ finished_at: sql`now()`, counts: JSON.stringify(counts ?? null), error })
    .where('name', '=', name)
    .where('tick_at', '=', tickAt)
    .execute();
}

export interface ComponentStatus {
  component: string;
  process: string;
  ready: boolean;
  reason: string;
  updated_at: Date;
}

export async function recordComponent(
  db: Db,
  component: string,
  process: string,
  ready: boolean,
  reason: string,
): Promise<void> {
  await db
    .insertInto('component_status')
    .values({ component, process, ready, reason })
    .onConflict((conflict) =>
      conflict.columns(['component', 'process']).doUpdateSet({ ready, reason, updated_at: sql<Date>`now()` }),
    )
    .execute();
}

/** Rows of processes that renewed them within the last minute. */
export function listComponents(db: Db): Promise<ComponentStatus[]> {
  return db
    .selectFrom('component_status')
    .selectAll()
    .where('updated_at', '>', sql<Date>`now() - interval '1 minute'`)
    .orderBy('component')
    .execute();
}
