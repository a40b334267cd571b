/** What a stack's state costs, by the prices of now: each resource that it holds, and the sum. */
import type { MicroUsd } from '../money.ts';
import type { StackResourceView } from '../stack.ts';
import type { StackState } from '../state/stack-state.ts';
import { isBookkeeping } from '../state/urn.ts';
import { priceResource } from './resource-price.ts';

export interface PricedState {
  resources: StackResourceView[];
  priceMicroUsdPerHour: MicroUsd;
  unpriced: { urn: string; why: string }[];
}

/**
 * @param config of the stack
 * @param isStopped its cluster was stopped as a whole: "A cluster does not accrue charges while it is stopped" (Azure's REST reference)
 */
export function priceState(
  config: unknown,
  state: Pick<StackState, 'resources'> | null,
  isStopped = false,
): PricedState {
  const context = { region: regionOf(config) };
  const unpriced: { urn: string; why: string }[] = [];
  let priceMicroUsdPerHour: MicroUsd = 0n;
  const shown = (state?.resources ?? []).filter(({ type }) => !isBookkeeping(type));
  const resources = shown.map((resource): StackResourceView => {
    const isFree = isStopped && FREE_WHEN_STOPPED.has(resource.type);
    const price = isFree ? { kind: 'amount' as const, microUsdPerHour: 0n } : priceResource(resource, context);
    if (price.kind === 'amount') priceMicroUsdPerHour += price.microUsdPerHour;
    else unpriced.push({ urn: resource.urn, why: price.why });
    return {
      urn: resource.urn,
      name: resource.name,
      type: resource.type,
      id: resource.id,
      parent: resource.parent,
      isProtected: resource.isProtected,
      microUsdPerHour: price.kind === 'amount' ? Number(price.microUsdPerHour) : null,
    };
  });
  return { resources, priceMicroUsdPerHour, unpriced };
}

const FREE_WHEN_STOPPED: ReadonlySet<string> = new Set([
  'azure-native:containerservice:ManagedCluster',
  'azure-native:containerservice:AgentPool',
]);

/** Where a kind's configuration says that its resources are. */
export function regionOf(config: unknown): string | null {
  const { region, location, zone } = (config ?? {}) as Record<string, unknown>;
  const found = region ?? location ?? zone;
  return typeof found === 'string' ? found : null;
}
