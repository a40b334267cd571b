/**
 * A deployment: what the engine knows of a stack, as its service backends exchange it (schema versions 3 and 4). Only what Muster looks at
 * is typed; every other member is carried as it came. Field names are the engine's own, this is its wire.
 */

export interface ResourceState {
  urn: string;
  type: string;
  custom?: boolean;
  id?: string;
  /** Waits for its deletion. */
  delete?: boolean;
  /** Was deleted to be made anew. */
  pendingReplacement?: boolean;
  parent?: string;
  protect?: boolean;
  retainOnDelete?: boolean;
  external?: boolean;
  /** `urn::id` of what made it. */
  provider?: string;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
  initErrors?: string[];
  dependencies?: string[];
  propertyDependencies?: Record<string, string[] | null>;
  replaceWith?: string[];
  deletedWith?: string;
  viewOf?: string;
  aliases?: string[];
  taint?: boolean;
  refreshBeforeUpdate?: boolean;
  resourceHooks?: Record<string, string[]>;
  extensionRef?: string;
  snippetID?: string;
  [other: string]: unknown;
}

export interface PendingOperation {
  resource: ResourceState;
  type: 'creating' | 'updating' | 'deleting' | 'reading' | 'importing';
}

export interface SecretsProvider {
  type: string;
  state?: unknown;
}

export interface Snippet {
  references?: Record<string, string>;
  [other: string]: unknown;
}

export interface Deployment {
  manifest?: { time?: string; magic?: string; version?: string; [other: string]: unknown };
  secrets_providers?: SecretsProvider;
  resources?: ResourceState[];
  pending_operations?: PendingOperation[];
  metadata?: Record<string, unknown>;
  snippets?: Snippet[];
  extensions?: Record<string, unknown>;
  [other: string]: unknown;
}

/** As it is exported, imported and kept. */
export interface VersionedDeployment {
  version: number;
  /** Of schema version 4: an engine that does not know one of them refuses the state. */
  features?: string[];
  deployment: Deployment;
}

export const SCHEMA_VERSION_CURRENT = 3;
export const SCHEMA_VERSION_LATEST = 4;

/** Of a stack that never held anything. */
export function emptyDeployment(): VersionedDeployment {
  return {
    version: SCHEMA_VERSION_CURRENT,
    deployment: { manifest: { time: '0001-01-01T00:00:00Z', magic: '', version: '' } },
  };
}

/** Resources that anybody would miss: the stack itself is its own bookkeeping. */
export function countResources({ deployment }: VersionedDeployment): number {
  return deployment.resources?.length ?? 0;
}
