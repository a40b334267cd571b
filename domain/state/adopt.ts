/** Adoption: a create whose end nobody saw turned out to have made something, and that becomes a resource of the state. Who found it is not its job. */
import type { Deployment, PendingOperation, ResourceState } from './deployment.ts';

/** What a pending create made. */
export interface FoundResource {
  id: string;
  /** As the provider read them, in the state's own form; absent: its inputs stand for them until the next up. */
  outputs?: Record<string, unknown>;
  /** It is to be deleted by the next update and made anew. */
  isUseless?: boolean;
}

/**
 * With the resource that `pending` made. It carries an init error, so that the next up makes it whole and a refresh reads it. Where it replaces
 * another the new one comes before the old one, which waits for its deletion (what the engine deleted already is forgotten); else it comes
 * last, because nothing depends on it yet.
 */
export function withAdopted(resources: ResourceState[], pending: ResourceState, made: FoundResource): ResourceState[] {
  const adopted = adopt(pending, made);
  const { urn, id } = adopted;
  if (resources.some((known) => known.urn === urn && known.id === id && !known.pendingReplacement)) return resources;
  const at = resources.findIndex((known) => known.urn === urn && !known.delete);
  const old = resources[at];
  if (old === undefined || adopted.delete) return [...resources, adopted];
  const kept = old.pendingReplacement ? [] : [{ ...old, delete: true }];
  return [...resources.slice(0, at), adopted, ...kept, ...resources.slice(at + 1)];
}

/**
 * What a person tells the engine's `refresh --import-pending-creates` comes as a state in which pending creates have turned into pending imports
 * with an id. The engine forgets those (observed with 3.259.0), and with them what they made; here they are adopted. The CLI may send the
 * same edit again, from before it was taken.
 * @param kept the state as it is, @param given what shall take its place
 */
export function withAdoptedImports(kept: Deployment, given: Deployment): Deployment {
  // Whoever writes states by hand may write null.
  const pending = given.pending_operations ?? [];
  const adopted = pending.filter((operation) => isImportOfPending(kept, operation));
  if (adopted.length === 0) return given;
  return {
    ...given,
    resources: adopted.reduce(
      (resources, { resource }) => withAdopted(resources, resource, { id: resource.id ?? '' }),
      given.resources ?? [],
    ),
    pending_operations: pending.filter((operation) => !adopted.includes(operation)),
  };
}

function isImportOfPending(kept: Deployment, { type, resource: { urn, id } }: PendingOperation): boolean {
  if (type !== 'importing' || id === undefined || id === '') return false;
  return (
    (kept.pending_operations ?? []).some((known) => known.type === 'creating' && known.resource.urn === urn) ||
    (kept.resources ?? []).some((known) => known.urn === urn && known.id === id)
  );
}

function adopt(resource: ResourceState, { id, outputs, isUseless }: FoundResource): ResourceState {
  const adopted = { ...resource, id, outputs: outputs ?? { ...resource.inputs } };
  return isUseless ? { ...adopted, delete: true } : { ...adopted, initErrors: ['adopted after an interrupted create'] };
}
