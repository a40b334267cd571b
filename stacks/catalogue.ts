/** The kinds of stack and their programs. A program is loaded only when it runs: some bring large SDKs. */

export interface StackProgram {
  /** The arguments are the kind's own; whoever records them has validated them. */
  run(args: unknown): Record<string, unknown>;
  /** Arguments from the `muster:` configuration of plain `pulumi up`. Throws Error naming what is wrong. */
  argsFromConfig(values: Record<string, string>): unknown;
}

const CATALOGUE: Record<string, () => Promise<StackProgram>> = {
  instance: async () => {
    const { instanceProgram, instanceArgsFromConfig } = await import('./instance/program.ts');
    return {
      run: (args) => instanceProgram(args as Parameters<typeof instanceProgram>[0]),
      argsFromConfig: instanceArgsFromConfig,
    };
  },
};

export const STACK_KINDS = Object.keys(CATALOGUE);

/** Throws Error listing the kinds there are. */
export async function loadStackProgram(kind: string): Promise<StackProgram> {
  const load = CATALOGUE[kind];
  if (!load) throw new Error(`no stack kind "${kind}"; there are: ${STACK_KINDS.join(', ')}`);
  return load();
}

/** The program alone, for the operation child. */
export async function loadProgram(kind: string): Promise<StackProgram['run']> {
  return (await loadStackProgram(kind)).run;
}
