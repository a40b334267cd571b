/** Orgs and their members. An org is a tenant: it sees only its own rows. */
import { sql, type Selectable } from 'kysely';
import type { Role } from '../domain/access.ts';
import { MusterError } from '../domain/error-table.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type OrgRow = Selectable<Schema['orgs']>;

/** Throws MusterError `conflict` where the name is taken. */
export async function insertOrg(tx: Tx, name: string): Promise<OrgRow> {
  const row = await tx
    .insertInto('orgs')
    .values({ id: newId('org'), name })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) throw nameTaken(name);
  return row;
}

/** Throws MusterError `conflict` where the name is taken. */
export async function renameOrg(tx: Tx, orgId: string, name: string): Promise<OrgRow> {
  const taken = await tx
    .selectFrom('orgs')
    .select('id')
    .where('name', '=', name)
    .where('id', '<>', orgId)
    .executeTakeFirst();
  if (taken) throw nameTaken(name);
  return tx.updateTable('orgs').set({ name }).where('id', '=', orgId).returningAll().executeTakeFirstOrThrow();
}

function nameTaken(name: string): MusterError {
  return new MusterError('conflict', `an org named "${name}" exists already`, {
    errors: [{ path: 'name', message: 'is taken' }],
  });
}

export function findOrg(executor: Executor, orgId: string): Promise<OrgRow | undefined> {
  return executor.selectFrom('orgs').selectAll().where('id', '=', orgId).executeTakeFirst();
}

export function findOrgByName(executor: Executor, name: string): Promise<OrgRow | undefined> {
  return executor.selectFrom('orgs').selectAll().where('name', '=', name).executeTakeFirst();
}

export interface OrgOfUser extends OrgRow {
  role: Role;
}

/** In the order joined. */
export function listOrgsOfUser(executor: Executor, userId: string): Promise<OrgOfUser[]> {
  return executor
    .selectFrom('members')
    .innerJoin('orgs', 'orgs.id', 'members.org_id')
    .select(['orgs.id', 'orgs.name', 'orgs.created_at', 'members.role'])
    .where('members.user_id', '=', userId)
    .orderBy('members.created_at')
    .orderBy('orgs.id')
    .execute();
}

export async function setMember(tx: Tx, orgId: string, userId: string, role: Role): Promise<void> {
  await tx
    .insertInto('members')
    .values({ org_id: orgId, user_id: userId, role })
    .onConflict((conflict) => conflict.columns(['org_id', 'user_id']).doUpdateSet({ role }))
    .execute();
  const owners = await tx
    .selectFrom('members')
    .select('user_id')
    .where('org_id', '=', orgId)
    .where('role', '=', 'owner')
    .executeTakeFirst();
  const keys = await tx
    .selectFrom('api_keys')
    .select('id')
    .where('org_id', '=', orgId)
    .where('role', '=', 'owner')
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  if (!owners && !keys) throw new MusterError('conflict', 'an org must keep an owner');
}

export interface MemberRow {
  user_id: string;
  email: string;
  role: Role;
  created_at: Date;
}

export function listMembers(
  executor: Executor,
  orgId: string,
  page: { limit: number; after?: { email: string } },
): Promise<MemberRow[]> {
  let query = executor
    .selectFrom('members')
    .innerJoin('users', 'users.id', 'members.user_id')
    .select(['members.user_id', 'users.email', 'members.role', 'members.created_at'])
    .where('members.org_id', '=', orgId);
  if (page.after) query = query.where(sql<boolean>`users.email > ${page.after.email}`);
  return query.orderBy('users.email').limit(page.limit).execute();
}
