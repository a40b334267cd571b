/**
 * An SSH public key as one line of authorized_keys without options: `ssh-ed25519 AAAA… comment`. The blob is taken apart, so
 * that a truncated or mistyped key is refused here and not by a machine that already bills.
 */

const MAX_LENGTH = 8192;
const MIN_RSA_BITS = 2048;
/** Length of the uncompressed point for each curve. */
const ECDSA_POINT_BYTES: Record<string, number> = { nistp256: 65, nistp384: 97, nistp521: 133 };

/** Why `text` is no key that we take; null when it is one. */
export function explainBadSshKey(text: string): string | null {
  if (text.length > MAX_LENGTH) return `is longer than ${MAX_LENGTH} characters`;
  if (/PRIVATE KEY/.test(text)) return 'is a private key: send the public one (the file that ends in .pub)';
  if (/[\r\n\0]/.test(text.trim())) return 'must be one line';
  const [type, blob] = text.trim().split(/\s+/);
  if (!type || !blob || !/^[A-Za-z0-9+/]+={0,2}$/.test(blob)) {
    return 'is no OpenSSH public key, such as "ssh-ed25519 AAAA… name"';
  }
  const fields = readFields(blob);
  if (!fields || asText(fields[0]) !== type) return 'is no OpenSSH public key: its data is damaged or of another type';
  return explainBadFields(type, fields);
}

function explainBadFields(type: string, fields: Uint8Array[]): string | null {
  const damaged = 'is no OpenSSH public key: its data is damaged';
  if (type === 'ssh-ed25519') return fields.length === 2 && fields[1]?.length === 32 ? null : damaged;
  if (type === 'ssh-rsa') {
    const modulus = fields[2];
    if (fields.length !== 3 || !modulus || !fields[1]?.length) return damaged;
    const bits = bitLength(modulus);
    return bits >= MIN_RSA_BITS ? null : `is an RSA key of ${bits} bits; at least ${MIN_RSA_BITS} are needed`;
  }
  const curve = /^ecdsa-sha2-(nistp(?:256|384|521))$/.exec(type)?.[1];
  if (curve) {
    const point = fields[2];
    const isPoint = fields.length === 3 && asText(fields[1]) === curve && point?.[0] === 4;
    return isPoint && point.length === ECDSA_POINT_BYTES[curve] ? null : damaged;
  }
  return `is of the type "${type.slice(0, 40)}"; allowed: ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256, -nistp384, -nistp521`;
}

/** The blob is a row of fields, each a length of four bytes and its data. @returns null where that does not come out even. */
function readFields(base64: string): Uint8Array[] | null {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
  const view = new DataView(bytes.buffer);
  const fields: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 4 > bytes.length) return null;
    const length = view.getUint32(at);
    at += 4;
    if (at + length > bytes.length) return null;
    fields.push(bytes.subarray(at, at + length));
    at += length;
  }
  return fields.length > 0 ? fields : null;
}

function asText(bytes: Uint8Array | undefined): string {
  return bytes ? String.fromCharCode(...bytes) : '';
}

function bitLength(integer: Uint8Array): number {
  const first = integer.findIndex((byte) => byte !== 0);
  if (first < 0) return 0;
  return (integer.length - first) * 8 - Math.clz32(integer[first] as number) + 24;
}
