/** The error of an update that did not begin, because a person has to say what became of pending creates. */
import type { UndecidedCreate } from '../../domain/pending-creates/decision.ts';
import { ProviderError } from '../../domain/provider-error.ts';

export class UndecidedPending extends ProviderError {
  readonly resources: readonly UndecidedCreate[];

  constructor(resources: readonly UndecidedCreate[]) {
    super('invalid', resources.map(describe).join('; '));
    this.name = 'UndecidedPending';
    this.resources = resources;
  }
}

function describe({ name, type, why }: UndecidedCreate): string {
  return `whether ${name} (${type}) was made before the interruption has to be decided: ${why}`;
}
