/** Provider states: what plans need to know of each provider, read together. */
import type { ProviderName } from '../domain/provider.ts';
import type { ProviderState } from '../domain/provisioning/closed-providers.ts';
import { listUnusableProviders } from './circuits.ts';
import type { Executor } from './database.ts';
import { listProviders, type ProviderRow } from './providers.ts';

/** @returns the rows too, for callers who need more of them. */
export async function readProviderStates(
  executor: Executor,
): Promise<{ rows: ProviderRow[]; states: ProviderState[] }> {
  const rows = await listProviders(executor);
  const unusable = await listUnusableProviders(executor);
  const states = rows.map((row) => ({
    provider: row.name as ProviderName,
    isOn: row.enabled && row.mode !== 'off',
    status: row.status,
    reason: row.reason,
    hasOffers: row.offers_seen_at !== null,
    circuit: unusable.get(row.name) ?? null,
  }));
  return { rows, states };
}
