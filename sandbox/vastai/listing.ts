/**
 * The vendor's list of instances: pages of at most 25, ordered and filtered by contract columns, with a lag if one is
 * switched on.
 */
import { refusal } from './errors.ts';
import type { Slot } from './hardware.ts';
import type { Machine } from './machine.ts';
import type { WireObject } from './offer-wire.ts';
import { toText } from './wire-value.ts';

export interface ListContext {
  nowMs: number;
  lagMs: number;
  slotOf: (machine: Machine) => Slot;
  toWire: (machine: Machine) => WireObject;
}

const MAX_LIMIT = 25;
const LIMIT_FOR_NONSENSE = 5;
const OPS = new Set(['eq', 'neq', 'gt', 'lt', 'gte', 'lte', 'in', 'notin', 'like', 'ilike']);

/** What can be searched and ordered by; what the vendor computes cannot. */
const COLUMNS = new Set([
  'id',
  'label',
  'machine_id',
  'host_id',
  'actual_status',
  'intended_status',
  'cur_state',
  'next_state',
  'gpu_name',
  'num_gpus',
  'verification',
  'image_uuid',
  'start_date',
  'end_date',
  'is_bid',
  'geolocation',
  'template_hash_id',
] as const);
type Column = typeof COLUMNS extends Set<infer Name> ? Name : never;

type Rule = { col: string; dir: 'asc' | 'desc' };

/** One page. Throws VastaiError 400 for columns, operators and tokens that it does not know. */
export function listInstances(machines: Iterable<Machine>, query: URLSearchParams, context: ListContext): WireObject {
  const filters = readFilters(parseJson(query, 'select_filters', {}));
  const rules = readOrder(parseJson(query, 'order_by', [{ col: 'id', dir: 'asc' }]));
  const limit = readLimit(query.get('limit'));
  const rows = visibleMachines(machines, context)
    .map((machine) => ({ machine, columns: readColumns(machine, context.slotOf(machine)) }))
    .filter(({ columns }) => filters.every((isMatch) => isMatch(columns)));
  rows.sort((a, b) => compareRows(a.columns, b.columns, rules));

  const token = query.get('after_token');
  const after = token === null || token === '' ? null : readToken(token, rules);
  const start = after === null ? 0 : rows.findIndex(({ columns }) => compareRows(columns, after, rules) > 0);
  const page = start < 0 ? [] : rows.slice(start, start + limit);
  const last = page.at(-1);
  const hasMore = last !== undefined && start + page.length < rows.length;
  const wanted = parseJson(query, 'select_cols', ['*']);
  return {
    success: true,
    instances_found: page.length,
    total_instances: rows.length,
    label_counts: countLabels(rows.map(({ columns }) => columns)),
    next_token: hasMore ? writeToken(last.columns, rules) : null,
    instances: page.map(({ machine }) => pickColumns(context.toWire(machine), wanted)),
  };
}

/** The old list: everything at once. */
export function listAllInstances(machines: Iterable<Machine>, context: ListContext): WireObject {
  return { success: true, instances: visibleMachines(machines, context).map(context.toWire) };
}

/** The values one can filter by, as `GET /instances/filters/` gives them. */
export function listFilterValues(machines: Iterable<Machine>, context: ListContext): WireObject {
  const seen = new Map<string, WireObject>();
  for (const row of visibleMachines(machines, context).map(context.toWire)) {
    const { actual_status, gpu_name, verification } = row;
    seen.set(JSON.stringify([actual_status, gpu_name, verification]), { actual_status, gpu_name, verification });
  }
  return { filters: [...seen.values()] };
}

function visibleMachines(machines: Iterable<Machine>, { nowMs, lagMs }: ListContext): Machine[] {
  const visible: Machine[] = [];
  for (const machine of machines) {
    const isNew = machine.origin === 'bought' && machine.createdAtMs + lagMs > nowMs;
    const isGone = machine.destroyedAtMs !== null && machine.destroyedAtMs + lagMs <= nowMs;
    if (!isGone && !(lagMs > 0 && isNew)) visible.push(machine);
  }
  return visible;
}

/** The columns of the contract itself: rendering whole instances to find 25 of 500 would be the slowest thing here. */
function readColumns(machine: Machine, slot: Slot): Record<Column, unknown> {
  return {
    id: machine.id,
    label: machine.label,
    machine_id: slot.machineId,
    host_id: slot.hostId,
    actual_status: machine.actual,
    intended_status: machine.intended,
    cur_state: machine.cur,
    next_state: machine.next,
    gpu_name: slot.gpu.name,
    num_gpus: slot.numGpus,
    verification: slot.verification,
    image_uuid: machine.image,
    start_date: machine.createdAtMs / 1000,
    end_date: machine.endAtMs / 1000,
    is_bid: machine.isBid,
    geolocation: slot.geolocation,
    template_hash_id: machine.templateHashId,
  };
}

