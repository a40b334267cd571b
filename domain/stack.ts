/**
 * A stack as people meet it: something made of cloud resources by one program, with its plan, its price and its drift.
 *
 *   created     recorded; nothing was made yet → updating
 *   updating    an up, a refresh or a repair runs → up | failed
 *   up          what the last update wanted is there → updating | destroying
 *   failed      the last update did not end well; what it made is in the state → updating | destroying
 *   destroying  until the engine says that nothing is left → destroyed | failed
 *   destroyed   the end
 */
import { formatUsd, type MicroUsd } from './money.ts';
import type { PlannedStep, PriceDiff } from './prices/price-diff.ts';

export const STACK_STATUSES = ['created', 'updating', 'up', 'failed', 'destroying', 'destroyed'] as const;
export type StackStatus = (typeof STACK_STATUSES)[number];

export const DRIFT_POLICIES = ['report', 'repair'] as const;
export type DriftPolicy = (typeof DRIFT_POLICIES)[number];

/** How long a plan may be carried out. Prices and clouds move; a plan of yesterday was made for another world. */
export const PLAN_VALID_MS = 30 * 60_000;

/** One resource that an outside hand changed or deleted. */
export interface Drift {
  urn: string;
  name: string;
  type: string;
  kind: 'changed' | 'deleted';
  /** Properties that differ, by path. */
  properties: string[];
}

/** Drift as it is kept until it is undone. */
export interface RecordedDrift extends Drift {
  /** A refresh has taken it into the state, so that looking finds it no longer; the next up undoes it. */
  isInState: boolean;
}

/** A price table is never exact: what moves less is no news. Crossing the ceiling always is. */
const PRICE_DRIFT_PERCENT = 1n;

/** One resource of a stack as it is shown: never with what may be secret. */
export interface StackResourceView {
  urn: string;
  name: string;
  type: string;
  /** The cloud's; null: a component, which is only a group. */
  id: string | null;
  parent: string | null;
  isProtected: boolean;
  /** null: nothing is known of its price, or it is paid by use. */
  microUsdPerHour: number | null;
}

/**
 * What is known after a look or a refresh: what it found, and what an earlier refresh took into the state, which no look can find any more.
 * @param isRefresh whether the state has learned of what was found
 */
export function mergeDrift(
  known: readonly RecordedDrift[],
  found: readonly Drift[],
  isRefresh: boolean,
): RecordedDrift[] {
  const kept = known.filter(({ isInState }) => isInState);
  const fresh = found.map((one): RecordedDrift => {
    const before = kept.find(({ urn }) => urn === one.urn);
    const properties = [...new Set([...(before?.properties ?? []), ...one.properties])].sort();
    return { ...one, properties: one.kind === 'deleted' ? [] : properties, isInState: isRefresh };
  });
  return [...fresh, ...kept.filter(({ urn }) => !found.some((one) => one.urn === urn))];
}

/** What an up that ended well leaves of it: it compares with the state, and undoes only what the state knows. */
export function driftAfterUp(known: readonly RecordedDrift[], isRefreshedFirst: boolean): RecordedDrift[] {
  return isRefreshedFirst ? [] : known.filter(({ isInState }) => !isInState);
}

/** In one sentence, for its finding. */
export function describeDrift(drift: readonly RecordedDrift[]): string {
  const shown = drift.slice(0, 10).map(({ name, kind, properties }) => {
    if (kind === 'deleted') return `${name} was deleted`;
    return properties.length === 0 ? `${name} was changed` : `${name}: ${properties.slice(0, 5).join(', ')} changed`;
  });
  const rest = drift.length - shown.length;
  const undone = drift.every(({ isInState }) => isInState)
    ? 'a refresh took it into the state, and the next up undoes it'
    : 'undone by an up after a refresh';
  return `${shown.join('; ')}${rest > 0 ? `; and ${rest} more` : ''}: ${undone}`;
}

/**
 * Whether what a stack holds costs something else by the prices of now than when it was last updated; null: no news.
 * @param ceiling null: the stack has none
 */
export function describePriceDrift(recorded: MicroUsd, now: MicroUsd, ceiling: MicroUsd | null): string | null {
  const moved = now > recorded ? now - recorded : recorded - now;
  const crosses = ceiling !== null && now > ceiling && recorded <= ceiling;
  if (!crosses && moved * 100n < recorded * PRICE_DRIFT_PERCENT) return null;
  if (moved === 0n) return null;
  const above = crosses ? `, which is above its ceiling of $${formatUsd(ceiling)}: its next up will be refused` : '';
  return `what it holds costs $${formatUsd(now)} an hour by the prices of now, $${formatUsd(recorded)} when it was last updated${above}`;
}

/** What may be asked of a stack now. */
export function allowedStackActions(status: StackStatus): ('preview' | 'up' | 'refresh' | 'destroy' | 'cancel')[] {
  switch (status) {
    case 'created':
    case 'up':
    case 'failed':
      return ['preview', 'up', 'refresh', 'destroy'];
    case 'updating':
    case 'destroying':
      return ['cancel'];
    case 'destroyed':
      return [];
  }
}

/**
 * What a plan is bound to: what happens to which resource, by which inputs, and at which price. Two previews of the same program over
 * the same state give the same text; a hash of it is the plan's.
 */
export function planText(steps: readonly PlannedStep[], prices: PriceDiff): string {
  const lines = steps
    .filter((step) => step.op !== 'same' && step.op !== 'read')
    .map((step) => [step.urn, step.op, [...step.changedInputs].sort(), sortKeys(step.newInputs)])
    .sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1));
  return JSON.stringify([lines, String(prices.afterMicroUsdPerHour)]);
}

/** How a plan differs from the one that was shown, one line each; empty: it does not. */
export function describePlanChanges(
  shown: { steps: readonly PlannedStep[]; afterMicroUsdPerHour: MicroUsd },
  now: { steps: readonly PlannedStep[]; afterMicroUsdPerHour: MicroUsd },
): string[] {
  const [before, after] = [changesOf(shown.steps), changesOf(now.steps)];
  const lines: string[] = [];
  for (const [urn, step] of after) {
    const old = before.get(urn);
    if (!old) lines.push(`${step.name}: ${step.op} was not in the plan`);
    else if (old.op !== step.op) lines.push(`${step.name}: ${step.op} instead of ${old.op}`);
    else if (JSON.stringify(sortKeys(old.newInputs)) !== JSON.stringify(sortKeys(step.newInputs)))
      lines.push(`${step.name}: ${step.op} with other inputs`);
  }
  for (const [urn, step] of before) if (!after.has(urn)) lines.push(`${step.name}: ${step.op} is not needed any more`);
  if (shown.afterMicroUsdPerHour !== now.afterMicroUsdPerHour) {
    const [was, is] = [formatUsd(shown.afterMicroUsdPerHour), formatUsd(now.afterMicroUsdPerHour)];
    lines.push(`price: $${is} an hour instead of $${was}`);
  }
  return lines;
}

function changesOf(steps: readonly PlannedStep[]): Map<string, PlannedStep> {
  return new Map(steps.filter(({ op }) => op !== 'same' && op !== 'read').map((step) => [step.urn, step]));
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sortKeys(inner)]),
  );
}
