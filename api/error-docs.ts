/** docs/errors.md, from the error table. Run as a program it writes it; with `--check` it exits 1 when the committed one is another. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ERROR_CODES, ERROR_TABLE } from '../domain/error-table.ts';

export const ERROR_DOCS_FILE = join(import.meta.dirname, '..', 'docs', 'errors.md');

export function renderErrorDocs(): string {
  const rows = ERROR_CODES.map((code) => {
    const { status, title, retryable } = ERROR_TABLE[code];
    return [`<a id="${code}"></a>\`${code}\``, String(status), title, retryable ? 'yes' : 'no'];
  });
  return [
    '# Errors',
    '',
    'Generated from `domain/error-table.ts` by `node api/error-docs.ts`; do not edit.',
    '',
    'Every error of the API is an `application/problem+json` document (RFC 9457): `type`, `title`, `status`, `code`, `detail`,',
    '`requestId`, where fields are wrong `errors: [{path, message}]`, and facts such as the numbers of an exceeded cap. Failed',
    'operations carry the same codes in `error.code`.',
    '',
    ...renderTable([['code', 'HTTP status', 'meaning', 'may succeed later'], ...rows]),
    '',
  ].join('\n');
}

/** Columns are padded as the formatter pads them, so that formatting changes nothing. */
function renderTable(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  return [lines[0] ?? '', `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...lines.slice(1)];
}

if (import.meta.main) {
  const made = renderErrorDocs();
  if (!process.argv.includes('--check')) {
    await mkdir(dirname(ERROR_DOCS_FILE), { recursive: true });
    await writeFile(ERROR_DOCS_FILE, made);
  } else if ((await readFile(ERROR_DOCS_FILE, 'utf8').catch(() => '')) !== made) {
    process.stderr.write('docs/errors.md is not what the error table says: run `node api/error-docs.ts`\n');
    process.exitCode = 1;
  }
}
