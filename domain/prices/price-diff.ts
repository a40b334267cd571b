/** What a preview changes in money: per resource and in all, per hour and for 30 days. */
import { per30Days, type MicroUsd } from '../money.ts';
import { priceResource, type PriceContext, type ResourcePrice } from './resource-price.ts';

export const STEP_OPS = ['create', 'update', 'replace', 'delete', 'same', 'import', 'read'] as const;
export type StepOp = (typeof STEP_OPS)[number];

/** One resource of a preview. */
export interface PlannedStep {
  urn: string;
  name: string;
  type: string;
  op: StepOp;
  /** Inputs that differ, by path; empty for creates and deletes. */
  changedInputs: string[];
  oldInputs: Record<string, unknown> | null;
  newInputs: Record<string, unknown> | null;
}

export interface ResourcePriceDiff {
  urn: string;
  before: ResourcePrice | null;
  after: ResourcePrice | null;
}

export interface PriceDiff {
  beforeMicroUsdPerHour: MicroUsd;
  afterMicroUsdPerHour: MicroUsd;
  deltaMicroUsdPerHour: MicroUsd;
  afterMicroUsdPer30Days: MicroUsd;
  deltaMicroUsdPer30Days: MicroUsd;
  resources: ResourcePriceDiff[];
  /** What is in none of the sums, and why. */
  unpriced: { urn: string; why: string }[];
}

export function diffPrices(steps: readonly PlannedStep[], context: PriceContext): PriceDiff {
  const resources = steps.map((step) => ({
    urn: step.urn,
    before:
      step.op === 'create' || step.oldInputs === null ? null : priceResource(priced(step, step.oldInputs), context),
    after:
      step.op === 'delete' || step.newInputs === null ? null : priceResource(priced(step, step.newInputs), context),
  }));
  const before = total(resources.map((one) => one.before));
  const after = total(resources.map((one) => one.after));
  return {
    beforeMicroUsdPerHour: before,
    afterMicroUsdPerHour: after,
    deltaMicroUsdPerHour: after - before,
    afterMicroUsdPer30Days: per30Days(after),
    deltaMicroUsdPer30Days: per30Days(after) - per30Days(before),
    resources,
    unpriced: resources.flatMap(({ urn, after: price }) =>
      price === null || price.kind === 'amount' ? [] : [{ urn, why: price.why }],
    ),
  };
}

function priced(step: PlannedStep, inputs: Record<string, unknown>) {
  return { type: step.type, inputs };
}

function total(prices: readonly (ResourcePrice | null)[]): MicroUsd {
  return prices.reduce((sum, price) => (price?.kind === 'amount' ? sum + price.microUsdPerHour : sum), 0n);
}
