/**
 * Interruptions: the vendor took the GPUs of an interruptible machine away (somebody bid more, or rents it on demand). What is to be
 * done is the request's policy, within bounds:
 *
 *   rebid     raise the bid, wait for the machine to come back, raise again; when no bid is left, replace it
 *   replace   destroy the machine and take another for the same instance
 *   give_up   destroy the instance
 *
 * A machine that runs again by itself is left alone, whatever the policy. Pure: called again at every look until it is over.
 */
import { nextBid } from './bid.ts';
import type { MicroUsd } from './money.ts';

export const INTERRUPTION_POLICIES = ['rebid', 'replace', 'give_up'] as const;
export type InterruptionPolicy = (typeof INTERRUPTION_POLICIES)[number];

/** Rebids of one attempt; each is a quarter more, so the third is near twice the first bid. */
export const MAX_REBIDS = 3;
/** How long a raised bid may take to bring the machine back: two looks, and the start of its container. */
export const REBID_PATIENCE_MS = 150_000;
/** Replacements of one instance in a day: beyond them the market is not to be had at this price. */
export const MAX_REPLACEMENTS_PER_DAY = 8;

export interface Interruption {
  policy: InterruptionPolicy;
  bidMicroUsdPerHour: MicroUsd;
  /** Of its disk. */
  diskMicroUsdPerHour: MicroUsd;
  maxPriceMicroUsdPerHour: MicroUsd;
  rebids: number;
  /** When the last rebid was asked for; null: none during this interruption. */
  rebidAt: number | null;
  /** Of this instance, in the last day. */
  replacements: number;
  now: number;
}

export type InterruptionAction =
  | { kind: 'rebid'; bidMicroUsdPerHour: MicroUsd; reason: string }
  | { kind: 'wait'; reason: string }
  | { kind: 'replace'; reason: string }
  | { kind: 'give_up'; reason: string };

export function decideInterruption(interruption: Interruption): InterruptionAction {
  const { policy } = interruption;
  if (policy === 'give_up') return { kind: 'give_up', reason: 'interrupted by the provider' };
  if (policy === 'replace') return replace(interruption, 'interrupted by the provider');
  const { rebidAt, rebids, now } = interruption;
  if (rebidAt !== null && now - rebidAt < REBID_PATIENCE_MS) {
    return { kind: 'wait', reason: 'interrupted by the provider; the bid was raised' };
  }
  if (rebids >= MAX_REBIDS) return replace(interruption, `interrupted by the provider after ${rebids} rebids`);
  const { bidMicroUsdPerHour: bid, diskMicroUsdPerHour: disk, maxPriceMicroUsdPerHour: most } = interruption;
  const raised = nextBid(bid, disk, most);
  if (raised === null) return replace(interruption, 'interrupted by the provider at the highest price');
  return { kind: 'rebid', bidMicroUsdPerHour: raised, reason: 'interrupted by the provider: bidding more' };
}

function replace({ replacements }: Interruption, reason: string): InterruptionAction {
  if (replacements < MAX_REPLACEMENTS_PER_DAY) return { kind: 'replace', reason };
  return { kind: 'give_up', reason: `${reason}, and replaced ${replacements} times in a day` };
}
