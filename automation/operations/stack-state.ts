/** What a stack holds, as people are shown it: each resource with what it costs by the prices of now. */
import type { MicroUsd } from '../../domain/money.ts';
import { priceResource } from '../../domain/prices/resource-price.ts';
import type { StackResourceView } from '../../domain/stack.ts';
import { resolveStackFindings } from '../../db/findings.ts';
import type { Tx } from '../../db/database.ts';
import { saveStackState, type StackRow } from '../../db/stacks.ts';
import type { UpdateOutcome } from '../engine/stack-runner.ts';
import type { StackState } from '../engine/state-backend.ts';

/** After an update, whatever its end was. What it costs is recorded anew, so that a price that had moved is no news any more. */
export async function saveState(tx: Tx, stack: StackRow, outcome: UpdateOutcome): Promise<void> {
  await saveStackState(tx, stack.id, {
    ...(outcome.update === 'up' && outcome.isOk ? { outputs: outcome.outputs } : {}),
    ...priceState(stack, outcome.state),
  });
  await resolveStackFindings(tx, stack.id, ['price_drift'], 'unseen');
}

/** @param isStopped its cluster was stopped as a whole: "A cluster does not accrue charges while it is stopped" (Azure's REST reference) */
export function priceState(stack: StackRow, state: StackState | null, isStopped = false) {
  const context = { region: regionOf(stack.config) };
  const unpriced: { urn: string; why: string }[] = [];
  let priceMicroUsdPerHour: MicroUsd = 0n;
  const resources: StackResourceView[] = (state?.resources ?? []).filter(isShown).map((resource) => {
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

function isShown({ type }: { type: string }): boolean {
  return type !== 'pulumi:pulumi:Stack' && !type.startsWith('pulumi:providers:');
}

/** Where a kind's configuration says that its resources are. */
export function regionOf(config: unknown): string | null {
  const { region, location, zone } = (config ?? {}) as Record<string, unknown>;
  const found = region ?? location ?? zone;
  return typeof found === 'string' ? found : null;
}
