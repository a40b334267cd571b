/**
 * The vendor's offer search: flat filters of the form {"field": {"op": value}} with numbers that may come as strings,
 * and the controls order, limit, type and allocated_storage.
 */
import { refusal } from './errors.ts';
import { toWireOffer, type WireObject } from './offer-wire.ts';
import type { Offer } from './offers.ts';
import { toText } from './wire-value.ts';

export interface SearchContext {
  nowMs: number;
  defaultLimit: number;
}

type Op = 'eq' | 'neq' | 'gt' | 'lt' | 'gte' | 'lte' | 'in' | 'notin';
interface Filter {
  field: string;
  op: Op;
  value: unknown;
}

const OPS: readonly string[] = ['eq', 'neq', 'gt', 'lt', 'gte', 'lte', 'in', 'notin'];
const CONTROLS = new Set(['order', 'limit', 'type', 'allocated_storage', 'disable_bundling', 'select_cols', 'owner']);
/** Scope flags that clients send and that choose nothing here. */
const SCOPE_FLAGS = new Set(['chunked', 'georegion', 'resource_type', 'sort_option', 'extra_ids', 'show_incompatible']);
/** Fields that can be searched and are not sent in an offer. */
const COMPUTED_FIELDS = new Set(['verified', 'datacenter', 'ubuntu_version', 'duration']);
const ALIASES: Record<string, string> = { dph: 'dph_total', cuda_vers: 'cuda_max_good' };
const BID_TYPES = new Set(['bid', 'interruptible']);
const TYPES = new Set(['on-demand', 'ondemand', 'reserved', ...BID_TYPES]);
/** The vendor's spec: what a search without filters means. */
const SERVER_DEFAULTS: Record<string, unknown> = { verified: true, rentable: true, rented: false };
const DEFAULT_STORAGE_GB = 8;

/** Throws VastaiError 400 invalid_request for anything it does not know. */
export function searchOffers(
  offers: readonly Offer[],
  query: Record<string, unknown>,
  context: SearchContext,
): WireObject[] {
  const type = query['type'] ?? 'on-demand';
  if (typeof type !== 'string' || !TYPES.has(type)) throw invalid(`type ${JSON.stringify(type)} is not known`);
  const pricing = {
    allocatedStorageGb: toNumber(query['allocated_storage'] ?? DEFAULT_STORAGE_GB, 'allocated_storage'),
    isBid: BID_TYPES.has(type),
    nowMs: context.nowMs,
  };
  const wire = offers.map((offer) => toWireOffer(offer, pricing));
  const filters = readFilters(query, wire[0]);
  const found = wire.filter((offer) => filters.every((filter) => matches(offer, filter)));
  sortOffers(found, query['order']);
  const limit =
    query['limit'] === undefined || query['limit'] === null ? context.defaultLimit : toNumber(query['limit'], 'limit');
  return found.slice(0, Math.max(0, limit));
}

function readFilters(query: Record<string, unknown>, sample: WireObject | undefined): Filter[] {
  const filters: Filter[] = [];
  const merged = { ...SERVER_DEFAULTS, ...query };
  for (const [name, condition] of Object.entries(merged)) {
    if (CONTROLS.has(name) || SCOPE_FLAGS.has(name) || condition === undefined) continue;
    const field = ALIASES[name] ?? name;
    if (sample !== undefined && !(field in sample) && !COMPUTED_FIELDS.has(field)) {
      throw invalid(`Error in query parameters: ${name} is not a valid search key`);
    }
    if (condition === null || typeof condition !== 'object' || Array.isArray(condition)) {
      filters.push({ field, op: Array.isArray(condition) ? 'in' : 'eq', value: condition });
      continue;
    }
    for (const [op, value] of Object.entries(condition)) {
      if (!OPS.includes(op)) throw invalid(`Error in query parameters: ${op} is not a valid operator for ${name}`);
      filters.push({ field, op: op as Op, value });
    }
  }
  return filters;
}

function matches(offer: WireObject, { field, op, value }: Filter): boolean {
  const actual = readField(offer, field);
  switch (op) {
    case 'eq':
      return isEqual(field, actual, value);
    case 'neq':
      return !isEqual(field, actual, value);
    case 'in':
      return Array.isArray(value) && value.some((one) => isEqual(field, actual, one));
    case 'notin':
      return Array.isArray(value) && !value.some((one) => isEqual(field, actual, one));
    default:
      return isOrdered(op, actual, value, field);
  }
}

function readField(offer: WireObject, field: string): unknown {
  if (field === 'verified') return offer['verification'] === 'verified';
  if (field === 'datacenter') return offer['hosting_type'] === 1;
  if (field === 'ubuntu_version') return offer['os_version'];
  // An absent "external" is not external.
  if (field === 'external') return offer['external'] ?? false;
  return offer[field];
}

function isEqual(field: string, actual: unknown, wanted: unknown): boolean {
  if (field === 'geolocation') return isPlace(toText(actual), toText(wanted));
  if (typeof actual === 'number') return wanted !== null && wanted !== '' && Number(wanted) === actual;
  if (typeof actual === 'boolean') return toText(wanted).toLowerCase() === toText(actual);
  if (typeof actual === 'string') return normalizeName(actual) === normalizeName(toText(wanted));
  return actual === wanted;
}

/** Filters give the country in two letters, offers say "State or city, CC". */
function isPlace(geolocation: string, wanted: string): boolean {
  return wanted.length === 2 ? geolocation.endsWith(`, ${wanted.toUpperCase()}`) : geolocation === wanted;
}

/** RTX_4090 in the docs, "RTX 4090" in live clients. */
function normalizeName(name: string): string {
  return name.replaceAll('_', ' ');
}

function isOrdered(op: 'gt' | 'lt' | 'gte' | 'lte', actual: unknown, wanted: unknown, field: string): boolean {
  if (field === 'driver_version') return compare(op, toVersion(toText(actual)), toVersion(toText(wanted)));
  if (typeof actual !== 'number') return false;
  return compare(op, actual, toNumber(wanted, field));
}

function compare(op: 'gt' | 'lt' | 'gte' | 'lte', a: number, b: number): boolean {
  if (op === 'gt') return a > b;
  if (op === 'lt') return a < b;
  return op === 'gte' ? a >= b : a <= b;
}

function toVersion(text: string): number {
  return text.split('.').reduce((sum, part) => sum * 1000 + Number(part), 0);
}

function toNumber(value: unknown, field: string): number {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  if (typeof number !== 'number' || Number.isNaN(number)) {
    throw invalid(`Error in query parameters: ${JSON.stringify(value)} is not a valid value for ${field}`);
  }
  return number;
}

function sortOffers(offers: WireObject[], order: unknown): void {
  const rules = order === undefined || order === null ? [['score', 'desc']] : order;
  if (!Array.isArray(rules) || !rules.every((rule) => Array.isArray(rule) && typeof rule[0] === 'string')) {
    throw invalid('order must be a list of [field, "asc" or "desc"]');
  }
  offers.sort((a, b) => {
    for (const [name, direction] of rules as [string, string][]) {
      const field = ALIASES[name] ?? name;
      const difference = compareValues(a[field], b[field]);
      if (difference !== 0) return direction === 'desc' ? -difference : difference;
    }
    return 0;
  });
}

function compareValues(a: unknown, b: unknown): number {
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : a > b ? 1 : 0;
  return Number(a ?? 0) - Number(b ?? 0);
}

function invalid(message: string): Error {
  return refusal(400, 'invalid_request', message);
}
