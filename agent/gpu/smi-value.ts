/** One value as nvidia-smi prints it. Its many ways to say nothing are null, and so is what cannot be read: never 0. */

/** Seen in captures of drivers 510 to 610, in the tool's own help and in reports. */
const NOT_A_VALUE =
  /^\[?(N\/A|Not Supported|Not Found|Function Not Found|Unknown Error|Insufficient Permissions|GPU is lost|GPU requires reset|Requested functionality has been deprecated|No data|None)?\]?$/i;
const NUMBER = /^(-?\d{1,15}(?:\.\d{1,9})?)(?: ?(?:MiB|MHz|KB\/s|W|C|%|us|x))?$/;

export function readText(raw: string | undefined): string | null {
  const text = (raw ?? '').trim();
  return NOT_A_VALUE.test(text) ? null : text.slice(0, 200);
}

/** Without its unit. */
export function readNumber(raw: string | undefined): number | null {
  const match = NUMBER.exec(readText(raw) ?? '');
  return match === null ? null : Number(match[1]);
}

/** A count or an amount: what is below zero is no value either. */
export function readAmount(raw: string | undefined): number | null {
  const value = readNumber(raw);
  return value === null || value < 0 ? null : value;
}

/** `Yes` and `No`; null for everything else. */
export function readYesNo(raw: string | undefined): boolean | null {
  const text = readText(raw)?.toLowerCase();
  return text === 'yes' ? true : text === 'no' ? false : null;
}

/** `0x…`; null where it is none. */
export function readBits(raw: string | undefined): number | null {
  const match = /^0x0*([0-9a-f]{1,12})$/i.exec(readText(raw) ?? '');
  return match === null ? null : Number.parseInt(match[1] as string, 16);
}

/** A token that tells of a sick GPU rather than of a missing feature; null: none. */
export function readSickness(raw: string | undefined): string | null {
  const match = /^\[?(GPU is lost|GPU requires reset|Unknown Error)\]?$/i.exec((raw ?? '').trim());
  return match === null ? null : (match[1] as string);
}
