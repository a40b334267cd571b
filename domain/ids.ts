/**
 * Ids: a kind's prefix and 16 lower-case base32 characters (80 random bits). The randomness is made by the caller
 * (domain code has none); this module only shapes and recognises ids.
 */
export const ID_PREFIXES = {
  instance: 'ins',
  attempt: 'att',
  operation: 'op',
  stack: 'stk',
  session: 'ses',
  node: 'nod',
  cluster: 'clu',
  snapshot: 'snp',
  finding: 'fnd',
  org: 'org',
  user: 'usr',
  apiKey: 'key',
  invite: 'inv',
  offer: 'off',
  sourcingRule: 'rul',
  plan: 'pln',
  quote: 'quo',
  pool: 'pol',
  webhook: 'whk',
  delivery: 'dlv',
  credential: 'crd',
  order: 'ord',
  pod: 'pod',
  standby: 'sby',
  failover: 'fov',
  drill: 'drl',
  hibernation: 'hib',
} as const;

export type IdKind = keyof typeof ID_PREFIXES;

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
const BODY_LENGTH = 16;

/** Shapes 10 random bytes into an id of `kind`. Throws RangeError on any other length. */
export function formatId(kind: IdKind, random: Uint8Array): string {
  if (random.length !== 10) throw new RangeError(`an id needs 10 random bytes, got ${random.length}`);
  return `${ID_PREFIXES[kind]}_${toBase32(random)}`;
}

/** Whether `value` has the shape of an id of `kind`; says nothing about existence. */
export function isId(kind: IdKind, value: string): boolean {
  const prefix = `${ID_PREFIXES[kind]}_`;
  return value.startsWith(prefix) && isBase32(value.slice(prefix.length), BODY_LENGTH);
}

/** RFC 4648 base32 without padding, in lower case. */
export function toBase32(bytes: Uint8Array): string {
  let bits = 0;
  let value = 0;
  let text = '';
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      text += ALPHABET[(value >>> (bits - 5)) & 31];
      bits -= 5;
    }
    value &= (1 << bits) - 1;
  }
  if (bits > 0) text += ALPHABET[(value << (5 - bits)) & 31];
  return text;
}

export function isBase32(text: string, length: number): boolean {
  return text.length === length && /^[a-z2-7]*$/.test(text);
}
