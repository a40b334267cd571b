/**
 * What a provider's crud.ts offers to whoever serves its dynamic resources: Pulumi's own methods, as plain values. The stored
 * shim calls these, so they may be fixed at any time for machines bought long ago; their names and shapes are frozen.
 */

import type { ProviderName } from '../domain/provider.ts';

/** What is done on hosts of ours rather than bought from a provider. */
export const HOST_CRUD_NAMES = ['ssh_host', 'k3s_node', 'standby_agent'] as const;
export type HostCrudName = (typeof HOST_CRUD_NAMES)[number];

/** By which a stored shim asks for its methods: frozen. */
export type CrudName = ProviderName | HostCrudName;

/** Properties as the engine keeps them: JSON values, no undefined. May carry `__provider`, the shim's text. */
export type Properties = Record<string, unknown>;

export interface CheckFailure {
  property: string;
  reason: string;
}

export interface DiffResult {
  changes: boolean;
  /** Inputs that can only change by destroying the machine and buying another. */
  replaces: string[];
  /** Always true: one label, at most one machine, so the old one goes first. */
  deleteBeforeReplace: boolean;
  /** All inputs that differ, `replaces` included. */
  changed: string[];
}

export interface DynamicCrud {
  check(olds: Properties, news: Properties): Promise<{ inputs: Properties; failures: CheckFailure[] }>;
  diff(id: string, olds: Properties, news: Properties): Promise<DiffResult>;
  create(inputs: Properties): Promise<{ id: string; outs: Properties }>;
  /** `{}`: the vendor says that it is gone. */
  read(id: string, props: Properties): Promise<{ id?: string; props?: Properties }>;
  update(id: string, olds: Properties, news: Properties): Promise<{ outs: Properties }>;
  delete(id: string, props: Properties): Promise<void>;
}

/**
 * The machine exists, but not all is as wanted. The engine keeps it with init errors and calls update at the next up; a plain
 * throw instead would lose the machine.
 */
export class PartialFailure extends Error {
  readonly id: string;
  readonly properties: Properties;
  readonly reasons: string[];

  constructor(id: string, properties: Properties, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`machine ${id} is ours but not finished: ${reason}`, { cause });
    this.name = 'PartialFailure';
    this.id = id;
    this.properties = properties;
    this.reasons = [reason];
  }
}

/**
 * Adds the shim's text to a partial failure's properties. Whoever serves the resource adds it to good answers only, and a
 * resource without it could never be read, updated or deleted again.
 */
export async function keepingShim<T>(source: Properties, work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    if (error instanceof PartialFailure && source.__provider !== undefined)
      error.properties.__provider = source.__provider;
    throw error;
  });
}

/** What the engine sends for a value that is not known during a preview. */
export const UNKNOWN_VALUE = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';
