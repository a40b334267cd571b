/** Whether inputs look as the SDK's own types say: known names, required ones there, the right kinds all the way down. */
import { isObject, UNKNOWN, type Properties } from './properties.ts';
import type { Kind, PackageTable, Shape } from './tables/table.ts';

export interface Complaint {
  /** Path of the property, such as `scalingConfig.minSize`. */
  property: string;
  reason: string;
}

export function checkInputs(table: PackageTable, shape: Shape, inputs: Properties): Complaint[] {
  const complaints: Complaint[] = [];
  checkShape({ table, complaints }, shape, inputs, '');
  return complaints;
}

interface Check {
  table: PackageTable;
  complaints: Complaint[];
}

function checkShape(check: Check, shape: Shape, value: Properties, path: string): void {
  const place = (name: string): string => (path === '' ? name : `${path}.${name}`);
  for (const [key, kind] of Object.entries(shape)) {
    const isRequired = key.endsWith('!');
    const name = isRequired ? key.slice(0, -1) : key;
    const item = value[name];
    if (item === undefined || item === null) {
      if (isRequired)
        check.complaints.push({ property: place(name), reason: `missing required property '${place(name)}'` });
      continue;
    }
    checkKind(check, kind, item, place(name));
  }
  for (const name of Object.keys(value)) {
    // The providers' own marks, such as __defaults.
    if (name in shape || `${name}!` in shape || name.startsWith('__')) continue;
    check.complaints.push({ property: place(name), reason: `unknown property '${place(name)}'${hint(shape, name)}` });
  }
}

function hint(shape: Shape, name: string): string {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[^a-z0-9]|s$/g, '');
  const meant = Object.keys(shape)
    .map((key) => key.replace(/!$/, ''))
    .find((key) => plain(key) === plain(name));
  return meant === undefined ? '' : `; did you mean '${meant}'?`;
}

function checkKind(check: Check, kind: Kind, value: unknown, path: string): void {
  if (value === UNKNOWN || kind === 'any' || kind === 'asset' || kind === 'json') return;
  const kinds = splitUnion(kind);
  const fitting = kinds.find((one) => isOfKind(one, value));
  if (fitting === undefined) {
    const isText = typeof value === 'string';
    // The value of a wrong kind may be a secret in the wrong place: only texts from a closed list are repeated.
    const got = isText && kinds.every((one) => one.startsWith("'")) ? JSON.stringify(value) : kindName(value);
    check.complaints.push({
      property: path,
      reason: `'${path}' must be ${kinds.map(nameKind).join(' or ')}, got ${got}`,
    });
    return;
  }
  if (fitting.startsWith('#')) {
    checkShape(check, check.table.shapes[fitting.slice(1)]!, value as Properties, path);
  } else if (fitting.startsWith('[')) {
    for (const [index, item] of (value as unknown[]).entries()) {
      checkKind(check, fitting.slice(1, -1), item, `${path}[${index}]`);
    }
  } else if (fitting.startsWith('{')) {
    for (const [key, item] of Object.entries(value as Properties)) {
      if (item !== null) checkKind(check, fitting.slice(1, -1), item, `${path}.${key}`);
    }
  }
}

/** At the top level only: `[a|b]` is one kind. */
function splitUnion(kind: Kind): Kind[] {
  const parts: string[] = [];
  let depth = 0;
  let part = '';
  for (const letter of kind) {
    if (letter === '[' || letter === '{') depth++;
    if (letter === ']' || letter === '}') depth--;
    if (letter === '|' && depth === 0) {
      parts.push(part);
      part = '';
    } else {
      part += letter;
    }
  }
  return [...parts, part];
}

function isOfKind(kind: Kind, value: unknown): boolean {
  if (kind === 'any' || kind === 'json' || kind === 'asset') return true;
  if (kind.startsWith("'")) return value === kind.slice(1, -1);
  if (kind.startsWith('[')) return Array.isArray(value);
  if (kind.startsWith('{') || kind.startsWith('#')) return isObject(value);
  return typeof value === kind;
}

function nameKind(kind: Kind): string {
  if (kind.startsWith('[')) return 'a list';
  if (kind.startsWith('{') || kind.startsWith('#')) return 'an object';
  if (kind.startsWith("'")) return kind;
  return `a ${kind}`;
}

function kindName(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  return isObject(value) ? 'an object' : `a ${typeof value}`;
}
