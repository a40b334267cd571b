/** Values of JSON as text, for comparing what a filter says with what a row holds. */

/** Absent is the empty text; a structure is its JSON. */
export function toText(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
