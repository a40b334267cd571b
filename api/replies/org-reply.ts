/** Orgs, users, members and API keys as the API shows them. Hashes stay behind. */
import type { Role } from '../../domain/access.ts';
import type { ApiKeyRow } from '../../db/api-keys.ts';
import type { MemberRow, OrgRow } from '../../db/orgs.ts';
import type { UserRow } from '../../db/users.ts';
import type { ApiKey, Member, Org, User } from '../contract/auth.ts';
import { iso, isoOrNull } from '../reply-values.ts';

/** @param role the caller's in it; null where they are no member */
export function orgReply(row: OrgRow, role: Role | null): Org {
  return { id: row.id, name: row.name, role, createdAt: iso(row.created_at) };
}

export function userReply(row: UserRow): User {
  return { id: row.id, email: row.email, isAdmin: row.is_admin, createdAt: iso(row.created_at) };
}

export function memberReply(row: MemberRow): Member {
  return { userId: row.user_id, email: row.email, role: row.role, createdAt: iso(row.created_at) };
}

export function apiKeyReply(row: ApiKeyRow): ApiKey {
  return {
    id: row.id,
    name: row.name,
    role: row.role,
    isAdmin: row.is_admin,
    prefix: row.prefix,
    createdAt: iso(row.created_at),
    expiresAt: isoOrNull(row.expires_at),
    lastUsedAt: isoOrNull(row.last_used_at),
    revokedAt: isoOrNull(row.revoked_at),
  };
}
