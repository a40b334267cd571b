/**
 * Urns in a state that still name a resource by an alias are written as the resource is called now, and aliases are dropped: what is kept
 * needs no look-up of aliases. The algorithm is that of the engine's DeploymentV3.NormalizeURNReferences (Apache-2.0; see NOTICE).
 */
import type { Deployment, ResourceState } from './deployment.ts';
import { parseUrn, ROOT_STACK_TYPE, underParent } from './urn.ts';

/** Throws where two resources claim one alias: then it cannot be told which is meant. */
export function normalizeUrns(deployment: Deployment): Deployment {
  const renamed = findRenamed(deployment.resources ?? []);
  const fix = (urn: string): string => renamed.get(urn) ?? urn;
  const resources = (deployment.resources ?? []).map((resource) => fixResource(resource, fix));
  const snippets = deployment.snippets?.map((snippet) =>
    snippet.references ? { ...snippet, references: mapValues(snippet.references, (urn) => fix(urn)) } : snippet,
  );
  return {
    ...deployment,
    ...(deployment.resources ? { resources } : {}),
    ...(snippets ? { snippets } : {}),
  };
}

export class AmbiguousAliasError extends Error {
  constructor(alias: string, one: string, other: string) {
    super(`two resources (${one} and ${other}) have the same alias ${alias}`);
    this.name = 'AmbiguousAliasError';
  }
}

/** In the order of the state: a parent comes before its children, so its new name is known when they are reached. */
function findRenamed(resources: readonly ResourceState[]): Map<string, string> {
  const renamed = new Map<string, string>();
  for (const { urn, aliases, parent } of resources) {
    for (const alias of aliases ?? []) {
      const other = renamed.get(alias);
      if (other !== undefined && other !== urn) throw new AmbiguousAliasError(alias, other, urn);
      renamed.set(alias, urn);
    }
    const newParent = renamed.get(parent ?? '');
    if (newParent === undefined || newParent === '') continue;
    const { qualifiedType } = parseUrn(newParent);
    if (qualifiedType !== ROOT_STACK_TYPE) renamed.set(urn, underParent(urn, qualifiedType));
  }
  return renamed;
}

function fixResource(resource: ResourceState, fix: (urn: string) => string): ResourceState {
  const { aliases: _aliases, ...rest } = resource;
  const fixed: ResourceState = { ...rest, urn: fix(resource.urn) };
  if (resource.parent) fixed.parent = fix(resource.parent);
  if (resource.provider) fixed.provider = fixProvider(resource.provider, fix);
  if (resource.dependencies) fixed.dependencies = resource.dependencies.map(fix);
  if (resource.propertyDependencies)
    fixed.propertyDependencies = mapValues(resource.propertyDependencies, (urns) => urns && urns.map(fix));
  if (resource.deletedWith) fixed.deletedWith = fix(resource.deletedWith);
  if (resource.viewOf) fixed.viewOf = fix(resource.viewOf);
  return fixed;
}

function fixProvider(reference: string, fix: (urn: string) => string): string {
  const at = reference.lastIndexOf('::');
  return at < 0 ? reference : `${fix(reference.slice(0, at))}${reference.slice(at)}`;
}

function mapValues<T, U>(record: Record<string, T>, change: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}
