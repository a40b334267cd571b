/**
 * The journal of an update: what the engine began, ended and changed, one entry each, sent as it happens. Replayed over the state that the
 * update began from it gives the state as it is now, whatever died in between. Pure; what an entry may look like on its way in is the
 * state service's. The algorithm is that of the engine's own JournalReplayer (backend/journal.go, Apache-2.0; see NOTICE).
 *
 * `…Old` of an entry is an index into the resources of the base, `…New` the operation of a resource that this update made.
 */
import {
  SCHEMA_VERSION_CURRENT,
  SCHEMA_VERSION_LATEST,
  type Deployment,
  type PendingOperation,
  type ResourceState,
  type SecretsProvider,
  type Snippet,
  type VersionedDeployment,
} from './deployment.ts';
import { findFeatures } from './features.ts';
import { normalizeUrns } from './normalize.ts';

/** By the numbers of the wire. */
export const JOURNAL_KINDS = [
  'begin',
  'success',
  'failure',
  'refresh_success',
  'outputs',
  'write',
  'secrets_manager',
  'rebuilt_base_state',
  'extension_parameterize',
  'snippets',
] as const;
export type JournalKind = (typeof JOURNAL_KINDS)[number];

export interface JournalEntry {
  version: 1;
  kind: number;
  /** Rises with every entry of an update; the same one again is a repeated sending. */
  sequenceID: number;
  operationID: number;
  removeOld?: number | null;
  removeNew?: number | null;
  pendingReplacementOld?: number | null;
  pendingReplacementNew?: number | null;
  deleteOld?: number | null;
  deleteNew?: number | null;
  state?: ResourceState | null;
  operation?: PendingOperation | null;
  isRefresh?: boolean;
  secretsProvider?: SecretsProvider | null;
  newSnapshot?: Deployment | null;
  snippets?: Snippet[] | null;
  extensionRef?: string | null;
  extension?: unknown;
  requiresByteString?: boolean;
}

/** The journal contradicts itself or its base: nothing may be made of it. */
export class JournalError extends Error {
  constructor(sequenceId: number, problem: string) {
    super(`journal entry ${sequenceId}: ${problem}`);
    this.name = 'JournalError';
  }
}

/** What the replayed state says of when and by what it was written. */
export interface ReplayStamp {
  time: string;
  /** Of the engine. */
  version: string;
  /** Hex SHA-256 of `version`; empty where that is. */
  magic: string;
}

/**
 * @param entries in any order, repeated ones too
 * Throws JournalError, and AmbiguousAliasError as normalizeUrns does.
 */
export function replayJournal(
  base: VersionedDeployment,
  entries: readonly JournalEntry[],
  stamp: ReplayStamp,
): VersionedDeployment {
  const bySequence = new Map(entries.map((entry) => [entry.sequenceID, entry]));
  const replay = createReplay(base.deployment, stamp);
  for (const entry of [...bySequence.values()].sort((a, b) => a.sequenceID - b.sequenceID)) replay.add(entry);
  return replay.finish();
}

interface Progress {
  base: Deployment;
  /** Made by this update, in the order in which they ended. */
  made: ResourceState[];
  /** Index in `made`, by operation. */
  madeBy: Map<number, number>;
  removed: Set<number>;
  deletedOld: Set<number>;
  replacedOld: Map<number, ResourceState>;
  markedDeleteOld: Set<number>;
  markedReplacementOld: Set<number>;
  open: Map<number, JournalEntry>;
  extensions: Record<string, unknown>;
}

function startOn(base: Deployment): Progress {
  return {
    base,
    made: [],
    madeBy: new Map(),
    removed: new Set(),
    deletedOld: new Set(),
    replacedOld: new Map(),
    markedDeleteOld: new Set(),
    markedReplacementOld: new Set(),
    open: new Map(),
    extensions: {},
  };
}

