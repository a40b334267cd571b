/** What a stack's state holds, as Muster looks at it: its resources and the creates whose end nobody saw. */
import type { Deployment, ResourceState } from './deployment.ts';
import { parseUrn } from './urn.ts';

export interface StackResource {
  urn: string;
  /** Last part of the urn. */
  name: string;
  type: string;
  id: string | null;
  /** Urn of the component it belongs to. */
  parent: string | null;
  /** Reference (`urn::id`) of the provider that made it; null: it has none of its own. */
  provider: string | null;
  /** The engine refuses to delete it. */
  isProtected: boolean;
  inputs: Record<string, unknown>;
  outputs: Record<string, unknown>;
  initErrors: string[];
}

export interface StackState {
  resources: StackResource[];
  /** Creates that were begun and never ended: what they made is not in `resources`. */
  pendingCreates: StackResource[];
}

export function toStackState(deployment: Deployment): StackState {
  return {
    resources: (deployment.resources ?? []).filter(isSomewhere).map(toResource),
    pendingCreates: (deployment.pending_operations ?? [])
      .filter(({ type, resource }) => type === 'creating' && isSomewhere(resource))
      .map((operation) => toResource(operation.resource)),
  };
}

/** Components and providers are the state's own; what was deleted to be made anew is nowhere. */
function isSomewhere({ custom, type, pendingReplacement }: ResourceState): boolean {
  return custom === true && !type.startsWith('pulumi:providers:') && !pendingReplacement;
}

function toResource(resource: ResourceState): StackResource {
  return {
    urn: resource.urn,
    name: parseUrn(resource.urn).name,
    type: resource.type,
    id: resource.id ?? null,
    parent: resource.parent ?? null,
    provider: resource.provider ?? null,
    isProtected: resource.protect ?? false,
    inputs: resource.inputs ?? {},
    outputs: resource.outputs ?? {},
    initErrors: resource.initErrors ?? [],
  };
}
