/** The vendor's ids: 32 hexadecimal digits. */
import type { Random } from '../random.ts';

export function toHex(random: Random): string {
  let text = '';
  while (text.length < 32) text += random.int(0, 65_535).toString(16).padStart(4, '0');
  return text;
}
