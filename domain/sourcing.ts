/**
 * Sourcing: keeping a number of machines ready by rule. This module decides how many are bought for which rule now; it neither searches
 * nor buys. Bounds that always hold: the deployment's cap over everything sourced that is live, each rule's target, its price ceiling.
 */
import type { InstanceStatus } from './instance.ts';
import type { MicroUsd } from './money.ts';

/** `off` nothing · `search` candidates are found and shown · `provision` they are bought. */
export const SOURCING_MODES = ['off', 'search', 'provision'] as const;
export type SourcingMode = (typeof SOURCING_MODES)[number];

export const SOURCING_OUTCOMES = [
  'satisfied',
  'backing_off',
  'no_candidates',
  'capped',
  'search_only',
  'bought',
  'refused',
] as const;
export type SourcingOutcome = (typeof SOURCING_OUTCOMES)[number];

/** An instance that a rule bought. */
export interface SourcedInstance {
  status: InstanceStatus;
  createdAt: number;
  readyAt: number | null;
  /** When it was given up; null while it is not. */
  endedAt: number | null;
  failure: string | null;
}

export interface RuleView {
  id: string;
  target: number;
  maxPriceMicroUsdPerHour: MicroUsd;
  /** Newest first. */
  instances: readonly SourcedInstance[];
  /** Prices of the machines that fit now, the best first, one for each machine that could be bought. */
  candidates: readonly MicroUsd[];
  /** Why there are none, or too few. */
  shortage: string | null;
}

export interface SourcingDecision {
  ruleId: string;
  outcome: Exclude<SourcingOutcome, 'refused'>;
  /** How many to buy now; 0 unless the outcome is `bought`. */
  buy: number;
  /** A sentence for people; null where there is nothing to explain. */
  reason: string | null;
  /** Of a rule that backs off: when it is tried again. */
  until: number | null;
}

export interface SourcingInput {
  mode: Exclude<SourcingMode, 'off'>;
  /** The deployment's hard cap of sourced instances. */
  maxInstances: number;
  /** Sourced instances of all rules and orgs that are not proven gone, also of rules that no longer exist. */
  liveSourced: number;
  rules: readonly RuleView[];
  now: number;
}

/** Waits after 1, 2, 3, … failures in a row: doubled each time. */
const BACKOFF_BASE_MS = 5 * 60_000;
const BACKOFF_CAP_MS = 6 * 3_600_000;

/** Counts toward the target: on its way or there. What is being destroyed or lost no longer does. */
export function isTowardTarget(status: InstanceStatus): boolean {
  return status === 'requested' || status === 'creating' || status === 'booting' || status === 'ready';
}

/** One decision for each rule. Where the cap leaves less than is missing, rules take turns, those with the least first. */
export function decideSourcing(input: SourcingInput): SourcingDecision[] {
  const views = input.rules.map((rule) => ({ rule, ...judge(rule, input.now) }));
  const bought = new Map<string, number>();
  let room = input.mode === 'provision' ? Math.max(0, input.maxInstances - input.liveSourced) : 0;
  const turns = views.filter(({ wish }) => wish > 0).sort((a, b) => a.counted - b.counted);
  for (let round = 0; room > 0 && turns.some(({ wish }) => wish > round); round++) {
    for (const { rule, wish } of turns) {
      if (wish <= round || room === 0) continue;
      bought.set(rule.id, round + 1);
      room -= 1;
    }
  }
  return views.map(({ rule, wish, decision }) => {
    if (decision !== null) return decision;
    const buy = bought.get(rule.id) ?? 0;
    const plain = { ruleId: rule.id, buy, until: null };
    if (input.mode === 'search')
      return { ...plain, outcome: 'search_only', reason: `would buy ${wish}; sourcing only searches` };
    if (buy === 0) {
      return {
        ...plain,
        outcome: 'capped',
        reason: `${input.liveSourced} sourced instances of at most ${input.maxInstances} are live`,
      };
    }
    return { ...plain, outcome: 'bought', reason: rule.shortage };
  });
}

/** `wish`: how many the rule would buy now; 0 where the decision is made already. */
function judge(rule: RuleView, now: number): { counted: number; wish: number; decision: SourcingDecision | null } {
  const counted = rule.instances.filter(({ status }) => isTowardTarget(status)).length;
  const none = { ruleId: rule.id, buy: 0, until: null };
  const missing = rule.target - counted;
  if (missing <= 0) return { counted, wish: 0, decision: { ...none, outcome: 'satisfied', reason: null } };
  const failures = countFailures(rule.instances);
  if (failures.count > 0 && failures.last !== null) {
    const until = failures.last + backoffMs(failures.count);
    if (until > now) {
      const times = failures.count === 1 ? 'once' : `${failures.count} times in a row`;
      const why = failures.reason === null ? '' : `: ${failures.reason}`;
      return {
        counted,
        wish: 0,
        decision: { ...none, outcome: 'backing_off', until, reason: `failed ${times}${why}` },
      };
    }
  }
  const affordable = rule.candidates.filter((price) => price <= rule.maxPriceMicroUsdPerHour).length;
  if (affordable === 0)
    return { counted, wish: 0, decision: { ...none, outcome: 'no_candidates', reason: rule.shortage } };
  // After failures one is tried, not all at once.
  return { counted, wish: Math.min(missing, affordable, failures.count > 0 ? 1 : missing), decision: null };
}

/** Instances given up without ever having been ready, since the last one that was. Those on their way decide nothing yet. */
export function countFailures(instances: readonly SourcedInstance[]): {
  count: number;
  last: number | null;
  reason: string | null;
} {
  let count = 0;
  let last: number | null = null;
  let reason: string | null = null;
  for (const instance of instances) {
    if (instance.readyAt !== null) break;
    if (isTowardTarget(instance.status)) continue;
    count += 1;
    const endedAt = instance.endedAt ?? instance.createdAt;
    if (last === null || endedAt > last) {
      last = endedAt;
      reason = instance.failure;
    }
  }
  return { count, last, reason };
}

export function backoffMs(failures: number): number {
  return Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.max(0, failures - 1));
}
