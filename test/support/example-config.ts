/** The example files as Pulumi reads them: text values as they stand, everything else as JSON. Only the YAML that the examples use. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export function readExample(kind: string): Record<string, string> {
  const text = readFileSync(join(import.meta.dirname, '..', '..', `Pulumi.${kind}.example.yaml`), 'utf8');
  const [, body = ''] = text.split(/^config:\n/m);
  const values: Record<string, string> = {};
  let list: { name: string; items: Record<string, unknown>[] } | null = null;
  for (const line of body.split('\n').filter((each) => each.trim() !== '' && !each.trim().startsWith('#'))) {
    const top = /^ {2}muster:(\w+):\s*(.*)$/.exec(line);
    const item = /^ {4}(?:- | {2})(\w+):\s*(.*)$/.exec(line);
    if (top?.[1] !== undefined && top[2] === '') list = { name: top[1], items: [] };
    else if (top?.[1] !== undefined) values[top[1]] = readFlow(top[2] ?? '');
    else if (item?.[1] !== undefined && list) {
      if (line.trim().startsWith('- ')) list.items.push({});
      (list.items.at(-1) as Record<string, unknown>)[item[1]] = readScalar(item[2] ?? '');
      values[list.name] = JSON.stringify(list.items);
    } else throw new Error(`${kind}: cannot read the line "${line}"`);
  }
  return values;
}

function readFlow(text: string): string {
  const list = /^\[(.*)\]$/.exec(text);
  return list
    ? JSON.stringify((list[1] as string).split(',').map((each) => readScalar(each.trim())))
    : String(readScalar(text));
}

function readScalar(text: string): unknown {
  const quoted = /^'(.*)'$/.exec(text);
  if (quoted) return quoted[1];
  if (/^(true|false|\d{1,15})$/.test(text)) return JSON.parse(text);
  return text;
}
