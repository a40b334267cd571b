/** Names and numbers that clouds give out. Names come from the engine's seed, so that a preview and its update choose the same; ids never repeat. */
import { createHash, randomBytes, randomUUID } from 'node:crypto';

/** Hex digits that are the same for the same seed. Without a seed they are new. */
export function seededHex(seed: Uint8Array, digits: number): string {
  const bytes = seed.length > 0 ? createHash('sha256').update(seed).digest() : randomBytes(32);
  return bytes.toString('hex').slice(0, digits);
}

/** The beginning is cut where the whole would be too long. */
export function autoName(
  logicalName: string,
  suffix: string,
  separator: string,
  maxLength: number | undefined,
): string {
  const room = (maxLength ?? 255) - suffix.length - separator.length;
  return `${logicalName.slice(0, room)}${separator}${suffix}`;
}

export function newHex(digits: number): string {
  return randomBytes(Math.ceil(digits / 2))
    .toString('hex')
    .slice(0, digits);
}

export function newUuid(): string {
  return randomUUID();
}

/** As many decimal digits, the first not 0. */
export function newDigits(digits: number): string {
  let text = '';
  while (text.length < digits) text += BigInt(`0x${newHex(16)}`).toString();
  return `1${text.slice(0, digits - 1)}`;
}

/** Upper-case letters and digits, as in AWS's unique ids. */
export function newCode(length: number): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  return [...randomBytes(length)].map((byte) => letters[byte % letters.length]).join('');
}

/** Always the same for the same name. */
export function hashHex(name: string, digits: number): string {
  return createHash('sha256').update(name).digest('hex').slice(0, digits);
}
