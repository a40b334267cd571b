/** Authentication: from the Authorization header to the caller. */
import type { Request } from 'express';
import { MusterError } from '../domain/error-table.ts';
import { findUsableApiKey, touchApiKey } from '../db/api-keys.ts';
import type { Db } from '../db/database.ts';
import { findLogin } from '../db/refresh-tokens.ts';
import { REPOSITORY_TOKEN_PREFIX } from '../db/repository-tokens.ts';
import type { AccessTokens } from './access-token.ts';
import type { Caller } from './caller.ts';
import { AGENT_KEY_HEADER } from './contract/nodes.ts';
import { API_KEY_PREFIX, hashCredential } from './credential.ts';

const MAX_CREDENTIAL_LENGTH = 4096;
/** How exact `lastUsedAt` of a key is. */
const TOUCH_EVERY_MS = 60_000;

export interface Authenticator {
  /** Throws MusterError `unauthenticated`. */
  authenticate(credential: string): Promise<Caller>;
}

export function createAuthenticator(db: Db, accessTokens: AccessTokens): Authenticator {
  const touchedAt = new Map<string, number>();
  return {
    async authenticate(credential) {
      const caller = credential.startsWith(API_KEY_PREFIX)
        ? await findKeyCaller(db, credential, touchedAt)
        : await findUserCaller(db, accessTokens, credential);
      if (!caller) throw new MusterError('unauthenticated', 'the credential is unknown, expired or revoked');
      return caller;
    },
  };
}

/** Throws MusterError `unauthenticated` where there is none of the right form. */
export function credentialOf(request: Request): string {
  const header = request.headers.authorization;
  if (header === undefined) {
    throw new MusterError('unauthenticated', 'send "Authorization: Bearer" with an access token or an API key');
  }
  const credential = /^Bearer +([\x21-\x7e]+)$/i.exec(header)?.[1];
  if (credential === undefined || credential.length > MAX_CREDENTIAL_LENGTH) {
    throw new MusterError('unauthenticated', 'the Authorization header must be "Bearer" and one credential');
  }
  return credential;
}

export function hasAgentKey(request: Request): boolean {
  return request.headers[AGENT_KEY_HEADER] !== undefined;
}

/** What an agent proves itself by: its one-time token or its key. Throws MusterError `unauthenticated` where it has neither's form. */
export function agentCredentialOf(request: Request, prefix: string): string {
  const credential = request.headers[AGENT_KEY_HEADER];
  if (typeof credential !== 'string' || !/^[\x21-\x7e]{1,512}$/.test(credential) || !credential.startsWith(prefix)) {
    throw new MusterError('unauthenticated', `X-Agent-API-Key must be a credential of an agent (${prefix}…)`);
  }
  return credential;
}

export function hasRepositoryToken(request: Request): boolean {
  return readRepositoryToken(request) !== null;
}

/** As restic sends it: the password of HTTP's basic authentication. Throws MusterError `unauthenticated`. */
export function repositoryTokenOf(request: Request): string {
  const token = readRepositoryToken(request);
  if (token !== null) return token;
  throw new MusterError(
    'unauthenticated',
    `the password must be a token of a repository (${REPOSITORY_TOKEN_PREFIX}…)`,
  );
}

function readRepositoryToken(request: Request): string | null {
  const encoded = /^Basic +([A-Za-z0-9+/=_-]{1,1024})$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const token = /^[^:]*:(.*)$/s.exec(Buffer.from(encoded, 'base64').toString('utf8'))?.[1] ?? '';
  return token.startsWith(REPOSITORY_TOKEN_PREFIX) ? token : null;
}

async function findKeyCaller(db: Db, key: string, touchedAt: Map<string, number>): Promise<Caller | null> {
  const row = await findUsableApiKey(db, hashCredential(key));
  if (!row) return null;
  const now = performance.now();
  if (now - (touchedAt.get(row.id) ?? -Infinity) > TOUCH_EVERY_MS) {
    touchedAt.set(row.id, now);
    touchApiKey(db, row.id).catch(() => touchedAt.delete(row.id));
  }
  return {
    kind: 'api_key',
    id: row.id,
    userId: row.user_id,
    orgId: row.org_id,
    role: row.role,
    isAdmin: row.is_admin,
    familyId: null,
  };
}

async function findUserCaller(db: Db, accessTokens: AccessTokens, token: string): Promise<Caller | null> {
  const login = await accessTokens.verify(token);
  const row = login ? await findLogin(db, login) : undefined;
  if (!login || !row) return null;
  return { kind: 'user', id: login.userId, ...login, role: row.role, isAdmin: row.is_admin };
}
