/**
 * What every infrastructure program is given: its own configuration and what all kinds share. Arguments travel as JSON, so amounts are
 * numbers (far below 2^53). Under the control plane they are committed rows; under plain `pulumi up` they come from `muster:` configuration.
 */
import { z } from 'zod';
import { parseUsd } from '../domain/money.ts';
import { STACK_NAME_PATTERN, STACK_NAME_RULE, type StackKind } from '../domain/stack-kind.ts';
import { TAG_VALUE_PATTERN, TAG_VALUE_RULE, type StackTags } from '../domain/stack-tags.ts';
import { parseStackConfig } from './config-values.ts';

export interface StackArgs<Config> {
  config: Config;
  /** Begins the name of everything that is made (domain/stack-kind.ts says what fits). */
  name: string;
  tags: StackTags;
  /** Refuse to delete what loses data or service. @default true under `pulumi up`, the stack's own setting under the control plane */
  protect?: boolean;
  /** A program whose resources cost more is refused before anything is made. @default null: no ceiling */
  ceilingMicroUsdPerHour?: number | null;
  /** Autoscaled groups of nodes whose number this one run sets. @default none: their autoscaler decides */
  resize?: string[];
  /** Where agents report. @default null: there is no control plane, and nothing carries an agent */
  controlPlaneUrl?: string | null;
}

const tagValue = z.string().regex(TAG_VALUE_PATTERN, TAG_VALUE_RULE);

/** The `muster:` values that every infrastructure kind takes under plain `pulumi up`. */
export const sharedConfigSchema = z.strictObject({
  name: z
    .string()
    .regex(STACK_NAME_PATTERN, STACK_NAME_RULE)
    .describe("Begins the name of everything made. Default: the Pulumi stack's name. Changing it replaces everything."),
  owner: tagValue.describe('Who answers for what is made: a tag on everything. No default.'),
  costCentre: tagValue.describe('Who pays: a tag on everything. No default.'),
  protect: z
    .boolean()
    .default(true)
    .describe('Refuse to delete what loses data or service. Default true; set false before `pulumi destroy`.'),
  ceilingUsdPerHour: z
    .string()
    .refine((text) => (parseUsd(text) ?? 0n) > 0n, 'must be dollars per hour above zero, such as "12.00"')
    .optional()
    .describe('A preview that costs more is refused. Default: no ceiling.'),
});

/** Plain `pulumi up` has no deployment of ours behind it. */
const EXTERNAL_DEPLOYMENT = 'ext';

/**
 * @param values without their namespace, as Pulumi keeps them @param stackName Pulumi's name of the stack
 * @throws Error naming every problem with its `muster:` name
 */
export function stackArgsFromConfig<Schema extends z.ZodObject>(
  kind: StackKind,
  schema: Schema,
  values: Record<string, string>,
  stackName: string,
): StackArgs<z.output<Schema>> {
  const isShared = (name: string) => name in sharedConfigSchema.shape;
  const entries = Object.entries(values);
  const shared = { name: stackName, ...Object.fromEntries(entries.filter(([name]) => isShared(name))) };
  const own = Object.fromEntries(entries.filter(([name]) => !isShared(name)));
  const problems: string[] = [];
  const { owner, costCentre, name, protect, ceilingUsdPerHour } =
    collect(problems, () => parseStackConfig(kind, sharedConfigSchema, shared)) ?? {};
  const config = collect(problems, () => parseStackConfig(kind, schema, own));
  if (config === null || owner === undefined || costCentre === undefined || name === undefined)
    throw new Error(problems.join('\n'));
  return {
    config,
    name,
    tags: { owner, costCentre, deployment: EXTERNAL_DEPLOYMENT },
    protect: protect ?? true,
    ceilingMicroUsdPerHour: ceilingUsdPerHour === undefined ? null : Number(parseUsd(ceilingUsdPerHour)),
  };
}

function collect<T>(problems: string[], parse: () => T): T | null {
  try {
    return parse();
  } catch (error) {
    problems.push((error as Error).message);
    return null;
  }
}
