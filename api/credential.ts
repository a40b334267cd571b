/** Credentials that we hand out: random secrets of which only a sha-256 is kept. 32 random bytes need no slow hash. */
import { createHash, randomBytes } from 'node:crypto';

export const API_KEY_PREFIX = 'mk_';
/** So much of a key is kept in clear, for people to tell keys apart. */
const SHOWN_LENGTH = 10;

export function makeApiKeySecret(): string {
  return `${API_KEY_PREFIX}${randomBytes(32).toString('base64url')}`;
}

export function shownPrefix(key: string): string {
  return key.slice(0, SHOWN_LENGTH);
}

export const AGENT_KEY_PREFIX = 'ma_';

/** For refresh tokens (`mr_`), invites (`mi_`) and agents' keys (`ma_`). */
export function makeToken(prefix: 'mr_' | 'mi_' | typeof AGENT_KEY_PREFIX): string {
  return `${prefix}${randomBytes(32).toString('base64url')}`;
}

export function hashCredential(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}
