/**
 * The envelope: what is secret in the database, as text, encrypted with the deployment's master key. The row's identity is
 * authenticated with it, so a sealed value copied to another row does not open there. Where the key comes from is key-file.ts's.
 *
 * Format: `v1.<key id>.<nonce>.<ciphertext and tag>`, the last two in base64url. The key id lets several keys open while one
 * seals, so that a master key can be rotated row by row (db/reseal.ts).
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import type { SealedIdentity } from './sealed-place.ts';

const VERSION = 'v1';
export const MASTER_KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export interface Envelope {
  /** Of the keys that it has: the first seals, all open. */
  readonly keyIds: readonly [string, ...string[]];
  /** @param identity of the row and column; the same is needed to open. */
  seal(plaintext: string, identity: SealedIdentity): string;
  /** Throws SealError where the text is none of ours, its key is not known, or it or its identity was changed. */
  open(sealed: string, identity: SealedIdentity): string;
}

/** Says nothing about the content. */
export class SealError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SealError';
  }
}

/** @param others keys that open and do not seal: earlier ones, and the next one. Throws RangeError for a key that is not 32 bytes. */
export function createEnvelope(current: Uint8Array, others: readonly Uint8Array[] = []): Envelope {
  const currentId = keyIdOf(current);
  const keys = new Map([current, ...others].map((key) => [keyIdOf(key), key]));
  return {
    keyIds: [currentId, ...[...keys.keys()].filter((id) => id !== currentId)],
    seal(plaintext, identity) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', current, nonce);
      cipher.setAAD(associatedData(currentId, identity));
      const body = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
      return [VERSION, currentId, nonce.toString('base64url'), body.toString('base64url')].join('.');
    },
    open(sealed, identity) {
      const { keyId, nonce, body } = parse(sealed);
      const key = keys.get(keyId);
      if (!key) throw new SealError(`sealed with the key ${keyId}, which is not known here`);
      const decipher = createDecipheriv('aes-256-gcm', key, nonce);
      decipher.setAAD(associatedData(keyId, identity));
      decipher.setAuthTag(body.subarray(-TAG_BYTES));
      try {
        return Buffer.concat([decipher.update(body.subarray(0, -TAG_BYTES)), decipher.final()]).toString('utf8');
      } catch {
        throw new SealError(`the sealed value of ${identity} was changed or belongs elsewhere`);
      }
    },
  };
}

function parse(sealed: string): { keyId: string; nonce: Buffer; body: Buffer } {
  const [version, keyId, nonceText, bodyText, ...rest] = sealed.split('.');
  const nonce = Buffer.from(nonceText ?? '', 'base64url');
  const body = Buffer.from(bodyText ?? '', 'base64url');
  const isOurs = version === VERSION && keyId && nonce.length === NONCE_BYTES && body.length >= TAG_BYTES;
  if (!isOurs || rest.length > 0) throw new SealError('not a sealed value');
  return { keyId, nonce, body };
}

function associatedData(keyId: string, identity: string): Buffer {
  return Buffer.from(`muster/${VERSION}/${keyId}/${identity}`, 'utf8');
}

function keyIdOf(key: Uint8Array): string {
  if (key.length !== MASTER_KEY_BYTES)
    throw new RangeError(`a master key has ${MASTER_KEY_BYTES} bytes, got ${key.length}`);
  return createHash('sha256').update('muster/key-id').update(key).digest('hex').slice(0, 8);
}
