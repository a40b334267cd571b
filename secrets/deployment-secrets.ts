/**
 * What a deployment makes once and keeps for ever: label key, token signing key, SSH key pair. This module
 * makes the values; db/sealed-secrets.ts keeps them.
 */
import { createHmac, generateKeyPairSync, randomBytes } from 'node:crypto';
import { toBase32 } from '../domain/ids.ts';
import type { LabelMac } from '../domain/label.ts';

export interface MadeSecret {
  secret: string;
  /** What may be known; kept in clear. */
  publicPart: string | null;
}

/** 32 random bytes in base64. */
export function makeLabelKey(): MadeSecret {
  return { secret: randomBytes(32).toString('base64'), publicPart: null };
}

/** The MAC of labels from a key of makeLabelKey: HMAC-SHA-256 in lower-case base32. */
export function createLabelMac(labelKey: string): LabelMac {
  const key = Buffer.from(labelKey, 'base64');
  return (text) => toBase32(createHmac('sha256', key).update(text).digest());
}

/** An Ed25519 pair in PEM (PKCS #8, SPKI) that signs access tokens. */
export function makeTokenSigningKey(): MadeSecret {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return {
    secret: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicPart: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

/** An Ed25519 pair in OpenSSH's formats: the deployment's own key to the machines it rents. */
export async function makeSshKeyPair(comment: string): Promise<MadeSecret> {
  const { default: ssh2 } = await import('ssh2'); // 19 MB, wanted once in a deployment's life
  let pair;
  // ssh2 now and then writes an ed25519 key that nobody can read, itself included.
  do pair = ssh2.utils.generateKeyPairSync('ed25519', { comment });
  while (ssh2.utils.parseKey(pair.private) instanceof Error);
  return { secret: pair.private, publicPart: pair.public };
}
