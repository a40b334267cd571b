/** Drills: failovers on purpose, with what was measured and how it was judged. */
import { sql, type Selectable } from 'kysely';
import type { DrillMeasures, DrillMode, DrillMoments, DrillPhase, DrillStatus, DrillTargets } from '../domain/drill.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type DrillRow = Selectable<Schema['drills']>;

export interface NewDrill {
  orgId: string;
  standbyId: string;
  instanceId: string;
  mode: DrillMode;
  targets: DrillTargets;
  createdBy: string;
}

/** @returns null where one of the instance is under way */
export async function insertDrill(tx: Tx, drill: NewDrill): Promise<DrillRow | null> {
  const row = await tx
    .insertInto('drills')
    .values({
      id: newId('drill'),
      org_id: drill.orgId,
      standby_id: drill.standbyId,
      instance_id: drill.instanceId,
      mode: drill.mode,
      targets: JSON.stringify(drill.targets),
      created_by: drill.createdBy,
    })
    .onConflict((conflict) => conflict.doNothing())
    .returningAll()
    .executeTakeFirst();
  return row ?? null;
}

/** @param orgId null: any org */
export function findDrill(executor: Executor, orgId: string | null, id: string): Promise<DrillRow | undefined> {
  return executor
    .selectFrom('drills')
    .selectAll()
    .where('id', '=', id)
    .$if(orgId !== null, (query) => query.where('org_id', '=', orgId as string))
    .executeTakeFirst();
}

/** The one under way of an instance. */
export function findRunningDrill(executor: Executor, instanceId: string): Promise<DrillRow | undefined> {
  return executor
    .selectFrom('drills')
    .selectAll()
    .where('instance_id', '=', instanceId)
    .where('status', '=', 'running')
    .executeTakeFirst();
}

export interface DrillFilter {
  orgId: string;
  standbyId?: string;
  status?: DrillStatus[];
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export function listDrills(executor: Executor, filter: DrillFilter): Promise<DrillRow[]> {
  const { orgId, standbyId, status, before } = filter;
  return executor
    .selectFrom('drills')
    .selectAll()
    .where('org_id', '=', orgId)
    .$if(standbyId !== undefined, (query) => query.where('standby_id', '=', standbyId as string))
    .$if(status !== undefined, (query) => query.where('status', 'in', status as DrillStatus[]))
    .$if(before !== undefined, (query) =>
      query.where(sql<boolean>`(created_at, id) < (${before?.createdAt ?? null}::timestamptz, ${before?.id ?? null})`),
    )
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(filter.limit)
    .execute();
}

export type DrillChange = Partial<{
  operationId: string;
  phase: DrillPhase;
  moments: DrillMoments;
  failoverId: string;
}>;

/** What is absent stays; moments are added to those there are. Nothing of one that is over. */
export async function changeDrill(executor: Executor, id: string, change: DrillChange): Promise<void> {
  const { operationId, phase, moments, failoverId } = change;
  await executor
    .updateTable('drills')
    .set({
      ...(operationId === undefined ? {} : { operation_id: operationId }),
      ...(phase === undefined ? {} : { phase }),
      ...(failoverId === undefined ? {} : { failover_id: failoverId }),
      ...(moments === undefined ? {} : { moments: sql<string>`moments || ${JSON.stringify(moments)}::jsonb` }),
    })
    .where('id', '=', id)
    .where('status', '=', 'running')
    .execute();
}

export async function endDrill(
  tx: Tx,
  drill: DrillRow,
  end: { status: Exclude<DrillStatus, 'running'>; measures: DrillMeasures; failures: string[] },
): Promise<void> {
  const ended = await tx
    .updateTable('drills')
    .set({
      status: end.status,
      phase: 'ended',
      measures: JSON.stringify(end.measures),
      failures: JSON.stringify(end.failures),
      finished_at: sql<Date>`now()`,
    })
    .where('id', '=', drill.id)
    .where('status', '=', 'running')
    .returning('id')
    .executeTakeFirst();
  if (!ended) return;
  await tx
    .updateTable('standbys')
    .set({ drilled_at: sql<Date>`now()` })
    .where('id', '=', drill.standby_id)
    .execute();
}

/** Standbys whose own drill is due, of all orgs. */
export async function listDueDrills(executor: Executor, now: Date, limit: number): Promise<string[]> {
  const rows = await executor
    .selectFrom('standbys')
    .select('id')
    .where('removed_at', 'is', null)
    .where('status', 'in', ['warm', 'stopped'])
    .where('drill_every_ms', 'is not', null)
    .where(
      sql<boolean>`coalesce((select max(d.created_at) from drills d where d.standby_id = standbys.id), standbys.created_at)
        + drill_every_ms * interval '1 millisecond' <= ${now}::timestamptz`,
    )
    .orderBy('id')
    .limit(limit)
    .execute();
  return rows.map((row) => row.id);
}
