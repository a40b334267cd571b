/** Invites: one-time permissions to join an org. Only the token's hash is kept. */
import { sql, type Selectable } from 'kysely';
import type { Role } from '../domain/access.ts';
import type { Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

export type InviteRow = Selectable<Schema['invites']>;

export async function insertInvite(
  tx: Tx,
  invite: { orgId: string; tokenHash: Buffer; email: string | null; role: Role; createdBy: string; expiresAt: Date },
): Promise<InviteRow> {
  return tx
    .insertInto('invites')
    .values({
      id: newId('invite'),
      org_id: invite.orgId,
      token_hash: invite.tokenHash,
      email: invite.email,
      role: invite.role,
      created_by: invite.createdBy,
      expires_at: invite.expiresAt,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The unused, unexpired invite of that token for that address, held until the transaction ends; undefined for anything else. */
export function lockInvite(tx: Tx, tokenHash: Buffer, email: string): Promise<InviteRow | undefined> {
  return tx
    .selectFrom('invites')
    .selectAll()
    .where('token_hash', '=', tokenHash)
    .where('used_at', 'is', null)
    .where('expires_at', '>', sql<Date>`now()`)
    .where((eb) => eb.or([eb('email', 'is', null), eb('email', '=', email)]))
    .forUpdate()
    .executeTakeFirst();
}

export async function markInviteUsed(tx: Tx, inviteId: string, userId: string): Promise<void> {
  await tx
    .updateTable('invites')
    .set({ used_at: sql`now()`, used_by: userId })
    .where('id', '=', inviteId)
    .execute();
}
