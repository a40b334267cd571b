/**
 * Refresh tokens: one row each, one family per login. Each is used once and replaced; one that comes back after use was copied,
 * so its whole family is revoked. The family is also what an access token hangs on: revoked, the access token ends with it.
 */
import { sql, type Selectable } from 'kysely';
import type { Role } from '../domain/access.ts';
import type { Executor, Tx } from './database.ts';
import type { Schema } from './schema.ts';

export type RefreshTokenRow = Selectable<Schema['refresh_tokens']>;

export async function insertRefreshToken(
  tx: Tx,
  token: { tokenHash: Buffer; familyId: string; userId: string; orgId: string; expiresAt: Date },
): Promise<void> {
  await tx
    .insertInto('refresh_tokens')
    .values({
      token_hash: token.tokenHash,
      family_id: token.familyId,
      user_id: token.userId,
      org_id: token.orgId,
      expires_at: token.expiresAt,
    })
    .execute();
}

/** `reused`: the family has just been revoked. `unknown`: never issued, expired or revoked. */
export type TokenUse = { kind: 'used'; token: RefreshTokenRow } | { kind: 'reused' | 'unknown' };

/** Takes the token for good. The transaction must commit also for `reused`. */
export async function useRefreshToken(tx: Tx, tokenHash: Buffer): Promise<TokenUse> {
  const token = await tx
    .selectFrom('refresh_tokens')
    .selectAll()
    .where('token_hash', '=', tokenHash)
    .forUpdate()
    .executeTakeFirst();
  if (!token || token.revoked_at !== null || token.expires_at.getTime() <= Date.now()) return { kind: 'unknown' };
  if (token.used_at !== null) {
    await revokeFamily(tx, token.family_id);
    return { kind: 'reused' };
  }
  await tx
    .updateTable('refresh_tokens')
    .set({ used_at: sql`now()` })
    .where('token_hash', '=', tokenHash)
    .execute();
  return { kind: 'used', token };
}

export async function revokeFamily(executor: Executor, familyId: string): Promise<void> {
  await executor
    .updateTable('refresh_tokens')
    .set({ revoked_at: sql`now()` })
    .where('family_id', '=', familyId)
    .where('revoked_at', 'is', null)
    .execute();
}

export interface LoginRow {
  role: Role;
  is_admin: boolean;
}

/** Who a login is now: its user's role in its org; undefined when it was ended, or the user disabled or no longer a member. */
export function findLogin(
  executor: Executor,
  login: { familyId: string; userId: string; orgId: string },
): Promise<LoginRow | undefined> {
  return executor
    .selectFrom('members')
    .innerJoin('users', 'users.id', 'members.user_id')
    .select(['members.role', 'users.is_admin'])
    .where('members.org_id', '=', login.orgId)
    .where('members.user_id', '=', login.userId)
    .where('users.disabled_at', 'is', null)
    .where((eb) =>
      eb.exists(
        eb
          .selectFrom('refresh_tokens')
          .select('family_id')
          .where('family_id', '=', login.familyId)
          .where('user_id', '=', login.userId)
          .where('revoked_at', 'is', null),
      ),
    )
    .executeTakeFirst();
}
