/** The token by which an update writes, as it is kept: whoever reads the table can write no state. */
import { createHash } from 'node:crypto';

export function hashUpdateToken(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest();
}
