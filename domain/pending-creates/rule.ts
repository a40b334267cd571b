/**
 * A pending create: the engine began to make a resource, was killed, and nobody saw how it ended. The engine itself would make it again,
 * so before the next update it is looked up at its cloud by a rule of its type: which ids it can have there, and what has to be asked to
 * know them. Every id is then read; only what a read shows is taken over. Not here: the asking and reading (automation/engine/).
 */
export type Inputs = Readonly<Record<string, unknown>>;

/** A function of the cloud's provider, by Pulumi's token. It only reads. */
export interface CloudQuestion {
  token: string;
  args: Record<string, unknown>;
}

export type Answer = Readonly<Record<string, unknown>>;

export interface PendingRule {
  /** Asked once for all resources that ask the same of the same provider. Absent: the inputs tell all. */
  ask?(inputs: Inputs): CloudQuestion;
  /**
   * The ids as the engine keeps them, under which it may be at the cloud. Empty: there is none. Inputs are as the provider checked them, so
   * a name that the provider chose is among them. undefined: they do not say it, somebody has to decide.
   */
  idsOf(inputs: Inputs, answer: Answer): string[] | undefined;
  /** What exists is of no use, because its secret was told once and lost: it is to be deleted and made anew. */
  isUseless?: boolean;
}

/** By type token. A type that is missing has to be decided by a person. */
export type PendingRules = Readonly<Record<string, PendingRule>>;

/** Known by a name that the inputs hold; other parts of the id are of the inputs too. */
export function byName(
  idOf: (inputs: Inputs) => (string | undefined)[] | string | undefined,
  separator = '',
): PendingRule {
  return {
    idsOf(inputs) {
      const parts = [idOf(inputs)].flat();
      return parts.every((part) => part !== undefined && part !== '') ? [parts.join(separator)] : undefined;
    },
  };
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

export function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

export function listOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.map(objectOf) : [];
}
