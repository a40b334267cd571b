/**
 * Closed providers: those from which nothing may be bought now, each with its reason. One rule for the plans that buy and for the
 * plans that are only shown. A provider with no row is as good as switched off.
 */
import type { ProviderName } from '../provider.ts';
import type { ClosedProvider } from './planner.ts';

export interface ProviderState {
  provider: ProviderName;
  /** Whether it has an account here, and nobody switched it off. */
  isOn: boolean;
  status: 'unknown' | 'ok' | 'degraded' | 'quarantined' | 'auth_failed' | 'off';
  /** Why the status is not ok. */
  reason: string | null;
  /** Whether a believable listing of offers ever came. */
  hasOffers: boolean;
  /** Why its circuit breaker keeps new purchases away; null: it does not. */
  circuit: ClosedProvider | null;
}

/** @param wanted the request's providers; empty: any. Providers that are not wanted are not told. */
export function findClosed(
  states: readonly ProviderState[],
  wanted: readonly ProviderName[],
): Map<ProviderName, ClosedProvider> {
  const closed = new Map<ProviderName, ClosedProvider>();
  for (const state of states) {
    if (wanted.length > 0 && !wanted.includes(state.provider)) continue;
    const why = whyClosed(state);
    if (why !== null) closed.set(state.provider, why);
  }
  return closed;
}

/** Whether plans may be made: a provider is open, or none will open by waiting. */
export function isMarketBelieved(
  states: readonly ProviderState[],
  wanted: readonly ProviderName[],
  closed: ReadonlyMap<ProviderName, ClosedProvider>,
): boolean {
  const concerned = states.filter(({ provider }) => wanted.length === 0 || wanted.includes(provider));
  return (
    concerned.some(({ provider }) => !closed.has(provider)) || [...closed.values()].every(({ mayReopen }) => !mayReopen)
  );
}

function whyClosed(state: ProviderState): ClosedProvider | null {
  if (!state.isOn || state.status === 'off') return { reason: 'switched off', mayReopen: false };
  if (!state.hasOffers) return { reason: state.reason ?? 'its offers are not known yet', mayReopen: true };
  if (state.status === 'ok' && state.circuit !== null) return state.circuit;
  if (state.status === 'ok') return null;
  return { reason: state.reason ?? `it is ${state.status}`, mayReopen: true };
}
