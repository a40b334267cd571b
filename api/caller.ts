/** The caller: the authenticated principal behind a request, with the org it acts in. How it proves itself is authentication.ts's. */
import type { Role } from '../domain/access.ts';
import type { Actor } from '../db/audit.ts';

export interface Caller {
  kind: 'user' | 'api_key';
  id: string;
  /** null: an API key that belongs to nobody. */
  userId: string | null;
  orgId: string;
  role: Role;
  isAdmin: boolean;
  /** The login that the access token hangs on; null for API keys. */
  familyId: string | null;
}

export function actorOf(caller: Caller, requestId: string): Actor {
  return { kind: caller.kind, id: caller.id, requestId };
}