function createReplay(base: Deployment, stamp: ReplayStamp) {
  let progress = startOn(base);
  let hasRefresh = false;
  let hasByteStrings = false;

  function add(entry: JournalEntry): void {
    if (entry.requiresByteString === true) hasByteStrings = true;
    switch (kindOf(entry)) {
      case 'begin':
        progress.open.set(entry.operationID, entry);
        return;
      case 'success':
        applySuccess(progress, entry);
        if (entry.isRefresh === true) hasRefresh = true;
        return;
      case 'failure':
        progress.open.delete(entry.operationID);
        return;
      case 'refresh_success':
        applyRefresh(progress, entry);
        hasRefresh = true;
        return;
      case 'outputs':
        applyOutputs(progress, entry);
        return;
      case 'write':
        progress.base = needed(entry, 'newSnapshot');
        return;
      case 'secrets_manager':
        progress.base = withSecretsProvider(progress.base, needed(entry, 'secretsProvider'));
        return;
      case 'rebuilt_base_state':
        progress = startOn(finish().deployment);
        return;
      case 'extension_parameterize':
        progress.extensions[needed(entry, 'extensionRef')] = needed(entry, 'extension');
        return;
      case 'snippets':
        progress.base = { ...progress.base, snippets: entry.snippets ?? [] };
    }
  }

  function finish(): VersionedDeployment {
    const { base: from } = progress;
    const merged = mergeResources(progress);
    const resources = hasRefresh ? rebuildDependencies(merged) : merged;
    const operations = listOperations(progress);
    const extensions = { ...progress.extensions, ...from.extensions };
    const deployment: Deployment = {
      manifest: { ...stamp },
      ...(from.secrets_providers ? { secrets_providers: from.secrets_providers } : {}),
      ...(resources.length > 0 ? { resources } : {}),
      ...(operations.length > 0 ? { pending_operations: operations } : {}),
      metadata: from.metadata ?? {},
      ...(from.snippets && from.snippets.length > 0 ? { snippets: from.snippets } : {}),
      ...(Object.keys(extensions).length > 0 ? { extensions } : {}),
    };
    // Of what is merged: a reference that a refresh has dropped still counts, as with the engine.
    const features = findFeatures({ ...deployment, resources: merged }, hasByteStrings);
    return {
      version: features.length > 0 ? SCHEMA_VERSION_LATEST : SCHEMA_VERSION_CURRENT,
      ...(features.length > 0 ? { features } : {}),
      deployment: normalizeUrns(deployment),
    };
  }
  return { add, finish };
}

function kindOf(entry: JournalEntry): JournalKind {
  const kind = JOURNAL_KINDS[entry.kind];
  if (kind === undefined) throw new JournalError(entry.sequenceID, `unknown kind ${entry.kind}`);
  return kind;
}

function applySuccess(progress: Progress, entry: JournalEntry): void {
  progress.open.delete(entry.operationID);
  if (isGiven(entry.state)) {
    progress.madeBy.set(entry.operationID, progress.made.length);
    progress.made.push(entry.state);
  }
  if (isGiven(entry.removeOld)) progress.deletedOld.add(oldIndex(progress, entry, entry.removeOld));
  if (isGiven(entry.removeNew)) progress.removed.add(newIndex(progress, entry, entry.removeNew));
  if (isGiven(entry.deleteOld)) progress.markedDeleteOld.add(oldIndex(progress, entry, entry.deleteOld));
  if (isGiven(entry.deleteNew)) changeMade(progress, entry, entry.deleteNew, { delete: true });
  if (isGiven(entry.pendingReplacementOld))
    progress.markedReplacementOld.add(oldIndex(progress, entry, entry.pendingReplacementOld));
  if (isGiven(entry.pendingReplacementNew))
    changeMade(progress, entry, entry.pendingReplacementNew, { pendingReplacement: true });
}

/** Without a state: the refresh found that it is gone. */
function applyRefresh(progress: Progress, entry: JournalEntry): void {
  progress.open.delete(entry.operationID);
  if (isGiven(entry.removeOld)) {
    const index = oldIndex(progress, entry, entry.removeOld);
    if (isGiven(entry.state)) progress.replacedOld.set(index, entry.state);
    else progress.deletedOld.add(index);
  }
  if (isGiven(entry.removeNew)) {
    const index = newIndex(progress, entry, entry.removeNew);
    if (isGiven(entry.state)) progress.made[index] = entry.state;
    else progress.removed.add(index);
  }
}

function applyOutputs(progress: Progress, entry: JournalEntry): void {
  if (!isGiven(entry.state)) return;
  if (isGiven(entry.removeOld)) progress.replacedOld.set(oldIndex(progress, entry, entry.removeOld), entry.state);
  if (isGiven(entry.removeNew)) progress.made[newIndex(progress, entry, entry.removeNew)] = entry.state;
}

