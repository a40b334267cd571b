/**
 * Holds every resource of a program back from the engine until the whole program was seen and meets the rules (domain/policy.ts), so
 * that a program that breaks one fails with all violations at once and nothing is made: by a preview, by an up, inline or under the CLI.
 * The engine's own transforms would see one resource at a time, the earlier ones already made.
 */
import { RunError } from '@pulumi/pulumi/errors.js';
import { Output } from '@pulumi/pulumi/output.js';
import type { ComponentResourceOptions, Resource, ResourceTransformation } from '@pulumi/pulumi/resource.js';
import { checkPolicies, describeViolations, type PlannedResource, type PolicyRules } from '../domain/policy.ts';
import { priceResource } from '../domain/prices/resource-price.ts';

export interface GateRules {
  ceilingMicroUsdPerHour: number | null | undefined;
  /** Where prices are looked up. null: nothing here has a price of a place. */
  region: string | null;
}

/**
 * @param build makes the program's resources before it returns (not in callbacks), each top one with the options given
 * @throws RunError with every violation, one a line
 */
export function withPolicies<T>(rules: GateRules, build: (options: ComponentResourceOptions) => T): T {
  const planned: PlannedResource[] = [];
  const gate = Promise.withResolvers<Resource[]>();
  gate.promise.catch(() => undefined); // a program without resources has nobody to tell
  const hold: ResourceTransformation = ({ type, name, props, opts }) => {
    planned.push({ type, name, inputs: knownOf(props) as Record<string, unknown>, region: rules.region });
    const dependsOn = [opts.dependsOn ?? [], gate.promise].flat() as Resource[];
    return { props, opts: { ...opts, dependsOn } };
  };
  try {
    const built = build({ transformations: [hold] });
    const violations = checkPolicies(planned, policyRules(rules));
    if (violations.length > 0) throw new RunError(describeViolations(violations));
    gate.resolve([]);
    return built;
  } catch (error) {
    gate.reject(error);
    throw error;
  }
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
