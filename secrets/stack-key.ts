/**
 * The data key of one stack's secrets: made with the stack, sealed with the master key, and bound, like everything encrypted with it, to
 * the stack's uuid. So a rename changes nothing, a ciphertext of another stack does not open, and a rotation of the master key only seals
 * data keys anew.
 *
 * Format of a ciphertext: version (1 byte, 1), nonce (12), tag (16), encrypted bytes; base64 on the wire.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { SealError, type Envelope } from './envelope.ts';
import { identityAt } from './sealed-place.ts';

const VERSION = 1;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES;

export interface StackCipher {
  encrypt(plaintext: Uint8Array): Buffer;
  /** Throws SealError where it was not encrypted for this stack, or was changed. */
  decrypt(ciphertext: Uint8Array): Buffer;
}

/** A new key, sealed to the stack. */
export function makeStackKey(envelope: Envelope, stackUuid: string): string {
  return envelope.seal(randomBytes(KEY_BYTES).toString('base64'), identityAt('state_stacks.key_sealed', stackUuid));
}

/** Throws SealError where it was sealed to another stack. */
export function openStackKey(envelope: Envelope, stackUuid: string, sealed: string): StackCipher {
  return createStackCipher(
    Buffer.from(envelope.open(sealed, identityAt('state_stacks.key_sealed', stackUuid)), 'base64'),
    stackUuid,
  );
}

function createStackCipher(key: Buffer, stackUuid: string): StackCipher {
  const associated = Buffer.from(`muster/stack/${stackUuid}`, 'utf8');
  return {
    encrypt(plaintext) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', key, nonce);
      cipher.setAAD(associated);
      const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
      return Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), body]);
    },
    decrypt(ciphertext) {
      const bytes = Buffer.from(ciphertext);
      if (bytes.length < HEAD_BYTES || bytes[0] !== VERSION) throw new SealError('not a secret of this state service');
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(1, 1 + NONCE_BYTES));
      decipher.setAAD(associated);
      decipher.setAuthTag(bytes.subarray(1 + NONCE_BYTES, HEAD_BYTES));
      try {
        return Buffer.concat([decipher.update(bytes.subarray(HEAD_BYTES)), decipher.final()]);
      } catch {
        throw new SealError('the secret was changed or belongs to another stack');
      }
    },
  };
}
