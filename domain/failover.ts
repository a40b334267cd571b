/**
 * Failover: moving the work of an instance that lost its machine to a standby or to another machine, as one episode with phases. Whether
 * one may begin now, and in which way, is decided here; that a node is dead is failure.ts's, carrying it out the operation's.
 *
 *   detected      accepted → fencing
 *   fencing       what the lost machine may still do is ended: it may write no snapshot, and is handed to its destroy → promoting | provisioning
 *   promoting     the standby is started and restored → serving | fencing (it could not: another machine, directly)
 *   serving       the standby has the work → provisioning (at once, or when the failback is asked for)
 *   provisioning  another machine is bought → restoring
 *   restoring     the workspace is put onto it → switching | provisioning (it could not: a standby that lives writes again)
 *   switching     it becomes the writer and the endpoint, and the standby goes to rest → complete
 *   complete, failed, canceled   the end
 */
import { formatUsd } from './money.ts';

export const FAILOVER_PHASES = [
  'detected',
  'fencing',
  'promoting',
  'serving',
  'provisioning',
  'restoring',
  'switching',
  'complete',
  'failed',
  'canceled',
] as const;
export type FailoverPhase = (typeof FAILOVER_PHASES)[number];

export const FAILOVER_NEXT: Record<FailoverPhase, readonly FailoverPhase[]> = {
  detected: ['fencing', 'failed', 'canceled'],
  fencing: ['promoting', 'provisioning', 'failed', 'canceled'],
  promoting: ['serving', 'fencing', 'failed', 'canceled'],
  serving: ['provisioning', 'failed', 'canceled'],
  provisioning: ['restoring', 'switching', 'serving', 'failed', 'canceled'],
  restoring: ['switching', 'serving', 'provisioning', 'failed', 'canceled'],
  switching: ['complete', 'failed', 'canceled'],
  complete: [],
  failed: [],
  canceled: [],
};

export function isFailoverOver(phase: FailoverPhase): boolean {
  return FAILOVER_NEXT[phase].length === 0;
}

/** `off`: a person decides. `replace`: another machine. `standby`: the standby first, and another machine behind it. */
export const FAILOVER_MODES = ['off', 'replace', 'standby'] as const;
export type FailoverMode = (typeof FAILOVER_MODES)[number];

export const FAILOVER_CAUSES = ['detected', 'requested', 'drill'] as const;
export type FailoverCause = (typeof FAILOVER_CAUSES)[number];

/** Whether the replacement is bought, and takes over from the standby, by itself or when a person asks. */
export const FAILBACKS = ['automatic', 'manual'] as const;
export type Failback = (typeof FAILBACKS)[number];

export interface FailoverPolicy {
  mode: FailoverMode;
  /** How old the data may be at most that a failover goes on with. */
  rpoMs: number;
  /** Of the replacement; null: as the request says. */
  maxPriceMicroUsdPerHour: bigint | null;
  /** What its failovers that begin by themselves may have cost within a day before another begins. @default null: no bound */
  budgetMicroUsdPerDay?: bigint | null;
  /** Between the beginnings of two failovers of the instance. */
  cooldownMs: number;
  /** Failovers of the instance that may begin by themselves within a day. */
  maxPerDay: number;
  failback: Failback;
}

export const DEFAULT_RPO_MS = 300_000;

/** Of the whole deployment: so many losses at once are one cause, which another machine would meet too. */
export const STORM_WINDOW_MS = 600_000;
export const DEFAULT_STORM_LIMIT = 10;
const DAY_MS = 86_400_000;

