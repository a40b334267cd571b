/** What the stack runner and its look-up program say to each other: questions to clouds, with the configuration of a stack's own providers. */
import type { CloudQuestion } from './rule.ts';

/** The program's name; nobody's stack is of this kind. */
export const LOOK_UP_KIND = 'look_up';

export interface LookUpArgs {
  providers: {
    /** Pulumi's name of the package. */
    package: string;
    /** As the state has them. */
    inputs: Record<string, unknown>;
    questions: CloudQuestion[];
  }[];
}

export type LookUpAnswer = { value: Record<string, unknown> } | { trouble: string };

export interface LookUpOutputs {
  /** By provider and question, in their order. */
  answers: LookUpAnswer[][];
}
