/** What the look-up program is asked and what it answers: the runner names it by its kind, no person can. */

export const LOOK_UP_KIND = 'look_up';

export interface LookUpArgs {
  providers: {
    /** Pulumi's name of the package. */
    package: string;
    /** As the state has them. */
    inputs: Record<string, unknown>;
    questions: { token: string; args: Record<string, unknown> }[];
  }[];
}

export type LookUpAnswer = { value: Record<string, unknown> } | { trouble: string };

export interface LookUpOutputs {
  /** By provider and question, in their order. */
  answers: LookUpAnswer[][];
}
