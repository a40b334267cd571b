/** The kinds of stack and their programs. A program is loaded only when it runs: some bring large SDKs. */
import { STACK_KINDS, type StackKind } from '../domain/stack-kind.ts';

export interface StackProgram {
  /** The arguments are the kind's own; whoever records them has validated them. */
  run(args: unknown): Record<string, unknown>;
  /** Arguments from the `muster:` configuration of plain `pulumi up`. Throws Error naming what is wrong. */
  argsFromConfig(values: Record<string, string>, stackName: string): unknown;
}

const CATALOGUE: Partial<Record<StackKind, () => Promise<StackProgram>>> = {
  instance: async () => {
    const { instanceProgram, instanceArgsFromConfig } = await import('./instance/program.ts');
    return {
      run: (args) => instanceProgram(args as Parameters<typeof instanceProgram>[0]),
      argsFromConfig: instanceArgsFromConfig,
    };
  },
};

/** Throws Error listing the kinds there are. */
export async function loadStackProgram(kind: string): Promise<StackProgram> {
  const load = Object.hasOwn(CATALOGUE, kind) ? CATALOGUE[kind as StackKind] : null;
  if (!load) throw new Error(`no stack kind "${kind}"; there are: ${STACK_KINDS.join(', ')}`);
  return load();
}

/** The program alone, for the operation child. */
export async function loadProgram(kind: string): Promise<StackProgram['run']> {
  return (await loadStackProgram(kind)).run;
}