function readFilters(value: unknown): ((row: WireObject) => boolean)[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('select_filters must be an object');
  const filters: ((row: WireObject) => boolean)[] = [];
  for (const [column, condition] of Object.entries(value)) {
    checkColumn(column);
    const entries =
      typeof condition === 'object' && condition !== null ? Object.entries(condition) : [['eq', condition]];
    for (const [op, wanted] of entries as [string, unknown][]) {
      if (!OPS.has(op)) throw invalid(`Error in query parameters: ${op} is not a valid operator`);
      filters.push((row) => isMatch(row[column], op, wanted));
    }
  }
  return filters;
}

function isMatch(actual: unknown, op: string, wanted: unknown): boolean {
  if (op === 'in') return Array.isArray(wanted) && wanted.some((one) => isSame(actual, one));
  if (op === 'notin') return Array.isArray(wanted) && !wanted.some((one) => isSame(actual, one));
  if (op === 'eq') return isSame(actual, wanted);
  if (op === 'neq') return !isSame(actual, wanted);
  if (op === 'like' || op === 'ilike') return isLike(toText(actual), toText(wanted), op === 'ilike');
  const difference = compareValues(actual, typeof actual === 'number' ? Number(wanted) : wanted);
  if (op === 'gt') return difference > 0;
  if (op === 'lt') return difference < 0;
  return op === 'gte' ? difference >= 0 : difference <= 0;
}

function isSame(actual: unknown, wanted: unknown): boolean {
  if (actual === null || wanted === null) return actual === wanted;
  return toText(actual) === toText(wanted);
}

function isLike(text: string, pattern: string, ignoresCase: boolean): boolean {
  const source = pattern
    .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replaceAll('%', '.*')
    .replaceAll('_', '.');
  return new RegExp(`^${source}$`, ignoresCase ? 'si' : 's').test(text);
}

function readOrder(value: unknown): Rule[] {
  if (!Array.isArray(value)) throw invalid('order_by must be a list');
  const rules = value.map((rule: { col?: unknown; dir?: unknown } | null): Rule => {
    if (typeof rule?.col !== 'string') throw invalid('order_by needs col');
    checkColumn(rule.col);
    return { col: rule.col, dir: rule.dir === 'desc' ? 'desc' : 'asc' };
  });
  // The id makes every order total, so that pages never overlap.
  if (!rules.some(({ col }) => col === 'id')) rules.push({ col: 'id', dir: 'asc' });
  return rules;
}

function checkColumn(column: string): void {
  if (!COLUMNS.has(column as Column)) {
    throw refusalWithoutSuccess(`Error in query parameters: ${column} is not a valid search key`);
  }
}

function readLimit(text: string | null): number {
  if (text === null) return MAX_LIMIT;
  const limit = Math.trunc(Number(text));
  if (Number.isNaN(limit)) throw invalid(`limit ${JSON.stringify(text)} is not a number`);
  return limit <= 0 ? LIMIT_FOR_NONSENSE : Math.min(limit, MAX_LIMIT);
}

function writeToken(row: WireObject, rules: readonly Rule[]): string {
  const values = Object.fromEntries(rules.map(({ col }) => [col, row[col] ?? null]));
  return Buffer.from(JSON.stringify({ values })).toString('base64');
}

function readToken(token: string, rules: readonly Rule[]): WireObject {
  try {
    const { values } = JSON.parse(Buffer.from(token, 'base64').toString('utf8')) as { values: WireObject };
    if (rules.every(({ col }) => col in values)) return values;
  } catch {
    // Falls through: not base64, not JSON, or not ours.
  }
  throw refusal(400, 'invalid_token', 'after_token is not valid');
}

function compareRows(a: WireObject, b: WireObject, rules: readonly Rule[]): number {
  for (const { col, dir } of rules) {
    const difference = compareValues(a[col], b[col]);
    if (difference !== 0) return dir === 'desc' ? -difference : difference;
  }
  return 0;
}

function compareValues(a: unknown, b: unknown): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [left, right] = [toText(a), toText(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

export function countLabels(rows: readonly WireObject[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const row of rows) counts[toText(row['label'])] = (counts[toText(row['label'])] ?? 0) + 1;
  return counts;
}

function pickColumns(row: WireObject, columns: unknown): WireObject {
  if (!Array.isArray(columns) || columns.includes('*')) return row;
  return Object.fromEntries(columns.filter((column) => column in row).map((column) => [column, row[column]]));
}

function parseJson(query: URLSearchParams, name: string, absent: unknown): unknown {
  const text = query.get(name);
  if (text === null || text === '') return absent;
  try {
    return JSON.parse(text);
  } catch {
    throw invalid(`${name} is not valid JSON`);
  }
}

function invalid(message: string): Error {
  return refusalWithoutSuccess(message);
}

/** The list's own errors come without `success`. */
function refusalWithoutSuccess(msg: string): Error {
  const error = refusal(400, 'invalid_request', msg);
  error.reply.body = { error: 'invalid_request', msg };
  return error;
}
