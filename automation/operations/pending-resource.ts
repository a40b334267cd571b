/**
 * Pending creates of stacks that people made: a create whose end nobody saw. Whether the cloud made it is asked of the cloud, by what
 * names it there; only then may the next update run, because the engine itself would make it a second time.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import type { StackRow } from '../../db/stacks.ts';
import type { StackResource } from '../engine/state-backend.ts';
import type { StepContext } from './step.ts';

/** @returns the id at the cloud, null when it has none. Throws ProviderError where that cannot be told. */
export function findPendingResource(
  _context: StepContext,
  stack: StackRow,
  resource: StackResource,
): Promise<string | null> {
  return Promise.reject(
    new ProviderError(
      'invalid',
      `whether ${resource.name} (${resource.type}) of ${stack.title} was made must be decided`,
    ),
  );
}
