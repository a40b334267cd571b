/**
 * A program: what it registers at each of its updates, and what meets it on the way. Pure data, so that the same one runs on two stacks.
 */
import type { Fault } from './sim-provider.ts';

export const PROJECT = 'muster';
export const THING = 'sim:index:Thing';
export const OTHER_THING = 'sim:index:Other';
export const COMPONENT = 'my:index:Group';
export const PROVIDER_TYPE = 'pulumi:providers:sim';
/** Read by the engine itself: what a stack puts out, here the program's own. */
export const STACK_REFERENCE = 'pulumi:pulumi:StackReference';
export const STACK_TYPE = 'pulumi:pulumi:Stack';

/** One resource of a program; others are named by their names, which come earlier in its list. */
export interface Wished {
  name: string;
  /** `read`: is only looked at, as `get` of the SDKs does. */
  kind: 'custom' | 'component' | 'provider' | 'read';
  type: string;
  inputs: Record<string, unknown>;
  /** Inputs that are secret. */
  secrets: string[];
  /** Inputs that are another's id. */
  refs: Record<string, string>;
  dependsOn: string[];
  parent: string | null;
  provider: string | null;
  deletedWith: string | null;
  replaceWith: string[];
  aliases: WishedAlias[];
  /** Its id, where it is imported or read. */
  id: string | null;
  isProtected: boolean;
  isRetained: boolean;
  /** null: the provider decides. */
  deleteBeforeReplace: boolean | null;
  ignoreChanges: string[];
  replaceOnChanges: string[];
  secretOutputs: string[];
  /** A change of it means a new one. */
  trigger: number;
}

/** What it was called, and where it was, before; absent: as now. */
export interface WishedAlias {
  name?: string;
  /** null: under the stack itself. */
  parent?: string | null;
}

export type Command = 'up' | 'refresh' | 'destroy' | 'import';

/** Something happened at the cloud while no update ran. */
export interface Drift {
  /** Which of the things that are there, counted round. */
  index: number;
  kind: 'gone' | 'changed';
}

export interface Update {
  command: Command;
  /** Beyond the command itself. */
  flags: string[];
  /** Which resources of the state are meant, counted round; empty: all. */
  targets: number[];
  targetFlag: '--target' | '--replace' | '--exclude';
  resources: Wished[];
  isContinuing: boolean;
  faults: Fault[];
  drift: Drift[];
  outputs: Record<string, unknown>;
}

export interface Program {
  updates: Update[];
}

/** Kills the engine at this change of the cloud, counted from 1. */
export interface Kill {
  change: number;
  when: 'before' | 'after';
}

export function describeUpdate({ command, flags, targets, targetFlag, resources, faults, drift }: Update): string {
  const parts = [
    [command, ...flags].join(' '),
    ...(targets.length > 0 ? [`${targetFlag} ${targets.join(',')}`] : []),
    `${resources.length} resources`,
    ...faults.map(({ op, name, kind }) => `${op} of ${name}: ${kind}`),
    ...drift.map(({ index, kind }) => `${kind}: ${index}`),
  ];
  return parts.join(', ');
}
