/**
 * Machine history: what became of our attempts on one physical machine. It feeds ranking, the chance of success shown in plans
 * and the denylist. An attempt that proved nothing (a race's loser, a destroy by its user) is no outcome and is not counted.
 */
import type { ProviderName } from './provider.ts';

export interface MachineRecord {
  provider: ProviderName;
  machineId: string;
  /** Attempts whose outcome is known. */
  attempts: number;
  /** Those verified ready. */
  successes: number;
  /** Machines that vanished though nobody destroyed them, before or after they were ready. */
  losses: number;
  /** Mean time from purchase to ready over the successes; null without one. */
  meanReadyMs: number | null;
  /** Epoch ms; null or in the past: not denylisted. */
  denylistedUntil: number | null;
  /** Of `attempts` and `successes`: those before the last lift, which no longer speak against the machine. @default 0 */
  forgivenAttempts?: number;
  forgivenSuccesses?: number;
}

export type MachineOutcome =
  | { kind: 'ready'; readyMs: number }
  | { kind: 'failed' }
  /** `wasReady`: the attempt already counts as a success; only the loss is added. */
  | { kind: 'lost'; wasReady: boolean };

/** A machine that is no better than this over MIN_ATTEMPTS_TO_JUDGE attempts costs more time than it is worth. */
export const MIN_SUCCESS_PERCENT = 30;
export const MIN_ATTEMPTS_TO_JUDGE = 3;
export const DENYLIST_MS = 24 * 3_600_000;

/**
 * The record after one more outcome. A failure that leaves the success rate under the bound denylists the machine for a day
 * from now, and never shortens a longer denylisting; a success never lifts one (time or a person does).
 */
export function applyOutcome(record: MachineRecord, outcome: MachineOutcome, now: number): MachineRecord {
  switch (outcome.kind) {
    case 'ready': {
      const successes = record.successes + 1;
      const mean = record.meanReadyMs ?? 0;
      const meanReadyMs = Math.round(mean + (Math.max(0, outcome.readyMs) - mean) / successes);
      return { ...record, attempts: record.attempts + 1, successes, meanReadyMs };
    }
    case 'failed':
      return judge({ ...record, attempts: record.attempts + 1 }, now);
    case 'lost': {
      const attempts = record.attempts + (outcome.wasReady ? 0 : 1);
      return judge({ ...record, attempts, losses: record.losses + 1 }, now);
    }
  }
}

/** Lifted by a person: what was counted until now is history, and only three new attempts can denylist the machine again. */
export function liftDenylisting(record: MachineRecord): MachineRecord {
  return {
    ...record,
    denylistedUntil: null,
    forgivenAttempts: record.attempts,
    forgivenSuccesses: record.successes,
  };
}

export function isDenylisted(record: MachineRecord, now: number): boolean {
  return record.denylistedUntil !== null && record.denylistedUntil > now;
}

/** Laplace's estimate (s+1)/(n+2) of the next attempt's success; null without a known outcome. */
export function chanceOfSuccess(record: MachineRecord | undefined): number | null {
  if (record === undefined || record.attempts === 0) return null;
  return (record.successes + 1) / (record.attempts + 2);
}

function judge(record: MachineRecord, now: number): MachineRecord {
  const attempts = record.attempts - (record.forgivenAttempts ?? 0);
  const successes = record.successes - (record.forgivenSuccesses ?? 0);
  const isPoor = attempts >= MIN_ATTEMPTS_TO_JUDGE && successes * 100 < attempts * MIN_SUCCESS_PERCENT;
  if (!isPoor) return record;
  return { ...record, denylistedUntil: Math.max(record.denylistedUntil ?? 0, now + DENYLIST_MS) };
}
