/** The kinds of stack and their programs. A program is loaded only when it runs: some bring large SDKs. */
import type { z } from 'zod';
import { LOOK_UP_KIND } from '../domain/pending-creates/look-up.ts';
import { STACK_KINDS, type StackKind } from '../domain/stack-kind.ts';
import { stackArgsFromConfig, type StackArgs } from './stack-args.ts';

export interface StackProgram {
  /** The arguments are the kind's own; whoever records them has validated them. */
  run(args: unknown): Record<string, unknown>;
  /** Arguments from the `muster:` configuration of plain `pulumi up`. Throws Error naming what is wrong. */
  argsFromConfig(values: Record<string, string>, stackName: string): unknown;
}

const CATALOGUE: Record<StackKind, () => Promise<StackProgram>> = {
  instance: async () => {
    const { instanceProgram, instanceArgsFromConfig } = await import('./instance/program.ts');
    return {
      run: (args) => instanceProgram(args as Parameters<typeof instanceProgram>[0]),
      argsFromConfig: instanceArgsFromConfig,
    };
  },
  eks: async () => {
    const { eksProgram } = await import('./eks/program.ts');
    return infrastructure('eks', (await import('./eks/config.ts')).eksConfigSchema, eksProgram);
  },
  aks: async () => {
    const { aksProgram } = await import('./aks/program.ts');
    return infrastructure('aks', (await import('./aks/config.ts')).aksConfigSchema, aksProgram);
  },
  onprem: async () => {
    const { onpremProgram } = await import('./onprem/program.ts');
    return infrastructure('onprem', (await import('./onprem/config.ts')).onpremConfigSchema, onpremProgram);
  },
  'onprem-node': async () => {
    const { onpremNodeProgram } = await import('./onprem-node/program.ts');
    const { onpremNodeConfigSchema } = await import('./onprem-node/config.ts');
    return infrastructure('onprem-node', onpremNodeConfigSchema, onpremNodeProgram);
  },
  standby: async () => {
    const { standbyProgram } = await import('./standby/program.ts');
    return infrastructure('standby', (await import('./standby/config.ts')).standbyConfigSchema, standbyProgram);
  },
  snapshots: async () => {
    const { snapshotsProgram } = await import('./snapshots/program.ts');
    return infrastructure('snapshots', (await import('./snapshots/config.ts')).snapshotsConfigSchema, snapshotsProgram);
  },
  'dns-record': async () => {
    const { dnsRecordProgram } = await import('./dns-record/program.ts');
    const { dnsRecordConfigSchema } = await import('./dns-record/config.ts');
    return infrastructure('dns-record', dnsRecordConfigSchema, dnsRecordProgram);
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
  // What the stack runner asks of clouds for itself.
  if (kind === LOOK_UP_KIND) {
    const { lookUpProgram } = await import('./look-up/program.ts');
    return (args) => lookUpProgram(args as Parameters<typeof lookUpProgram>[0]);
  }
  return (await loadStackProgram(kind)).run;
}

/** A kind whose arguments are its configuration and what all kinds share. */
function infrastructure<Schema extends z.ZodObject>(
  kind: StackKind,
  schema: Schema,
  program: (args: StackArgs<z.output<Schema>>) => Record<string, unknown>,
): StackProgram {
  return {
    run: (args) => program(args as StackArgs<z.output<Schema>>),
    argsFromConfig: (values, stackName) => stackArgsFromConfig(kind, schema, values, stackName),
  };
}
