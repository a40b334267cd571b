/** Makes new ids: the randomness that domain/ids.ts does not have. */
import { randomBytes } from 'node:crypto';
import { formatId, type IdKind } from '../domain/ids.ts';

export function newId(kind: IdKind): string {
  return formatId(kind, randomBytes(10));
}
