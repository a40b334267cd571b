/** API keys: long-lived credentials of an org. Only the sha-256 of the 32 random bytes behind one is kept. */
import { sql, type Selectable } from 'kysely';
import type { Role } from '../domain/access.ts';
import type { Db, Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type ApiKeyRow = Selectable<Schema['api_keys']>;

export interface NewApiKey {
  orgId: string;
  userId: string | null;
  name: string;
  role: Role;
  isAdmin: boolean;
  keyHash: Buffer;
  prefix: string;
  expiresAt: Date | null;
}

export function insertApiKey(tx: Tx, key: NewApiKey): Promise<ApiKeyRow> {
  return tx
    .insertInto('api_keys')
    .values({
      id: newId('apiKey'),
      org_id: key.orgId,
      user_id: key.userId,
      name: key.name,
      role: key.role,
      is_admin: key.isAdmin,
      key_hash: key.keyHash,
      prefix: key.prefix,
      expires_at: key.expiresAt,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The key that may be used now: not revoked, not expired, its user (if it has one) not disabled. */
export function findUsableApiKey(executor: Executor, keyHash: Buffer): Promise<ApiKeyRow | undefined> {
  return executor
    .selectFrom('api_keys')
    .leftJoin('users', 'users.id', 'api_keys.user_id')
    .selectAll('api_keys')
    .where('key_hash', '=', keyHash)
    .where('revoked_at', 'is', null)
    .where((eb) => eb.or([eb('expires_at', 'is', null), eb('expires_at', '>', sql<Date>`now()`)]))
    .where('users.disabled_at', 'is', null)
    .executeTakeFirst();
}

export async function touchApiKey(db: Db, keyId: string): Promise<void> {
  await db
    .updateTable('api_keys')
    .set({ last_used_at: sql`now()` })
    .where('id', '=', keyId)
    .execute();
}

/** Newest first, revoked ones too. */
export function listApiKeys(
  executor: Executor,
  orgId: string,
  page: { limit: number; before?: { createdAt: Date; id: string } },
): Promise<ApiKeyRow[]> {
  let query = executor.selectFrom('api_keys').selectAll().where('org_id', '=', orgId);
  if (page.before) {
    query = query.where(
      sql<boolean>`(date_trunc('milliseconds', created_at), id) < (${page.before.createdAt}::timestamptz, ${page.before.id})`,
    );
  }
  return query
    .orderBy(sql`date_trunc('milliseconds', created_at)`, 'desc')
    .orderBy('id', 'desc')
    .limit(page.limit)
    .execute();
}

/** Holds the row. @returns undefined where there is none or it is another org's. */
export function lockApiKey(tx: Tx, orgId: string, keyId: string): Promise<ApiKeyRow | undefined> {
  return tx
    .selectFrom('api_keys')
    .selectAll()
    .where('id', '=', keyId)
    .where('org_id', '=', orgId)
    .forUpdate()
    .executeTakeFirst();
}

export async function revokeApiKey(tx: Tx, keyId: string): Promise<void> {
  await tx
    .updateTable('api_keys')
    .set({ revoked_at: sql`coalesce(revoked_at, now())` })
    .where('id', '=', keyId)
    .execute();
}

/** Puts another secret behind the key: the old one stops working at once. */
export function replaceKeyHash(tx: Tx, keyId: string, keyHash: Buffer, prefix: string): Promise<ApiKeyRow> {
  return tx
    .updateTable('api_keys')
    .set({ key_hash: keyHash, prefix })
    .where('id', '=', keyId)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Whether any usable key of the deployment's admin exists. */
export async function hasAdminKey(executor: Executor): Promise<boolean> {
  const row = await executor
    .selectFrom('api_keys')
    .select('id')
    .where('is_admin', '=', true)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  return row !== undefined;
}
