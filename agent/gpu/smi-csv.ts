/**
 * The table that `nvidia-smi --query-gpu=… --format=csv` prints. Columns go by their position: headers carry units and canonical names
 * instead of those asked for.
 */

/** Raw cells by the field that was asked for. */
export type SmiRow = Readonly<Record<string, string>>;

const MAX_ROWS = 64;

/** null: it is no such table, so nothing is known. A header is skipped, warnings between the rows too. */
export function parseSmiCsv(text: string, fields: readonly string[]): SmiRow[] | null {
  const rows: SmiRow[] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '' || /^warning:/i.test(line.trim())) continue;
    const cells = line.split(',').map((cell) => cell.trim());
    if (cells.length !== fields.length) return null;
    if (isHeader(cells, fields)) continue;
    rows.push(Object.fromEntries(fields.map((field, position) => [field, cells[position] as string])));
    if (rows.length > MAX_ROWS) return null;
  }
  return rows.length === 0 ? null : rows;
}

function isHeader(cells: readonly string[], fields: readonly string[]): boolean {
  return cells.some((cell, position) => cell.replace(/ \[[^\]]*\]$/, '') === fields[position]);
}