function changeMade(
  progress: Progress,
  entry: JournalEntry,
  operationId: number,
  change: Partial<ResourceState>,
): void {
  const index = newIndex(progress, entry, operationId);
  progress.made[index] = { ...(progress.made[index] as ResourceState), ...change };
}

/** What the update made comes first; of the base what it has not reached or taken away. */
function mergeResources(progress: Progress): ResourceState[] {
  const { base, made, removed, deletedOld, replacedOld, markedDeleteOld, markedReplacementOld } = progress;
  const kept = made.filter((_resource, index) => !removed.has(index));
  const old = (base.resources ?? []).flatMap((resource, index): ResourceState[] => {
    if (deletedOld.has(index)) return [];
    const replaced = replacedOld.get(index);
    if (replaced !== undefined) return [replaced];
    return [
      {
        ...resource,
        ...(markedReplacementOld.has(index) ? { pendingReplacement: true } : {}),
        ...(markedDeleteOld.has(index) ? { delete: true } : {}),
      },
    ];
  });
  return [...kept, ...old];
}

/** What was begun and has not ended, and creates that an earlier update left: those only somebody who looks can clear. */
function listOperations({ open, base }: Progress): PendingOperation[] {
  const begun = [...open.values()].flatMap(({ operation }) => (isGiven(operation) ? [operation] : []));
  return [...begun, ...(base.pending_operations ?? []).filter(({ type }) => type === 'creating')];
}

/**
 * After a refresh resources may be gone on which others depend: what they name is dropped, and a child whose parent is gone goes to the
 * parent's parent. Resources are in the order of their dependencies.
 */
function rebuildDependencies(resources: readonly ResourceState[]): ResourceState[] {
  const known = new Set<string>();
  const rebuilt = resources.map((resource) => {
    const next: ResourceState = { ...resource };
    if (resource.dependencies?.length) next.dependencies = resource.dependencies.filter((urn) => known.has(urn));
    if (Object.keys(resource.propertyDependencies ?? {}).length > 0)
      next.propertyDependencies = keepKnown(resource.propertyDependencies ?? {}, known);
    if (resource.replaceWith?.length) next.replaceWith = resource.replaceWith.filter((urn) => known.has(urn));
    if (resource.deletedWith !== undefined && !known.has(resource.deletedWith)) delete next.deletedWith;
    known.add(resource.urn);
    return next;
  });
  return rehomeChildren(rebuilt, known);
}

/** A property that depends on nothing any more is left out, as the engine leaves it. */
function keepKnown(properties: Record<string, string[] | null>, known: ReadonlySet<string>): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(properties)
      .map(([key, urns]): [string, string[]] => [key, (urns ?? []).filter((urn) => known.has(urn))])
      .filter(([, urns]) => urns.length > 0),
  );
}

function rehomeChildren(resources: ResourceState[], known: ReadonlySet<string>): ResourceState[] {
  const parentOf = new Map<string, string | undefined>();
  return resources.map((resource) => {
    parentOf.set(resource.urn, resource.parent);
    if (resource.parent === undefined || known.has(resource.parent)) return resource;
    const { parent: gone, ...rest } = resource;
    const next = parentOf.get(gone ?? '');
    return next === undefined ? rest : { ...rest, parent: next };
  });
}

/** The same one as before is not written again: its state may hold what was encrypted with it. */
function withSecretsProvider(base: Deployment, provider: SecretsProvider): Deployment {
  const { secrets_providers: present } = base;
  const isSame =
    present?.type === provider.type && JSON.stringify(present.state ?? null) === JSON.stringify(provider.state ?? null);
  return isSame ? base : { ...base, secrets_providers: provider };
}

function oldIndex({ base }: Progress, entry: JournalEntry, index: number): number {
  const count = base.resources?.length ?? 0;
  if (index < 0 || index >= count)
    throw new JournalError(entry.sequenceID, `there is no resource ${index} in a base of ${count}`);
  return index;
}

function newIndex({ madeBy }: Progress, entry: JournalEntry, operationId: number): number {
  const index = madeBy.get(operationId);
  if (index === undefined)
    throw new JournalError(entry.sequenceID, `operation ${operationId} has made no resource in this update`);
  return index;
}

function needed<Field extends keyof JournalEntry>(entry: JournalEntry, field: Field): NonNullable<JournalEntry[Field]> {
  const value = entry[field];
  if (value === undefined || value === null) throw new JournalError(entry.sequenceID, `${field} is missing`);
  return value;
}

function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}
