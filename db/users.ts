/** Users: people who log in with email and password. What they may do stands in members (orgs.ts). */
import { sql, type Selectable } from 'kysely';
import { MusterError } from '../domain/error-table.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type UserRow = Selectable<Schema['users']>;

/** @param email in lower case. Throws MusterError `conflict` where it is taken. */
export async function insertUser(tx: Tx, user: { email: string; passwordHash: string }): Promise<UserRow> {
  const row = await tx
    .insertInto('users')
    .values({ id: newId('user'), email: user.email, password_hash: user.passwordHash })
    .onConflict((conflict) => conflict.column('email').doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) {
    throw new MusterError('conflict', 'a user with this email exists already', {
      errors: [{ path: 'email', message: 'is taken' }],
    });
  }
  return row;
}

export function findUser(executor: Executor, userId: string): Promise<UserRow | undefined> {
  return executor.selectFrom('users').selectAll().where('id', '=', userId).executeTakeFirst();
}

export function findUserByEmail(executor: Executor, email: string): Promise<UserRow | undefined> {
  return executor.selectFrom('users').selectAll().where('email', '=', email).executeTakeFirst();
}

/** Changes the password and ends every login of the user. */
export async function setPassword(tx: Tx, userId: string, passwordHash: string): Promise<void> {
  await tx.updateTable('users').set({ password_hash: passwordHash }).where('id', '=', userId).execute();
  await tx
    .updateTable('refresh_tokens')
    .set({ revoked_at: sql`now()` })
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .execute();
}
