/**
 * An outlook: what may be expected of buying one offer: the chance that it becomes a ready machine, and how long that takes. It
 * blends three sources, the nearer ones weighing more the more they have seen: the machine's own history, its provider's, and a
 * prior. It ranks nothing (rank.ts does).
 *
 *   provider's chance  P = (S + 4 · 0.8) / (N + 4)                    S successes of N attempts at the provider
 *   machine's chance   M = (s + 2 · P · r) / (n + 2)                  r the vendor's figure of reliability, 0.95 where it gives none
 *   chance             confidence · M                                 how far the listing itself is to be believed
 *   time to ready      (s · tm + 2 · tp) / (s + 2), each of p50, p95  tm the machine's, tp the provider's; one alone where only one is known
 */
import type { MachineRecord } from '../machine-history.ts';
import type { Offer } from '../offer.ts';
import type { ProviderName } from '../provider.ts';

/** From purchase to ready; null without a success. */
export interface ReadyTimes {
  p50ReadyMs: number | null;
  p95ReadyMs: number | null;
}

/** What became of our attempts at one provider. */
export interface ProviderRecord extends ReadyTimes {
  provider: ProviderName;
  attempts: number;
  successes: number;
}

export interface Outlook {
  /** 0..1: this offer is still for sale, and its machine becomes ready. */
  chance: number;
  p50ReadyMs: number | null;
  p95ReadyMs: number | null;
  /** Attempts behind it: on the machine, and at the provider. */
  evidence: { machine: number; provider: number };
}

export const PRIOR_CHANCE = 0.8;
/** How many attempts the prior weighs against the provider's own, and the provider's against the machine's. */
export const PRIOR_WEIGHT = 4;
export const PROVIDER_WEIGHT = 2;
const UNKNOWN_RELIABILITY = 0.95;
/** Spread of boot times where only a mean is known: log-normal with this sigma, as boots of one image on one kind of host are. */
const SIGMA = 0.4;
const Z95 = 1.645;

export function foresee(
  offer: Pick<Offer, 'reliability' | 'confidence'>,
  machine: MachineRecord | undefined,
  provider: ProviderRecord | undefined,
  /** Of the machine; absent: guessed from the mean in its record. */
  times: ReadyTimes | undefined = spreadOfMean(machine?.meanReadyMs ?? null),
): Outlook {
  const tried = { machine: machine?.attempts ?? 0, provider: provider?.attempts ?? 0 };
  const atProvider = ((provider?.successes ?? 0) + PRIOR_WEIGHT * PRIOR_CHANCE) / (tried.provider + PRIOR_WEIGHT);
  const expected = atProvider * clamp(offer.reliability ?? UNKNOWN_RELIABILITY);
  const successes = Math.min(machine?.successes ?? 0, tried.machine);
  const onMachine = (successes + PROVIDER_WEIGHT * expected) / (tried.machine + PROVIDER_WEIGHT);
  return {
    chance: clamp(offer.confidence) * clamp(onMachine),
    p50ReadyMs: blendTimes(times?.p50ReadyMs ?? null, successes, provider?.p50ReadyMs ?? null),
    p95ReadyMs: blendTimes(times?.p95ReadyMs ?? null, successes, provider?.p95ReadyMs ?? null),
    evidence: tried,
  };
}

/** A provider's record from those of its machines, where nothing better is kept. */
export function sumProviderRecords(machines: readonly MachineRecord[]): ProviderRecord[] {
  return [...Map.groupBy(machines, (record) => record.provider)].map(([provider, records]) => {
    const successes = records.reduce((sum, record) => sum + record.successes, 0);
    const totalMs = records.reduce((sum, record) => sum + record.successes * (record.meanReadyMs ?? 0), 0);
    const times = spreadOfMean(successes === 0 ? null : totalMs / successes);
    return {
      provider,
      attempts: records.reduce((sum, record) => sum + record.attempts, 0),
      successes,
      p50ReadyMs: times?.p50ReadyMs ?? null,
      p95ReadyMs: times?.p95ReadyMs ?? null,
    };
  });
}

/** The chance that at least one of independent attempts succeeds; 0 for none. */
export function chanceOfAny(chances: readonly number[]): number {
  return 1 - chances.reduce((failing, chance) => failing * (1 - chance), 1);
}

function spreadOfMean(meanMs: number | null): ReadyTimes | undefined {
  if (meanMs === null) return undefined;
  const p50 = meanMs * Math.exp((-SIGMA * SIGMA) / 2);
  return { p50ReadyMs: Math.round(p50), p95ReadyMs: Math.round(p50 * Math.exp(Z95 * SIGMA)) };
}

function blendTimes(machineMs: number | null, successes: number, providerMs: number | null): number | null {
  if (machineMs === null || successes === 0) return providerMs === null ? null : Math.round(providerMs);
  if (providerMs === null) return Math.round(machineMs);
  return Math.round((machineMs * successes + providerMs * PROVIDER_WEIGHT) / (successes + PROVIDER_WEIGHT));
}

function clamp(share: number): number {
  return Math.min(1, Math.max(0, share));
}
