/**
 * The committed tables of what a resource type takes and tells, as the SDKs' own argument types say. derive.ts makes them; this
 * module only reads them.
 */
import { readFileSync } from 'node:fs';
import type { CloudPackage } from './simulated-types.ts';

/**
 * How a value has to look, as text: `string`, `number`, `boolean`, `any`, `json` (text or a JSON value), `asset`, `'literal'`, `[of]` a list,
 * `{of}` a map, `#name` a shape of the table, and several of these with `|` between them.
 */
export type Kind = string;

/** By property; a name that ends in `!` is required. */
export type Shape = Record<string, Kind>;

export interface ResourceTable {
  in: Shape;
  /** Outputs that are no inputs, and inputs that the cloud fills in; `!`: never absent. Objects without their insides. */
  out: Shape;
}

export interface PackageTable {
  package: CloudPackage;
  /** Of the SDK that it was made from; also what the simulated plugin says of itself. */
  version: string;
  resources: Record<string, ResourceTable>;
  functions: Record<string, { in: Shape; out: Shape }>;
  shapes: Record<string, Shape>;
}

const loaded = new Map<CloudPackage, PackageTable>();

export function tablePath(name: CloudPackage): URL {
  return new URL(`${name}.json`, import.meta.url);
}

export function loadTable(name: CloudPackage): PackageTable {
  let table = loaded.get(name);
  if (!table) {
    table = JSON.parse(readFileSync(tablePath(name), 'utf8')) as PackageTable;
    loaded.set(name, table);
  }
  return table;
}
