/** Stacks of the state service and their versions. A version is never changed; the newest is the stack's state while no update runs. */
import { randomUUID } from 'node:crypto';
import { sql, type Selectable } from 'kysely';
import { countResources, emptyDeployment, type VersionedDeployment } from '../domain/state/deployment.ts';
import { toStackState } from '../domain/state/stack-state.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';
import { saveHoldings } from './stack-holdings.ts';

export type StateStackRow = Selectable<Schema['state_stacks']>;

export interface StackName {
  /** null: the deployment's own. */
  orgId: string | null;
  project: string;
  name: string;
}

export interface StackKey {
  owner: string;
  sealed: string;
}

export interface NewStateStack extends StackName {
  /** A new one. @default made here */
  uuid?: string;
  isEngine: boolean;
  tags: Record<string, string>;
  /** Its data key, sealed to the uuid of the stack that it was made for; a function makes one of its own. */
  key: StackKey | ((uuid: string) => StackKey);
}

/** @returns null where the name or the uuid is taken */
export async function insertStateStack(tx: Tx, stack: NewStateStack): Promise<StateStackRow | null> {
  const uuid = stack.uuid ?? randomUUID();
  const key = typeof stack.key === 'function' ? stack.key(uuid) : stack.key;
  const row = await tx
    .insertInto('state_stacks')
    .values({
      uuid,
      org_id: stack.orgId,
      project: stack.project,
      name: stack.name,
      is_engine: stack.isEngine,
      tags: JSON.stringify(stack.tags),
      key_owner: key.owner,
      key_sealed: key.sealed,
    })
    .onConflict((conflict) => conflict.doNothing())
    .returningAll()
    .executeTakeFirst();
  return row ?? null;
}

export function findStateStack(executor: Executor, { orgId, project, name }: StackName) {
  return selectStack(executor, orgId).where('project', '=', project).where('name', '=', name).executeTakeFirst();
}

/** Of our own runner, by the engine's name of it. */
export function findEngineStack(executor: Executor, name: string): Promise<StateStackRow | undefined> {
  return executor
    .selectFrom('state_stacks')
    .selectAll()
    .where('is_engine', '=', true)
    .where('name', '=', name)
    .executeTakeFirst();
}

/** Holds the row: whoever starts or ends an update, or writes a version, does so first. */
export function lockStateStack(tx: Tx, uuid: string): Promise<StateStackRow | undefined> {
  return tx.selectFrom('state_stacks').selectAll().where('uuid', '=', uuid).forUpdate().executeTakeFirst();
}

function selectStack(executor: Executor, orgId: string | null) {
  return executor
    .selectFrom('state_stacks')
    .selectAll()
    .where('org_id', 'is not distinct from', orgId as string);
}

export type ListedStateStack = StateStackRow & { resource_count: number; last_update_at: Date | null };

/** By project and name. */
export function listStateStacks(
  executor: Executor,
  filter: { orgId: string; project?: string; tag?: { name: string; value?: string }; after?: string; limit: number },
): Promise<ListedStateStack[]> {
  const { tag, project, after } = filter;
  return executor
    .selectFrom('state_stacks')
    .selectAll()
    .select([
      sql<number>`coalesce((select resource_count from state_versions v where v.stack_uuid = state_stacks.uuid and v.version = state_stacks.version), 0)`.as(
        'resource_count',
      ),
      sql<Date | null>`(select max(ended_at) from state_updates u where u.stack_uuid = state_stacks.uuid and not u.is_dry_run and u.kind <> 'preview')`.as(
        'last_update_at',
      ),
    ])
    .where('org_id', '=', filter.orgId)
    .$if(project !== undefined, (query) => query.where('project', '=', project as string))
    .$if(tag !== undefined, (query) => query.where(sql<boolean>`tags ? ${tag?.name ?? ''}`))
    .$if(tag?.value !== undefined, (query) =>
      query.where(sql<boolean>`tags ->> ${tag?.name ?? ''} = ${tag?.value ?? ''}`),
    )
    .$if(after !== undefined, (query) => query.where(sql<boolean>`project || '/' || name > ${after ?? ''}`))
    .orderBy(sql`project || '/' || name`)
    .limit(filter.limit)
    .execute();
}

export async function hasStateProject(executor: Executor, orgId: string, project: string): Promise<boolean> {
  const row = await selectStack(executor, orgId).where('project', '=', project).limit(1).executeTakeFirst();
  return row !== undefined;
}

export async function setStateTags(tx: Tx, uuid: string, tags: Record<string, string>): Promise<void> {
  await tx
    .updateTable('state_stacks')
    .set({ tags: JSON.stringify(tags) })
    .where('uuid', '=', uuid)
    .execute();
}

/** Its secrets, versions and updates stay its own: they hang on the uuid. @returns false: the name is taken */
export async function renameStateStack(
  tx: Tx,
  stack: StateStackRow,
  to: { project: string; name: string },
): Promise<boolean> {
  const taken = await findStateStack(tx, { orgId: stack.org_id, ...to });
  if (taken && taken.uuid !== stack.uuid) return false;
  await tx.updateTable('state_stacks').set(to).where('uuid', '=', stack.uuid).execute();
  return true;
}

/** With everything of it, but for the history of a stack of ours (update-history.ts). */
export async function deleteStateStack(tx: Tx, uuid: string): Promise<void> {
  await tx
    .updateTable('state_updates')
    .set({ status: 'failed', ended_at: sql<Date>`now()`, token_hash: null, end_reason: 'its stack was removed' })
    .where('stack_uuid', '=', uuid)
    .where('status', 'in', ['not_started', 'running'])
    .execute();
  await tx.deleteFrom('state_updates').where('stack_uuid', '=', uuid).where('stack_id', 'is', null).execute();
  await tx.deleteFrom('state_stacks').where('uuid', '=', uuid).execute();
}

/** The state as it was written last, or an older version of it; null: there is no such version. */
export async function readStateVersion(
  executor: Executor,
  stack: Pick<StateStackRow, 'uuid' | 'version'>,
  version: number = stack.version,
): Promise<VersionedDeployment | null> {
  const row = await executor
    .selectFrom('state_versions')
    .select('deployment')
    .where('stack_uuid', '=', stack.uuid)
    .where('version', '=', version)
    .executeTakeFirst();
  if (row) return JSON.parse(row.deployment) as VersionedDeployment;
  return version === 0 ? emptyDeployment() : null;
}

/** The stack's row is held; where it is ours, its figures follow. @returns the new version's number */
export async function appendStateVersion(
  tx: Tx,
  stack: Pick<StateStackRow, 'uuid' | 'name' | 'is_engine'>,
  state: VersionedDeployment,
  updateId: string | null,
): Promise<number> {
  const { version } = await tx
    .updateTable('state_stacks')
    .set({ version: sql<number>`version + 1` })
    .where('uuid', '=', stack.uuid)
    .returning('version')
    .executeTakeFirstOrThrow();
  await tx
    .insertInto('state_versions')
    .values({
      stack_uuid: stack.uuid,
      version,
      deployment: JSON.stringify(state),
      resource_count: countResources(state),
      update_id: updateId,
    })
    .execute();
  if (stack.is_engine) await saveHoldings(tx, stack.name, toStackState(state.deployment));
  return version;
}