export interface FailoverQuestion {
  cause: FailoverCause;
  /** null: the instance has none. */
  policy: FailoverPolicy | null;
  instanceStatus: string;
  hasRunning: boolean;
  /** When earlier failovers of the instance began by themselves, epoch ms. */
  begun: readonly number[];
  /** What those of the last day have cost. */
  spentMicroUsd: bigint;
  /** Those of the whole deployment within STORM_WINDOW_MS. */
  begunAnywhere: readonly number[];
  stormLimit: number;
  /** null: it has no workspace, so that nothing is to be restored. */
  workspace: { hasVerifiedSnapshot: boolean } | null;
  /** The standby is there and at rest. */
  isStandbyReady: boolean;
  /** What a person asked for; null: as the policy says. */
  wantedMode: Exclude<FailoverMode, 'off'> | null;
  /** A person said that what no snapshot holds may be lost. */
  acceptsDataLoss: boolean;
  now: number;
}

export type FailoverDecision =
  | { kind: 'begin'; mode: Exclude<FailoverMode, 'off'>; reason: string | null }
  /** Not now. `until`: when to ask again; null: when something has changed. */
  | { kind: 'hold'; reason: string; until: number | null }
  /** Not at all. */
  | { kind: 'none'; reason: string };

/** A person's request passes over cool-down, daily and storm limit; a lack of data only with their word. */
export function decideFailover(question: FailoverQuestion): FailoverDecision {
  const { policy, cause, now } = question;
  if (question.hasRunning) return { kind: 'none', reason: 'a failover is under way' };
  if (question.instanceStatus !== 'ready')
    return { kind: 'none', reason: `the instance is ${question.instanceStatus}` };
  if (cause === 'detected') {
    if (policy === null || policy.mode === 'off') return { kind: 'none', reason: 'it has no failover policy' };
    const held = holdFor(policy, question);
    if (held !== null) return held;
  }
  if (question.workspace?.hasVerifiedSnapshot === false && !question.acceptsDataLoss) {
    const reason = 'no snapshot of its workspace was verified yet: destroying the machine would lose all of it';
    return { kind: 'hold', reason, until: cause === 'detected' ? now + RETRY_MS : null };
  }
  const mode = question.wantedMode ?? policy?.mode;
  if (mode !== 'standby') return { kind: 'begin', mode: 'replace', reason: null };
  if (question.isStandbyReady) return { kind: 'begin', mode: 'standby', reason: null };
  if (question.wantedMode === 'standby') return { kind: 'none', reason: 'it has no standby that is at rest' };
  return { kind: 'begin', mode: 'replace', reason: 'its standby is not at rest: restoring directly' };
}

const RETRY_MS = 60_000;

function holdFor(policy: FailoverPolicy, question: FailoverQuestion): FailoverDecision | null {
  const { now } = question;
  const begun = question.begun.filter((at) => now - at < DAY_MS).sort((a, b) => a - b);
  const last = begun.at(-1);
  if (last !== undefined && now - last < policy.cooldownMs) {
    return {
      kind: 'hold',
      reason: 'its last failover was a moment ago: cooling down',
      until: last + policy.cooldownMs,
    };
  }
  if (begun.length >= policy.maxPerDay) {
    const reason = `${begun.length} failovers within a day, and its policy allows ${policy.maxPerDay}`;
    return { kind: 'hold', reason, until: (begun[begun.length - policy.maxPerDay] ?? now) + DAY_MS };
  }
  const budget = policy.budgetMicroUsdPerDay ?? null;
  if (budget !== null && question.spentMicroUsd >= budget) {
    const reason = `its failovers of the last day cost $${formatUsd(question.spentMicroUsd)}, and its budget is $${formatUsd(budget)}`;
    return { kind: 'hold', reason, until: (begun[0] ?? now) + DAY_MS };
  }
  const storm = question.begunAnywhere.filter((at) => now - at < STORM_WINDOW_MS).sort((a, b) => a - b);
  if (storm.length < question.stormLimit) return null;
  const reason = `${storm.length} failovers began in the deployment within ${STORM_WINDOW_MS / 60_000} minutes: that has one cause`;
  return { kind: 'hold', reason, until: (storm[storm.length - question.stormLimit] ?? now) + STORM_WINDOW_MS };
}
