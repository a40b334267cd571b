/**
 * Holds every resource of a program back from the engine until the whole program was seen and meets the rules (domain/policy.ts), so
 * that a program that breaks one fails with all violations at once and nothing is made: by a preview, by an up, inline or under the CLI.
 * The engine's own transforms would see one resource at a time, the earlier ones already made.
 */
import { RunError } from '@pulumi/pulumi/errors.js';
import { Output } from '@pulumi/pulumi/output.js';
import type { ComponentResourceOptions, Resource, ResourceTransformation } from '@pulumi/pulumi/resource.js';
import {
  checkPolicies,
  describeViolations,
  type PlannedResource,
  type PolicyRules,
  type PolicyViolation,
} from '../domain/policy.ts';
import { priceResource } from '../domain/prices/resource-price.ts';

export interface GateRules {
  ceilingMicroUsdPerHour: number | null | undefined;
  /** Where prices are looked up. null: nothing here has a price of a place. */
  region: string | null;
}

/** What only the cloud can answer: whether a name is taken. null: nothing is wrong. */
export type Question = Promise<PolicyViolation | null>;

/**
 * @param build makes the program's resources before it returns (not in callbacks), each top one with the options given; what it gives to
 * `ask` is waited for too
 * @throws RunError with every violation, one a line; where a question's answer is one, what was to be made fails with it instead
 */
export function withPolicies<T>(
  rules: GateRules,
  build: (options: ComponentResourceOptions, ask: (question: Question) => void) => T,
): T {
  const planned: PlannedResource[] = [];
  const questions: Question[] = [];
  // Pulumi providers pass the first gate only: through them the questions are asked.
  const [seen, answered] = [openGate(), openGate()];
  const hold: ResourceTransformation = ({ type, name, props, opts }) => {
    planned.push({ type, name, inputs: knownOf(props) as Record<string, unknown>, region: rules.region });
    const gate = type.startsWith('pulumi:providers:') ? seen : answered;
    return { props, opts: { ...opts, dependsOn: [opts.dependsOn ?? [], gate.promise].flat() as Resource[] } };
  };
  try {
    const built = build({ transformations: [hold] }, (question) => questions.push(question));
    refuse(checkPolicies(planned, policyRules(rules)));
    seen.resolve([]);
    Promise.all(questions)
      .then((answers) => refuse(answers.filter((answer) => answer !== null)))
      .then(() => answered.resolve([]), answered.reject);
    return built;
  } catch (error) {
    seen.reject(error);
    answered.reject(error);
    throw error;
  }
}

function openGate() {
  const gate = Promise.withResolvers<Resource[]>();
  gate.promise.catch(() => undefined); // a program without resources has nobody to tell
  return gate;
}

function refuse(violations: PolicyViolation[]): void {
  if (violations.length > 0) throw new RunError(describeViolations(violations));
}

function policyRules({ ceilingMicroUsdPerHour }: GateRules): PolicyRules {
  return {
    ceilingMicroUsdPerHour: ceilingMicroUsdPerHour == null ? null : BigInt(ceilingMicroUsdPerHour),
    priceOf: ({ type, inputs, region }) => {
      const price = priceResource({ type, inputs }, { region });
      return price.kind === 'amount' ? price.microUsdPerHour : null;
    },
  };
}

/** What the program wrote down itself; what only the cloud will say is left out. */
function knownOf(value: unknown): unknown {
  if (Output.isInstance(value) || value instanceof Promise) return undefined;
  if (Array.isArray(value)) return value.map(knownOf).filter((item) => item !== undefined);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => [key, knownOf(item)] as const);
  return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
}
