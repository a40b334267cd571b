/** What `pulumi up` runs: the program of the kind that the stack's configuration names in `muster:kind`. */
import { getStack } from '@pulumi/pulumi/metadata.js';
import { allConfig } from '@pulumi/pulumi/runtime/config.js';
import { STACK_KINDS } from '../domain/stack-kind.ts';
import { loadStackProgram } from './catalogue.ts';

const NAMESPACE = 'muster:';

export default async function program(): Promise<Record<string, unknown>> {
  const values = Object.fromEntries(
    Object.entries(allConfig())
      .filter(([name]) => name.startsWith(NAMESPACE))
      .map(([name, value]) => [name.slice(NAMESPACE.length), value]),
  );
  const { kind } = values;
  if (!kind)
    throw new Error(`set muster:kind (pulumi config set muster:kind KIND); there are: ${STACK_KINDS.join(', ')}`);
  const { run, argsFromConfig } = await loadStackProgram(kind);
  return run(argsFromConfig(values, getStack()));
}
