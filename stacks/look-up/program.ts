/**
 * Asks clouds questions under the engine, with the configuration that a stack's own providers have. It makes nothing and is only ever
 * previewed. Not a kind of stack: the stack runner runs it to learn what became of pending creates.
 */
import { output, type Output } from '@pulumi/pulumi/output.js';
import { ProviderResource } from '@pulumi/pulumi/resource.js';
import { invoke } from '@pulumi/pulumi/runtime/invoke.js';
import type { LookUpAnswer, LookUpArgs, LookUpOutputs } from '../../domain/pending-creates/look-up.ts';

/** One question without an answer does not take the others' away. */
export function lookUpProgram({ providers }: LookUpArgs): Record<keyof LookUpOutputs, Output<unknown>> {
  const answers = providers.map(({ package: name, inputs, questions }, index) => {
    const provider = new AnyProvider(name, `look-up-${index}`, inputs);
    return Promise.all(questions.map(({ token, args }) => ask(token, args, provider)));
  });
  return { answers: output(Promise.all(answers)) };
}

class AnyProvider extends ProviderResource {}

async function ask(token: string, args: Record<string, unknown>, provider: ProviderResource): Promise<LookUpAnswer> {
  try {
    return { value: (await invoke(token, args, { provider })) as Record<string, unknown> };
  } catch (error) {
    return { trouble: error instanceof Error ? error.message : String(error) };
  }
}
